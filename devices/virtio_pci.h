/*
 * A virtio device behind PCI (virtio 1.2, 4.1): a function with one BAR that
 * holds the structures below, told of by capabilities, and MSI-X. A driver
 * without MSI-X gets the slot's interrupt pin.
 *
 *   0x0000  common configuration       (4.1.4.3)
 *   0x1000  ISR status                 (4.1.4.5)
 *   0x2000  the device's configuration (4.1.4.6)
 *   0x3000  notifications, one address for all queues (4.1.4.4)
 *   0x4000  MSI-X table, 0x5000 its pending bits (PCI 3.0, 6.8.2)
 *
 * virtio_pci.c is the function and its configuration space, virtio_pci_bar.c
 * what the BAR reaches. Locks: the root's, then the device's.
 */
#ifndef FOAL_DEVICES_VIRTIO_PCI_H
#define FOAL_DEVICES_VIRTIO_PCI_H

#include "devices/msix.h"
#include "devices/pci.h"
#include "devices/virtio.h"

#define VIRTIO_BAR_COMMON     0x0000
#define VIRTIO_BAR_ISR	      0x1000
#define VIRTIO_BAR_CONFIG     0x2000
#define VIRTIO_BAR_NOTIFY     0x3000
#define VIRTIO_BAR_MSIX_TABLE 0x4000
#define VIRTIO_BAR_MSIX_PBA   0x5000
#define VIRTIO_BAR_SIZE	      0x8000

struct virtio_pci {
	struct pci_function function;
	struct virtio_device *vdev;
	unsigned msix_cap, access_cap; /* offsets in the configuration space */
	/* Under the device's lock. */
	uint32_t device_features_sel, driver_features_sel;
	uint16_t queue_sel;
	uint16_t config_vector, queue_vector[VIRTIO_QUEUES_MAX];
	uint8_t isr;
	bool line; /* of the interrupt pin */
	struct msix msix;
	bool intx_off;
	uint64_t notify;   /* where the BAR has the notifications now; 0: nowhere */
	uint64_t doorbell; /* the host has that one; 0: none */
};

static inline struct virtio_pci *virtio_pci_of(struct pci_function *f)
{
	return device_of(f, struct virtio_pci, function);
}

extern const struct virtio_transport virtio_pci_transport;

/* Of struct pci_function_ops. */
uint64_t virtio_bar_read(struct pci_function *f, uint32_t offset, unsigned len);
void virtio_bar_write(struct pci_function *f, uint32_t offset, unsigned len, uint64_t value);

/*
 * The BAR is decoded at @bar now, or nowhere (0). Where a running driver notifies is
 * the host's doorbell, as long as that is in the window of the BARs. Lock held.
 */
void virtio_pci_decoded(struct virtio_pci *p, uint32_t bar);

/* MSI-X or the pin was turned on or off: @msix_control_word, @intx_off as the guest wrote them. */
void virtio_pci_interrupts(struct virtio_pci *p, uint16_t msix_control_word, bool intx_off);

#endif
