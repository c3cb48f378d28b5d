/*
 * PCI functions as the root knows them: a configuration space that is bytes
 * with a mask of what a guest may write, and one memory BAR. Private to
 * devices/; devices.h has what the monitor uses.
 *
 * Source: PCI Local Bus 3.0, chapter 6; section numbers below are of it.
 */
#ifndef FOAL_DEVICES_PCI_H
#define FOAL_DEVICES_PCI_H

#include "devices/device.h"

#define PCI_CONFIG_SIZE	  256
#define PCI_CAP_LINK_SIZE 2 /* what begins every capability: id, next */

struct pci_function;
struct state;

/* Accesses are 1, 2, 4 or 8 bytes long, aligned to that, and inside of what they reach. */
struct pci_function_ops {
	/* The BAR's memory. No lock is held. */
	uint64_t (*read)(struct pci_function *f, uint32_t offset, unsigned len);
	void (*write)(struct pci_function *f, uint32_t offset, unsigned len, uint64_t value);
	/*
	 * Optional, for a configuration space that is more than bytes: called before
	 * [@offset, @offset + @len) of it is read, after it was written. The root's
	 * lock is held.
	 */
	void (*config_reading)(struct pci_function *f, unsigned offset, unsigned len);
	void (*config_written)(struct pci_function *f, unsigned offset, unsigned len);
	/* Of the device behind it. */
	int (*start)(struct pci_function *f);
	struct device *(*hold)(struct pci_function *f, uint64_t deadline);
	void (*release)(struct pci_function *f);
	void (*forked)(struct pci_function *f);
	void (*stop)(struct pci_function *f);
	void (*destroy)(struct pci_function *f);
	/*
	 * Optional: save or load (devices/state.h) the device behind it, in the record of its
	 * slot; the configuration space is there already. The root's lock is held.
	 */
	void (*state)(struct pci_function *f, struct state *s);
};

struct pci_function {
	const struct pci_function_ops *ops;
	unsigned slot;	   /* on bus 0 */
	uint32_t bar_size; /* bytes, a power of two; 0: no BAR */
	unsigned last_cap; /* offset of the last capability; 0: none yet */
	unsigned cap_end;  /* where the next one goes */
	/* Under the root's lock, once the VM runs. */
	uint8_t config[PCI_CONFIG_SIZE];
	uint8_t writable[PCI_CONFIG_SIZE]; /* a bit set: the guest may change it */
};

/* Fields of the configuration space, little-endian. */
uint32_t pci_get(const struct pci_function *f, unsigned offset, unsigned len);
void pci_set(struct pci_function *f, unsigned offset, unsigned len, uint32_t value);

/*
 * Fill in the header (6.1): identity and @class (24 bits, 6.2.1). BAR 0 is
 * memory of @bar_size bytes, placed when the function is added.
 */
void pci_function_init(struct pci_function *f, const struct pci_function_ops *ops, uint16_t vendor,
		       uint16_t device, uint32_t class, uint32_t bar_size);

/*
 * Append a capability of @len bytes (6.7), @body behind the two bytes that link
 * it. Returns its offset. Room for all is the caller's to know: 64..255.
 */
unsigned pci_add_capability(struct pci_function *f, uint8_t id, const void *body, unsigned len);

/*
 * Put @f into the next free slot; the root owns it from then on, also on
 * failure. -ENOSPC: all are taken.
 */
int pci_add(struct pci *pci, struct pci_function *f);

#endif
