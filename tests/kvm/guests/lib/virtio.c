/*
 * Just enough of drivers (virtio 1.2, 4.1, 4.2) to send flushes to a virtio-pmem (5.19), and to
 * read and write a virtio-blk (5.2): one request at a time, on one queue.
 */
#include "tests/kvm/guests/lib/guest.h"
#include "tests/kvm/guests/lib/virtio_regs.h"
#include "tests/kvm/guests/lib/virtqueue.h"

/* Of the device's configuration. */
enum { CONFIG_START = REG_CONFIG, CONFIG_SIZE = REG_CONFIG + 8 };
enum { DEVICE_BLK = 2, DEVICE_PMEM = 27 };

static struct virtqueue queue;

uint64_t virtio_device(uint32_t kind, unsigned index)
{
	for (unsigned i = 0; i < FOAL_VIRTIO_MMIO_DEVICES; i++) {
		uint64_t base = FOAL_VIRTIO_MMIO_BASE + i * FOAL_VIRTIO_MMIO_STRIDE;
		if (peek32(base + REG_MAGIC) != 0x74726976)
			break;
		if (peek32(base + REG_DEVICE) == kind && index-- == 0)
			return base;
	}
	return 0;
}

static uint64_t find_pmem(unsigned index)
{
	uint64_t base = virtio_device(DEVICE_PMEM, index);

	expect(base != 0, GUEST_NO_PMEM);
	return base;
}

static uint64_t peek64(uint64_t at)
{
	return peek32(at) | (uint64_t)peek32(at + 4) << 32;
}

struct memmap_entry pmem_range(unsigned index)
{
	uint64_t base = find_pmem(index);

	return (struct memmap_entry){.gpa = peek64(base + CONFIG_START),
				     .size = peek64(base + CONFIG_SIZE)};
}

static void set_address(uint64_t reg, const volatile void *at)
{
	poke32(reg, (uint32_t)(uintptr_t)at);
	poke32(reg + 4, (uint32_t)((uintptr_t)at >> 32));
}

void virtio_set_up(uint64_t base, uint32_t features, unsigned index, struct virtqueue *q)
{
	uint32_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;

	poke32(base + REG_STATUS, 0);
	poke32(base + REG_STATUS, status);
	poke32(base + REG_DRIVER_FEATURES_SEL, 0);
	poke32(base + REG_DRIVER_FEATURES, features);
	poke32(base + REG_DRIVER_FEATURES_SEL, 1);
	poke32(base + REG_DRIVER_FEATURES, 1); /* VIRTIO_F_VERSION_1 */
	status |= STATUS_FEATURES_OK;
	poke32(base + REG_STATUS, status);
	expect(peek32(base + REG_STATUS) == status, GUEST_BAD_DEVICE);
	if (q) {
		poke32(base + REG_QUEUE_SEL, index);
		poke32(base + REG_QUEUE_NUM, QUEUE_SIZE);
		set_address(base + REG_QUEUE_DESC, q->desc);
		set_address(base + REG_QUEUE_DRIVER, &q->avail);
		set_address(base + REG_QUEUE_DEVICE, &q->used);
		poke32(base + REG_QUEUE_READY, 1);
	}
	poke32(base + REG_STATUS, status | STATUS_DRIVER_OK);
}

/* --- behind PCI: the first of two structures of the BAR is its common configuration ----- */

enum {
	PCI_COMMON = 0,
	PCI_NOTIFY = 0x3000,
	COMMON_FEATURES_SEL = 0x08,
	COMMON_FEATURES = 0x0c,
	COMMON_STATUS = 0x14,
	COMMON_QUEUE_SEL = 0x16,
	COMMON_QUEUE_SIZE = 0x18,
	COMMON_QUEUE_ENABLE = 0x1c,
	COMMON_QUEUE_DESC = 0x20,
	COMMON_QUEUE_DRIVER = 0x28,
	COMMON_QUEUE_DEVICE = 0x30,
};

static volatile uint16_t *word(uint64_t at)
{
	return (volatile uint16_t *)at;
}

static volatile uint8_t *byte(uint64_t at)
{
	return (volatile uint8_t *)at;
}

static uint64_t notify_at;

void pmem_set_up_pci(uint64_t bar)
{
	uint64_t common = bar + PCI_COMMON;
	uint8_t status = STATUS_ACKNOWLEDGE | STATUS_DRIVER;

	*byte(common + COMMON_STATUS) = 0;
	*byte(common + COMMON_STATUS) = status;
	poke32(common + COMMON_FEATURES_SEL, 1);
	poke32(common + COMMON_FEATURES, 1); /* VIRTIO_F_VERSION_1 */
	status |= STATUS_FEATURES_OK;
	*byte(common + COMMON_STATUS) = status;
	expect(*byte(common + COMMON_STATUS) == status, GUEST_BAD_DEVICE);
	*word(common + COMMON_QUEUE_SEL) = 0;
	*word(common + COMMON_QUEUE_SIZE) = QUEUE_SIZE;
	set_address(common + COMMON_QUEUE_DESC, queue.desc);
	set_address(common + COMMON_QUEUE_DRIVER, &queue.avail);
	set_address(common + COMMON_QUEUE_DEVICE, &queue.used);
	*word(common + COMMON_QUEUE_ENABLE) = 1;
	*byte(common + COMMON_STATUS) = status | STATUS_DRIVER_OK;
	pmem_moved_pci(bar);
}

void pmem_moved_pci(uint64_t bar)
{
	notify_at = bar + PCI_NOTIFY;
}

static void set_descriptor(uint16_t i, volatile void *at, uint32_t len, uint16_t flags)
{
	queue.desc[i].addr = (uintptr_t)at;
	queue.desc[i].len = len;
	queue.desc[i].flags = flags;
	queue.desc[i].next = (uint16_t)(i + 1);
}

/* The chain that begins at descriptor 0. */
static void give_and_wait(void)
{
	queue.avail.ring[queue.avail.index % QUEUE_SIZE] = 0;
	__asm__ volatile("" ::: "memory");
	queue.avail.index++;
	__asm__ volatile("mfence" ::: "memory");
	poke32(notify_at, 0);
	while (*(volatile uint16_t *)&queue.used.index != queue.avail.index)
		__asm__ volatile("pause");
}

uint32_t pmem_flush(void)
{
	static volatile uint32_t request, answer;

	if (!notify_at) {
		uint64_t base = find_pmem(0);

		virtio_set_up(base, 0, 0, &queue);
		notify_at = base + REG_QUEUE_NOTIFY;
	}
	request = 0; /* VIRTIO_PMEM_REQ_TYPE_FLUSH */
	answer = ~0u;
	set_descriptor(0, &request, sizeof(request), DESC_NEXT);
	set_descriptor(1, &answer, sizeof(answer), DESC_WRITE);
	give_and_wait();
	return answer;
}

/* --- disks ---------------------------------------------------------------------------------- */

bool disk_transfer(uint64_t sector, void *data, uint32_t len, bool write)
{
	static volatile struct {
		uint32_t type, reserved;
		uint64_t sector;
	} request;
	static volatile uint8_t status;

	if (!notify_at) {
		uint64_t base = virtio_device(DEVICE_BLK, 0);

		expect(base != 0, GUEST_BAD_DEVICE);
		virtio_set_up(base, 0, 0, &queue);
		notify_at = base + REG_QUEUE_NOTIFY;
	}
	request.type = write;
	request.sector = sector;
	status = 0xff;
	set_descriptor(0, &request, sizeof(request), DESC_NEXT);
	set_descriptor(1, data, len, DESC_NEXT | (write ? 0 : DESC_WRITE));
	set_descriptor(2, &status, sizeof(status), DESC_WRITE);
	give_and_wait();
	return status == 0;
}
