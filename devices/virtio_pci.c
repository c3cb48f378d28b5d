/* The PCI function of a virtio device: identity, capabilities, and what their fields do. */
#include <errno.h>
#include <linux/pci_regs.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_pci.h>
#include <stdlib.h>
#include <string.h>

#include "devices/state.h"
#include "devices/virtio_pci.h"
#include "guest/abi.h"

#define VENDOR	    0x1af4 /* 4.1.2 */
#define DEVICE_BASE 0x1040
#define NOTIFY_SIZE 4

/* --- the configuration space ---------------------------------------------------------- */

/*
 * Access to the BAR through the configuration space (4.1.4.9): what the
 * capability points at is read or written when its data are. False: nowhere.
 */
static bool access_target(struct virtio_pci *p, uint32_t *offset, unsigned *len)
{
	const struct pci_function *f = &p->function;
	uint32_t length = pci_get(f, p->access_cap + VIRTIO_PCI_CAP_LENGTH, 4);

	*offset = pci_get(f, p->access_cap + VIRTIO_PCI_CAP_OFFSET, 4);
	*len = length;
	return pci_get(f, p->access_cap + VIRTIO_PCI_CAP_BAR, 1) == 0 &&
	       (length == 1 || length == 2 || length == 4) && *offset % length == 0 &&
	       *offset < VIRTIO_BAR_SIZE;
}

static bool touches(unsigned offset, unsigned len, unsigned field, unsigned size)
{
	return offset < field + size && field < offset + len;
}

static void config_reading(struct pci_function *f, unsigned offset, unsigned len)
{
	struct virtio_pci *p = virtio_pci_of(f);
	unsigned data = p->access_cap + sizeof(struct virtio_pci_cap), width;
	uint32_t target;

	if (touches(offset, len, data, 4) && access_target(p, &target, &width))
		pci_set(f, data, 4, (uint32_t)virtio_bar_read(f, target, width));
}

static uint32_t decoded_at(const struct pci_function *f)
{
	return pci_get(f, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY ? pci_get(f, PCI_BASE_ADDRESS_0, 4)
							       : 0;
}

static void config_written(struct pci_function *f, unsigned offset, unsigned len)
{
	struct virtio_pci *p = virtio_pci_of(f);
	unsigned data = p->access_cap + sizeof(struct virtio_pci_cap), width;
	uint32_t target;

	if (touches(offset, len, data, 4) && access_target(p, &target, &width))
		virtio_bar_write(f, target, width, pci_get(f, data, 4));
	if (!touches(offset, len, p->msix_cap + PCI_MSIX_FLAGS, 2) &&
	    !touches(offset, len, PCI_COMMAND, 2) && !touches(offset, len, PCI_BASE_ADDRESS_0, 4))
		return;
	pthread_mutex_lock(&p->vdev->lock);
	virtio_pci_decoded(p, decoded_at(f));
	virtio_pci_interrupts(p, (uint16_t)pci_get(f, p->msix_cap + PCI_MSIX_FLAGS, 2),
			      pci_get(f, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE);
	pthread_mutex_unlock(&p->vdev->lock);
}

static void add_structure(struct virtio_pci *p, uint8_t type, uint32_t offset, uint32_t length)
{
	struct virtio_pci_notify_cap cap = {
	    .cap = {.cap_len = type == VIRTIO_PCI_CAP_NOTIFY_CFG ? sizeof(cap) : sizeof(cap.cap),
		    .cfg_type = type,
		    .offset = offset,
		    .length = length},
	    .notify_off_multiplier = 0};

	pci_add_capability(&p->function, PCI_CAP_ID_VNDR, (char *)&cap + PCI_CAP_LINK_SIZE,
			   cap.cap.cap_len);
}

static void add_access(struct virtio_pci *p)
{
	struct virtio_pci_cfg_cap cap = {
	    .cap = {.cap_len = sizeof(cap), .cfg_type = VIRTIO_PCI_CAP_PCI_CFG}};
	unsigned at = pci_add_capability(&p->function, PCI_CAP_ID_VNDR,
					 (char *)&cap + PCI_CAP_LINK_SIZE, sizeof(cap));

	p->access_cap = at;
	p->function.writable[at + VIRTIO_PCI_CAP_BAR] = UINT8_MAX;
	memset(p->function.writable + at + VIRTIO_PCI_CAP_OFFSET, UINT8_MAX, 12);
}

static void add_msix(struct virtio_pci *p)
{
	struct {
		uint16_t control;
		uint32_t table, pba; /* offsets, the BAR's number in the low bits */
	} __attribute__((packed)) body = {.control = (uint16_t)(p->msix.nr - 1),
					  .table = VIRTIO_BAR_MSIX_TABLE,
					  .pba = VIRTIO_BAR_MSIX_PBA};

	p->msix_cap = pci_add_capability(&p->function, PCI_CAP_ID_MSIX, &body,
					 PCI_CAP_LINK_SIZE + sizeof(body));
	p->function.writable[p->msix_cap + PCI_MSIX_FLAGS + 1] =
	    (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
}

/* PCI 3.0, appendix D: what a guest without a driver takes it for. */
static uint32_t class_of(uint32_t virtio_id)
{
	switch (virtio_id) {
	case VIRTIO_ID_BLOCK:
		return 0x010000; /* SCSI storage */
	case VIRTIO_ID_NET:
		return 0x020000; /* Ethernet */
	case VIRTIO_ID_CONSOLE:
		return 0x078000; /* communication, other */
	default:
		return 0xff0000; /* unassigned */
	}
}

/* --- the function --------------------------------------------------------------------------- */

static int function_start(struct pci_function *f)
{
	return virtio_start(virtio_pci_of(f)->vdev);
}

static struct device *function_hold(struct pci_function *f, uint64_t deadline)
{
	return virtio_hold(&virtio_pci_of(f)->vdev->dev, deadline);
}

static void function_release(struct pci_function *f)
{
	virtio_release(&virtio_pci_of(f)->vdev->dev);
}

static void function_forked(struct pci_function *f)
{
	virtio_forked(&virtio_pci_of(f)->vdev->dev);
}

static void function_stop(struct pci_function *f)
{
	virtio_stop(&virtio_pci_of(f)->vdev->dev);
}

static void function_destroy(struct pci_function *f)
{
	struct device *dev = &virtio_pci_of(f)->vdev->dev;

	dev->ops->destroy(dev);
	free(virtio_pci_of(f));
}

/* What follows from the configuration space is not saved, but done again. */
static void decode_again(struct virtio_pci *p)
{
	const struct pci_function *f = &p->function;
	uint16_t control = (uint16_t)pci_get(f, p->msix_cap + PCI_MSIX_FLAGS, 2);

	pthread_mutex_lock(&p->vdev->lock);
	p->msix.enabled = control & PCI_MSIX_FLAGS_ENABLE;
	p->msix.masked = control & PCI_MSIX_FLAGS_MASKALL;
	p->intx_off = pci_get(f, PCI_COMMAND, 2) & PCI_COMMAND_INTX_DISABLE;
	virtio_pci_decoded(p, decoded_at(f));
	pthread_mutex_unlock(&p->vdev->lock);
}

static void function_state(struct pci_function *f, struct state *s)
{
	struct virtio_pci *p = virtio_pci_of(f);
	struct device *dev = &p->vdev->dev;

	if (!state_begin(s, dev->ops->kind, f->slot, VIRTIO_STATE_VERSION) ||
	    !virtio_state(dev, s) || !state_end(s))
		return;
	if (s->loading)
		decode_again(p);
}

static const struct pci_function_ops function_ops = {
    .read = virtio_bar_read,
    .write = virtio_bar_write,
    .config_reading = config_reading,
    .config_written = config_written,
    .start = function_start,
    .hold = function_hold,
    .release = function_release,
    .forked = function_forked,
    .stop = function_stop,
    .destroy = function_destroy,
    .state = function_state,
};

int pci_add_virtio(struct pci *pci, struct device *virtio)
{
	struct virtio_device *vdev = virtio_of(virtio);
	struct virtio_pci *p = calloc(1, sizeof(*p));
	uint32_t id = vdev->type->id;
	int rc;

	if (!p) {
		virtio->ops->destroy(virtio);
		return -ENOMEM;
	}
	p->vdev = vdev;
	msix_init(&p->msix, vdev->type->nr_queues + 1);
	pci_function_init(&p->function, &function_ops, VENDOR, (uint16_t)(DEVICE_BASE + id),
			  class_of(id), VIRTIO_BAR_SIZE);
	pci_set(&p->function, PCI_SUBSYSTEM_VENDOR_ID, 2, VENDOR);
	pci_set(&p->function, PCI_SUBSYSTEM_ID, 2, DEVICE_BASE + id);
	pci_set(&p->function, PCI_INTERRUPT_PIN, 1, 1); /* INTA */
	add_structure(p, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_BAR_COMMON, VIRTIO_PCI_COMMON_Q_NDATA);
	add_structure(p, VIRTIO_PCI_CAP_ISR_CFG, VIRTIO_BAR_ISR, 1);
	add_structure(p, VIRTIO_PCI_CAP_DEVICE_CFG, VIRTIO_BAR_CONFIG, VIRTIO_CONFIG_MAX);
	add_structure(p, VIRTIO_PCI_CAP_NOTIFY_CFG, VIRTIO_BAR_NOTIFY, NOTIFY_SIZE);
	add_access(p);
	add_msix(p);
	vdev->transport = &virtio_pci_transport;
	vdev->pci = p;
	vdev->transport->reset(vdev);
	rc = pci_add(pci, &p->function);
	if (rc == 0) {
		pci_set(&p->function, PCI_INTERRUPT_LINE, 1, FOAL_PCI_PIN + p->function.slot);
		virtio_pci_decoded(p, decoded_at(&p->function));
	}
	return rc;
}
