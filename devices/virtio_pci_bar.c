/* What the BAR of a virtio function reaches, and how its driver is told (virtio 1.2, 4.1). */
#include <linux/virtio_pci.h>

#include "devices/state.h"
#include "devices/virtio_pci.h"
#include "guest/abi.h"

#define NO_VECTOR  VIRTIO_MSI_NO_VECTOR
#define ISR_QUEUE  1 /* 4.1.4.5 */
#define ISR_CONFIG 2

/* --- interrupts --------------------------------------------------------------------- */

static void update_line(struct virtio_pci *p)
{
	const struct device_host *host = p->vdev->dev.host;
	bool level = p->isr && !p->msix.enabled && !p->intx_off;

	if (level == p->line)
		return;
	p->line = level;
	host->set_pin(host->ctx, FOAL_PCI_PIN + p->function.slot, level);
}

static void tell(struct virtio_pci *p, uint16_t vector, uint8_t isr)
{
	if (p->msix.enabled) {
		msix_raise(&p->msix, p->vdev->dev.host, vector);
		return;
	}
	p->isr |= isr;
	update_line(p);
}

static void pci_used(struct virtio_device *vdev, unsigned index)
{
	tell(vdev->pci, vdev->pci->queue_vector[index], ISR_QUEUE);
}

static void pci_config_changed(struct virtio_device *vdev)
{
	tell(vdev->pci, vdev->pci->config_vector, ISR_CONFIG);
}

void virtio_pci_interrupts(struct virtio_pci *p, uint16_t msix_control_word, bool intx_off)
{
	p->intx_off = intx_off;
	msix_control(&p->msix, p->vdev->dev.host, msix_control_word);
	update_line(p);
}

/* --- notifications ------------------------------------------------------------------ */

/*
 * Not before the driver runs: until then the guest looks for a place for the BAR.
 * A host that does not take it leaves notifications to virtio_bar_write().
 */
static void update_doorbell(struct virtio_pci *p)
{
	const struct device_host *host = p->vdev->dev.host;
	uint64_t want = p->vdev->status & VIRTIO_CONFIG_S_DRIVER_OK ? p->notify : 0;

	if (want == p->doorbell || !host->doorbell)
		return;
	if (p->doorbell)
		(void)host->doorbell(host->ctx, p->doorbell, p->vdev->kick, false);
	p->doorbell = want && host->doorbell(host->ctx, want, p->vdev->kick, true) == 0 ? want : 0;
}

void virtio_pci_decoded(struct virtio_pci *p, uint32_t bar)
{
	uint64_t notify = bar + (uint64_t)VIRTIO_BAR_NOTIFY;
	bool inside = bar && notify >= FOAL_PCI_WINDOW && notify <= FOAL_PCI_WINDOW_END;

	p->notify = inside ? notify : 0;
	update_doorbell(p);
}

static void pci_reset(struct virtio_device *vdev)
{
	struct virtio_pci *p = vdev->pci;

	p->device_features_sel = p->driver_features_sel = p->queue_sel = 0;
	p->config_vector = NO_VECTOR;
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		p->queue_vector[i] = NO_VECTOR;
	p->isr = 0;
	update_line(p);
	update_doorbell(p);
}

/* The vector of an interrupt, of those there are. */
static void vector_state(const struct virtio_pci *p, struct state *s, uint16_t *vector)
{
	state_u16(s, vector);
	state_check(s, *vector == NO_VECTOR || *vector < p->msix.nr,
		    "an interrupt vector that the table does not have");
}

/* Whether MSI-X and the pin are on is in the configuration space; see virtio_pci.c. */
static void pci_state(struct virtio_device *vdev, struct state *s)
{
	struct virtio_pci *p = vdev->pci;

	state_u32(s, &p->device_features_sel);
	state_u32(s, &p->driver_features_sel);
	state_u16(s, &p->queue_sel);
	vector_state(p, s, &p->config_vector);
	for (unsigned i = 0; i < vdev->type->nr_queues; i++)
		vector_state(p, s, &p->queue_vector[i]);
	state_u8(s, &p->isr);
	state_check(s, p->isr <= (ISR_QUEUE | ISR_CONFIG), "an ISR with bits that are not there");
	state_bool(s, &p->line);
	msix_state(&p->msix, s);
}

const struct virtio_transport virtio_pci_transport = {
    .used = pci_used,
    .config_changed = pci_config_changed,
    .reset = pci_reset,
    .state = pci_state,
};

/* --- common configuration ------------------------------------------------------------- */

/* The 32-bit halves of a queue's addresses, from Q_DESCLO on. */
static uint64_t *queue_address(struct virtqueue *vq, uint32_t offset)
{
	switch (offset & ~4u) {
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return &vq->desc;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return &vq->driver;
	default:
		return &vq->device;
	}
}

static uint64_t queue_read(struct virtio_pci *p, uint32_t offset)
{
	struct virtqueue *vq = virtio_queue(p->vdev, p->queue_sel);

	if (!vq)
		return 0;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return vq->size ? vq->size : VQ_SIZE_MAX;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return p->queue_vector[p->queue_sel];
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return vq->ready;
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return 0; /* the worker looks at all queues, whichever is meant */
	case VIRTIO_PCI_COMMON_Q_DESCLO ... VIRTIO_PCI_COMMON_Q_USEDHI:
		return (uint32_t)(*queue_address(vq, offset) >> (8 * (offset & 4)));
	}
	return 0;
}

static uint64_t common_read(struct virtio_pci *p, uint32_t offset)
{
	struct virtio_device *vdev = p->vdev;

	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return p->device_features_sel;
	case VIRTIO_PCI_COMMON_DF:
		return virtio_features_word(vdev, p->device_features_sel);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return p->driver_features_sel;
	case VIRTIO_PCI_COMMON_GF:
		return p->driver_features_sel <= 1
			   ? (uint32_t)(vdev->driver_features >> (32 * p->driver_features_sel))
			   : 0;
	case VIRTIO_PCI_COMMON_MSIX:
		return p->config_vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return vdev->type->nr_queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return vdev->status;
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return vdev->generation & UINT8_MAX;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return p->queue_sel;
	default:
		return queue_read(p, offset);
	}
}

/* A vector that the table does not have is refused by reading back as none (4.1.5.1.2). */
static uint16_t sound_vector(const struct virtio_pci *p, uint64_t vector)
{
	return vector < p->msix.nr ? (uint16_t)vector : NO_VECTOR;
}

static void queue_write(struct virtio_pci *p, uint32_t offset, uint32_t value)
{
	struct virtqueue *vq = virtio_queue(p->vdev, p->queue_sel);

	if (!vq)
		return;
	if (offset == VIRTIO_PCI_COMMON_Q_MSIX) {
		p->queue_vector[p->queue_sel] = sound_vector(p, value);
		return;
	}
	/* A ready queue is the worker's, and nothing but a reset takes it back (4.1.4.3.2). */
	if (vq->ready)
		return;
	switch (offset) {
	case VIRTIO_PCI_COMMON_Q_SIZE:
		vq->size = value & UINT16_MAX;
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		if (!vq->size)
			vq->size = VQ_SIZE_MAX;
		if (value == 1)
			virtio_queue_enable(p->vdev, vq);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO ... VIRTIO_PCI_COMMON_Q_USEDHI: {
		uint64_t *field = queue_address(vq, offset);
		unsigned shift = 8 * (offset & 4);

		*field = (*field & ~((uint64_t)UINT32_MAX << shift)) | (uint64_t)value << shift;
		break;
	}
	}
}

static void common_write(struct virtio_pci *p, uint32_t offset, uint32_t value)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		p->device_features_sel = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		p->driver_features_sel = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_take_features(p->vdev, p->driver_features_sel, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		p->config_vector = sound_vector(p, value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_set_status(p->vdev, value & UINT8_MAX);
		update_doorbell(p);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		p->queue_sel = value & UINT16_MAX;
		break;
	default:
		queue_write(p, offset, value);
	}
}

/* Each field in its own width (4.1.3.1); 0: there is none at @offset. */
static unsigned common_width(uint32_t offset)
{
	switch (offset) {
	case VIRTIO_PCI_COMMON_STATUS:
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return 1;
	case VIRTIO_PCI_COMMON_MSIX:
	case VIRTIO_PCI_COMMON_NUMQ:
	case VIRTIO_PCI_COMMON_Q_SELECT ... VIRTIO_PCI_COMMON_Q_NOFF:
		return 2;
	default:
		return offset < VIRTIO_PCI_COMMON_Q_NDATA ? 4 : 0;
	}
}

/* --- the BAR ------------------------------------------------------------------------------ */

static uint64_t isr_read(struct virtio_pci *p)
{
	uint8_t isr = p->isr;

	p->isr = 0; /* a read acknowledges */
	update_line(p);
	return isr;
}

uint64_t virtio_bar_read(struct pci_function *f, uint32_t offset, unsigned len)
{
	struct virtio_pci *p = virtio_pci_of(f);
	uint32_t at = offset & 0xfff;
	uint64_t value = 0;

	pthread_mutex_lock(&p->vdev->lock);
	switch (offset & ~0xfffu) {
	case VIRTIO_BAR_COMMON:
		if (len == common_width(at))
			value = common_read(p, at);
		break;
	case VIRTIO_BAR_ISR:
		if (at == 0 && len == 1)
			value = isr_read(p);
		break;
	case VIRTIO_BAR_CONFIG:
		value = virtio_config_read(p->vdev, at, len);
		break;
	case VIRTIO_BAR_MSIX_TABLE:
		value = msix_table_read(&p->msix, at, len);
		break;
	case VIRTIO_BAR_MSIX_PBA:
		value = msix_pending_read(&p->msix, at, len);
		break;
	}
	pthread_mutex_unlock(&p->vdev->lock);
	return value;
}

void virtio_bar_write(struct pci_function *f, uint32_t offset, unsigned len, uint64_t value)
{
	struct virtio_pci *p = virtio_pci_of(f);
	uint32_t at = offset & 0xfff;

	pthread_mutex_lock(&p->vdev->lock);
	/* While a reset waits for the worker, registers stand still. */
	switch (p->vdev->quiescing ? UINT32_MAX : offset & ~0xfffu) {
	case VIRTIO_BAR_COMMON:
		if (len == common_width(at))
			common_write(p, at, (uint32_t)value);
		break;
	case VIRTIO_BAR_CONFIG:
		virtio_config_write(p->vdev, at, len, value);
		break;
	case VIRTIO_BAR_NOTIFY:
		virtio_kick(p->vdev);
		break;
	case VIRTIO_BAR_MSIX_TABLE:
		msix_table_write(&p->msix, p->vdev->dev.host, at, len, value);
		break;
	}
	pthread_mutex_unlock(&p->vdev->lock);
}
