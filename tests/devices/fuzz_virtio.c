/*
 * A driver made of fuzz input, for libFuzzer: it writes registers and pokes ring
 * contents in any order, while the device's worker runs. Whatever it does, the
 * device must end cleanly; sanitizers and the time limit judge.
 *
 * The first byte picks the device and how much of a sound driver's work is done
 * before, so that the input gets past the state machine. Then come operations.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/devices.h"
#include "guest/abi.h"
#include "tests/devices/fake_ept.h"

#define MEMORY	   (1UL << 18)
#define DESC	   0x0000
#define AVAIL	   0x0800
#define USED	   0x0c00
#define DISK_BYTES (64 * 1024)
#define BASE	   FOAL_VIRTIO_MMIO_BASE

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	const uint8_t *data;
	size_t left;
};

static uint64_t take(struct input *in, size_t len)
{
	uint64_t value = 0;

	if (len > in->left)
		len = in->left;
	memcpy(&value, in->data, len);
	in->data += len;
	in->left -= len;
	return value;
}

static void set_pin(void *ctx, unsigned pin, bool level)
{
	(void)ctx, (void)pin, (void)level;
}

static void reg_write(struct bus *bus, uint64_t reg, uint32_t value)
{
	bus_write(bus, BASE + reg, &value, 4);
}

static uint32_t reg_read(struct bus *bus, uint64_t reg)
{
	uint32_t value = 0;

	bus_read(bus, BASE + reg, &value, 4);
	return value;
}

static void set_up_queue(struct bus *bus, uint8_t how)
{
	reg_write(bus, VIRTIO_MMIO_STATUS, 3);
	for (unsigned i = 0; i < 2; i++) {
		reg_write(bus, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		reg_write(bus, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		reg_write(bus, VIRTIO_MMIO_DRIVER_FEATURES,
			  reg_read(bus, VIRTIO_MMIO_DEVICE_FEATURES) &
			      ~(how & 0x20 ? 1U << 29 : 0));
	}
	reg_write(bus, VIRTIO_MMIO_STATUS, 11);
	reg_write(bus, VIRTIO_MMIO_QUEUE_NUM, how & 0x40 ? 16 : 64);
	reg_write(bus, VIRTIO_MMIO_QUEUE_DESC_LOW, DESC);
	reg_write(bus, VIRTIO_MMIO_QUEUE_AVAIL_LOW, AVAIL);
	reg_write(bus, VIRTIO_MMIO_QUEUE_USED_LOW, USED);
	reg_write(bus, VIRTIO_MMIO_QUEUE_READY, 1);
	reg_write(bus, VIRTIO_MMIO_STATUS, 15);
}

/* As the guest's own stores: the device may be reading there. */
static void poke(struct ept_space *memory, uint64_t at, struct input *in, size_t len)
{
	for (size_t i = 0; i < len && in->left > 0; i++)
		__atomic_store_n(&memory->bytes[(at + i) % MEMORY], (uint8_t)take(in, 1),
				 __ATOMIC_RELAXED);
}

/* One descriptor at @index, of values that are likely to mean something. */
static void describe(struct ept_space *memory, struct input *in)
{
	uint8_t index = (uint8_t)take(in, 1), flags = (uint8_t)take(in, 1);
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} desc = {
	    .addr = take(in, 2) * 4,
	    .len = (uint32_t)take(in, flags & 0x80 ? 4 : 1),
	    .flags = flags & 7,
	    .next = (uint16_t)take(in, 1),
	};

	memcpy(memory->bytes + DESC + index % 64 * sizeof(desc), &desc, sizeof(desc));
}

static void offer(struct ept_space *memory, struct input *in, bool small)
{
	uint16_t *ring = (uint16_t *)(void *)(memory->bytes + AVAIL);
	uint16_t idx = __atomic_load_n(&ring[1], __ATOMIC_RELAXED);

	ring[2 + idx % (small ? 16 : 64)] = (uint16_t)take(in, 1);
	__atomic_store_n(&ring[1], (uint16_t)(idx + 1), __ATOMIC_SEQ_CST);
}

/* A sound request of any type, for the input to build on. */
static void request(struct ept_space *memory, struct input *in, bool small)
{
	struct {
		uint32_t type, reserved;
		uint64_t sector;
	} header = {.type = (uint32_t)take(in, 1) % 16, .sector = take(in, 1)};
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t flags, next;
	} desc[3] = {
	    {0x2000, 16, 1, 1},
	    {0x3000, (uint32_t)take(in, 2), 1, 2},
	    {0x2100, 4, 2, 0},
	};
	struct input first = {(const uint8_t[]){0}, 1};

	if (header.type == 0 || header.type == 8)
		desc[1].flags |= 2;
	memcpy(memory->bytes + 0x2000, &header, sizeof(header));
	memcpy(memory->bytes + DESC, desc, sizeof(desc));
	offer(memory, &first, small);
}

static void wait_served(struct bus *bus, struct ept_space *memory)
{
	const uint16_t *avail = (uint16_t *)(void *)(memory->bytes + AVAIL);
	const uint16_t *used = (uint16_t *)(void *)(memory->bytes + USED);

	for (unsigned i = 0; i < 20; i++) {
		if (__atomic_load_n(&avail[1], __ATOMIC_SEQ_CST) ==
			__atomic_load_n(&used[1], __ATOMIC_SEQ_CST) ||
		    reg_read(bus, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return;
		usleep(20);
	}
}

static void operate(struct bus *bus, struct ept_space *memory, struct input *in, uint8_t how)
{
	static const unsigned widths[] = {1, 2, 4, 8};

	while (in->left > 0) {
		uint8_t op = (uint8_t)take(in, 1);
		uint64_t value, at;

		switch (op % 9) {
		case 0:
			reg_write(bus, take(in, 1) * 4, (uint32_t)take(in, 4));
			break;
		case 1:
			at = take(in, 2) % FOAL_VIRTIO_MMIO_SIZE;
			value = take(in, 8);
			bus_write(bus, BASE + at, &value, widths[op / 9 % 4]);
			break;
		case 2:
			at = take(in, 2) % FOAL_VIRTIO_MMIO_SIZE;
			bus_read(bus, BASE + at, &value, widths[op / 9 % 4]);
			break;
		case 3:
			at = take(in, 2) * 4;
			poke(memory, at, in, op / 9);
			break;
		case 4:
			describe(memory, in);
			break;
		case 5:
			offer(memory, in, how & 0x40);
			break;
		case 6:
			reg_write(bus, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
			break;
		case 7:
			reg_write(bus, VIRTIO_MMIO_QUEUE_NOTIFY, 0);
			wait_served(bus, memory);
			break;
		case 8:
			request(memory, in, how & 0x40);
			break;
		}
	}
}

static int disk_file(void)
{
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("disk", 0);
		if (ftruncate(fd, DISK_BYTES))
			abort();
	}
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct ept_space *memory = fake_space(MEMORY);
	struct ept_area area = {.info = {.gpa = GPA(1UL << 32), .size = 1 << 20}};
	struct device_host host = {.vm_name = "fuzz", .memory = memory, .set_pin = set_pin};
	struct bus *bus = bus_create();
	struct device *dev;
	uint8_t how = (uint8_t)take(&in, 1);
	int rc;

	memory->run = 0x1800;
	memory->hole = (struct fake_range){0x20000, 0x21000};
	memory->read_only = (struct fake_range){0x22000, 0x23000};
	if (how % 4 == 3)
		rc = virtio_pmem_create(&host, FOAL_VIRTIO_MMIO_PIN, &area, &dev);
	else
		rc = virtio_blk_create(&host, FOAL_VIRTIO_MMIO_PIN, disk_file(), "disk",
				       (enum disk_mode)(how % 4), &dev);
	if (rc || bus_attach(bus, dev, BASE, FOAL_VIRTIO_MMIO_SIZE))
		abort();
	if (how & 0x10)
		set_up_queue(bus, how);
	operate(bus, memory, &in, how);
	bus_destroy(bus);
	fake_space_free(memory);
	return 0;
}
