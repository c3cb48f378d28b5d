/* A persistent memory behind PCI, and its driver: function 0 of slot SLOT. */
#ifndef FOAL_TESTS_PCI_RIG_H
#define FOAL_TESTS_PCI_RIG_H

#include "tests/devices/rig.h"

#define SLOT	  1
#define CONFIG	  (FOAL_PCI_ECAM + (SLOT << 15))
#define BAR	  (FOAL_PCI_WINDOW + SLOT * FOAL_PCI_BAR_STRIDE)
#define FAR_BAR	  (FOAL_PCI_WINDOW + FOAL_PCI_WINDOW_SIZE - 0x8000)
#define MSI_ADDR  0xfee01000u
#define NO_VECTOR VIRTIO_MSI_NO_VECTOR

extern struct rig pci_rig;
extern struct bus *pci_ports;
extern struct ept_area pci_area;
extern uint64_t pci_bar; /* where the driver has put the BAR */

/* The host's. */
extern struct doorbell {
	uint64_t at; /* 0: none is there */
	int error;   /* what it answers to one more */
	unsigned calls;
} doorbell;

/* Fixtures: the function, no driver yet. */
void pci_set_up(void);
void pci_tear_down(void);

/* A register of @len bytes: of the configuration space, of the BAR. */
uint64_t fn_get(uint64_t addr, unsigned len);
void fn_set(uint64_t addr, unsigned len, uint64_t value);

/* The offset of the capability of @id, and for a vendor's of @type; 0: none. */
unsigned fn_capability(uint8_t id, uint8_t type);
/* Where the structure of @type lies in the BAR; where a field of the common one does. */
uint64_t fn_structure(uint8_t type);
uint64_t fn_common(unsigned field);

void fn_set_vector(unsigned vector, uint32_t data, bool masked);
void fn_set_msix(bool on);

/* As a driver does; queue 0 interrupts by @vector. */
void fn_start(uint16_t vector);
/* One flush request, told by the queue's notification; whether it was answered. */
bool fn_flush(void);
/* Messages sent, waiting for the one that follows the used ring's last change. */
unsigned fn_messages(unsigned expected);

#endif
