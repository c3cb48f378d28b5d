/*
 * A driver made of fuzz input, for libFuzzer: it writes registers and pokes ring
 * contents in any order, while the device's worker runs. Whatever it does, the
 * device must end cleanly; sanitizers and the time limit judge.
 *
 * The first byte picks the device, the second how much of a sound driver's work
 * is done before, so that the input gets past the state machine. Then come
 * operations, of the driver on one queue at a time, and of the host's side.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_vsock.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/device.h"
#include "guest/abi.h"
#include "tests/devices/fake_ept.h"
#include "tests/devices/fuzz_host.h"

#define MEMORY (1UL << 18)
/* Not where request() puts things. */
#define DESC   ((queue < 2 ? queue : queue + 6) * 0x1000UL)
#define AVAIL  (DESC + 0x0800)
#define USED   (DESC + 0x0c00)
#define QUEUES 5 /* no device here has more */
#define BASE   FOAL_VIRTIO_MMIO_BASE
/* Of the second byte. */
#define PACKED 0x80

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The queue that operations are on. */
static unsigned queue;

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

static void set_up_queues(struct bus *bus, uint8_t how)
{
	reg_write(bus, VIRTIO_MMIO_STATUS, 3);
	for (unsigned i = 0; i < 2; i++) {
		reg_write(bus, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		reg_write(bus, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		reg_write(bus, VIRTIO_MMIO_DRIVER_FEATURES,
			  reg_read(bus, VIRTIO_MMIO_DEVICE_FEATURES) &
			      ~(i	     ? how & PACKED ? 0 : 1U << 2
				: how & 0x20 ? 1U << 29
					     : 0));
	}
	reg_write(bus, VIRTIO_MMIO_STATUS, 11);
	for (queue = QUEUES; queue-- > 0;) {
		reg_write(bus, VIRTIO_MMIO_QUEUE_SEL, queue);
		reg_write(bus, VIRTIO_MMIO_QUEUE_NUM, how & 0x40 ? 16 : 64);
		reg_write(bus, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)DESC);
		reg_write(bus, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)AVAIL);
		reg_write(bus, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)USED);
		reg_write(bus, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	queue = 0;
	reg_write(bus, VIRTIO_MMIO_STATUS, 15);
}

/* As the guest's own stores: the device may be reading there. */
static void poke(struct ept_space *memory, uint64_t at, struct input *in, size_t len)
{
	for (size_t i = 0; i < len && in->left > 0; i++)
		__atomic_store_n(&memory->bytes[(at + i) % MEMORY], (uint8_t)take(in, 1),
				 __ATOMIC_RELAXED);
}

/* One descriptor of values that are likely to mean something; packed rings end it with id, flags.
 */
static void describe(struct ept_space *memory, struct input *in, bool packed)
{
	uint8_t index = (uint8_t)take(in, 1), flags = (uint8_t)take(in, 1);
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t last[2];
	} desc = {
	    .addr = take(in, 2) * 4,
	    .len = (uint32_t)take(in, flags & (packed ? 0x40 : 0x80) ? 4 : 1),
	};
	uint16_t link = (uint16_t)take(in, 1);

	desc.last[0] = packed ? link : flags & 7;
	desc.last[1] =
	    packed ? (uint16_t)((flags & 7) | (flags & 8) << 4 | (flags & 16) << 11) : link;
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
static void request(struct ept_space *memory, struct input *in, uint8_t how)
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
	/* Of a packed ring: available in its first round. */
	for (unsigned i = 0; i < 3 && (how & PACKED); i++)
		desc[i].next = (uint16_t)(desc[i].flags | 1U << 7), desc[i].flags = 0;
	memcpy(memory->bytes + DESC, desc, sizeof(desc));
	offer(memory, &first, how & 0x40);
}

/* A sound packet of vsock: few ports, so that one meets the connection of another. */
static void packet(struct ept_space *memory, struct input *in, uint8_t how)
{
	struct virtio_vsock_hdr header = {.src_cid = 3,
					  .dst_cid = 2,
					  .src_port = (uint32_t)take(in, 1) % 4,
					  .dst_port = 1,
					  .type = VIRTIO_VSOCK_TYPE_STREAM,
					  .op = (uint16_t)take(in, 1) % 9,
					  .flags = (uint32_t)take(in, 1),
					  .len = (uint32_t)take(in, 2),
					  .buf_alloc = (uint32_t)take(in, 2),
					  .fwd_cnt = (uint32_t)take(in, 1)};
	struct {
		uint64_t addr;
		uint32_t len;
		uint16_t last[2];
	} desc = {0x2000, (uint32_t)(sizeof(header) + header.len), {0}};
	struct input first = {(const uint8_t[]){0}, 1};

	/* Of a packed ring: available in its first round. */
	desc.last[1] = how & PACKED ? 1U << 7 : 0;
	memcpy(memory->bytes + 0x2000, &header, sizeof(header));
	queue = 1;
	memcpy(memory->bytes + DESC, &desc, sizeof(desc));
	offer(memory, &first, how & 0x40);
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

static void operate(struct device *dev, struct bus *bus, struct ept_space *memory, struct input *in,
		    uint8_t how)
{
	static const unsigned widths[] = {1, 2, 4, 8};

	while (in->left > 0) {
		uint8_t op = (uint8_t)take(in, 1);
		uint64_t value, at;

		switch (op % 11) {
		case 0:
			reg_write(bus, take(in, 1) * 4, (uint32_t)take(in, 4));
			break;
		case 1:
			at = take(in, 2) % FOAL_VIRTIO_MMIO_SIZE;
			value = take(in, 8);
			bus_write(bus, BASE + at, &value, widths[op / 11 % 4]);
			break;
		case 2:
			at = take(in, 2) % FOAL_VIRTIO_MMIO_SIZE;
			bus_read(bus, BASE + at, &value, widths[op / 11 % 4]);
			break;
		case 3:
			at = take(in, 2) * 4;
			poke(memory, at, in, op / 11);
			break;
		case 4:
			describe(memory, in, how & PACKED);
			break;
		case 5:
			offer(memory, in, how & 0x40);
			break;
		case 6:
			reg_write(bus, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
			break;
		case 7:
			reg_write(bus, VIRTIO_MMIO_QUEUE_NOTIFY, queue);
			wait_served(bus, memory);
			break;
		case 8:
			if (dev->ops == &virtio_vsock_device)
				packet(memory, in, how);
			else
				request(memory, in, how);
			break;
		case 9:
			queue = (queue + 1) % QUEUES;
			break;
		case 10:
			fuzz_host_sends(dev, in, op / 11);
			break;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	struct ept_space *memory = fake_space(MEMORY);
	struct ept_area area = {.info = {.gpa = GPA(1UL << 32), .size = 1 << 20}};
	struct device_host host = {.vm_name = "fuzz", .memory = memory, .set_pin = set_pin};
	struct bus *bus = bus_create();
	struct device *dev;
	uint8_t kind = (uint8_t)take(&in, 1), how = (uint8_t)take(&in, 1);

	queue = 0;
	memory->run = 0x1800;
	memory->hole = (struct fake_range){0x20000, 0x21000};
	memory->read_only = (struct fake_range){0x22000, 0x23000};
	if (fuzz_host_device(&host, kind, &area, &dev) ||
	    bus_attach(bus, dev, BASE, FOAL_VIRTIO_MMIO_SIZE) || bus_start(bus))
		abort();
	if (how & 0x10)
		set_up_queues(bus, how);
	operate(dev, bus, memory, &in, how);
	bus_destroy(bus);
	fuzz_host_end();
	fake_space_free(memory);
	return 0;
}
