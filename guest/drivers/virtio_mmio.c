/*
 * The MMIO transport, version 2 (virtio 1.2, section 4.2). Devices are where foal puts them
 * (guest/abi.h), or where the command line of another monitor says,
 * virtio_mmio.device=SIZE@ADDRESS:PIN, in Linux's syntax.
 */
#include "guest/drivers/virtio_mmio.h"
#include "guest/abi.h"
#include "guest/include/boot.h"
#include "guest/include/errno.h"
#include "guest/include/io.h"
#include "guest/include/irq.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"

/* Registers (section 4.2.2). */
enum {
	REG_MAGIC = 0x000,
	REG_VERSION = 0x004,
	REG_DEVICE_ID = 0x008,
	REG_DEVICE_FEATURES = 0x010,
	REG_DEVICE_FEATURES_SEL = 0x014,
	REG_DRIVER_FEATURES = 0x020,
	REG_DRIVER_FEATURES_SEL = 0x024,
	REG_QUEUE_SEL = 0x030,
	REG_QUEUE_NUM_MAX = 0x034,
	REG_QUEUE_NUM = 0x038,
	REG_QUEUE_READY = 0x044,
	REG_QUEUE_NOTIFY = 0x050,
	REG_INTERRUPT_STATUS = 0x060,
	REG_INTERRUPT_ACK = 0x064,
	REG_STATUS = 0x070,
	REG_QUEUE_DESC = 0x080, /* low half; high half 4 above, so for the next two */
	REG_QUEUE_DRIVER = 0x090,
	REG_QUEUE_DEVICE = 0x0a0,
	REG_CONFIG_GENERATION = 0x0fc,
	REG_CONFIG = 0x100,
};

enum {
	STATUS_ACKNOWLEDGE = 1,
	STATUS_DRIVER = 2,
	STATUS_DRIVER_OK = 4,
	STATUS_FEATURES_OK = 8,
	STATUS_FAILED = 128,
};

enum { INTERRUPT_QUEUE = 1, INTERRUPT_CONFIG = 2 };

#define MMIO_MAGIC    0x74726976U /* "virt" */
#define MMIO_VERSION  2
#define MMIO_MIN_SIZE 0x100
#define MMIO_MAX_SIZE 0x10000
#define RESET_TRIES   1000
#define CONFIG_TRIES  100

#define RING_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_INDIRECT_DESC | 1ULL << VIRTIO_F_EVENT_IDX)

static const struct virtio_driver *const drivers[] = {
    &virtio_blk_driver,
    &virtio_pmem_driver,
};

static struct virtio_device *devices;

static u32 reg_read(struct virtio_device *dev, unsigned reg)
{
	return readl((char *)dev->regs + reg);
}

static void reg_write(struct virtio_device *dev, unsigned reg, u32 value)
{
	writel(value, (char *)dev->regs + reg);
}

static void reg_write64(struct virtio_device *dev, unsigned reg, u64 value)
{
	reg_write(dev, reg, (u32)value);
	reg_write(dev, reg + 4, (u32)(value >> 32));
}

u32 virtio_config32(struct virtio_device *dev, unsigned offset)
{
	return reg_read(dev, REG_CONFIG + offset);
}

u64 virtio_config64(struct virtio_device *dev, unsigned offset)
{
	u64 value = 0;

	for (unsigned tries = 0; tries < CONFIG_TRIES; tries++) {
		u32 generation = reg_read(dev, REG_CONFIG_GENERATION);

		value = virtio_config32(dev, offset);
		value |= (u64)virtio_config32(dev, offset + 4) << 32;
		if (reg_read(dev, REG_CONFIG_GENERATION) == generation)
			break;
	}
	return value;
}

int virtio_mmio_queue_size(struct virtio_device *dev, u16 index, u16 *size)
{
	reg_write(dev, REG_QUEUE_SEL, index);
	if (reg_read(dev, REG_QUEUE_READY))
		return -EBUSY;
	u32 max = MIN(reg_read(dev, REG_QUEUE_NUM_MAX), VIRTQUEUE_MAX);
	if (!max)
		return -ENODEV;
	*size = (u16)(1U << (31 - __builtin_clz(max)));
	return 0;
}

int virtio_mmio_queue_start(struct virtqueue *vq)
{
	struct virtio_device *dev = vq->dev;

	reg_write(dev, REG_QUEUE_SEL, vq->index);
	reg_write(dev, REG_QUEUE_NUM, vq->size);
	reg_write64(dev, REG_QUEUE_DESC, virt_to_phys(vq->desc));
	reg_write64(dev, REG_QUEUE_DRIVER, virt_to_phys(vq->avail));
	reg_write64(dev, REG_QUEUE_DEVICE, virt_to_phys(vq->used));
	reg_write(dev, REG_QUEUE_READY, 1);
	return reg_read(dev, REG_QUEUE_READY) == 1 ? 0 : -EIO;
}

void virtio_mmio_notify(struct virtqueue *vq)
{
	reg_write(vq->dev, REG_QUEUE_NOTIFY, vq->index);
}

static void add_status(struct virtio_device *dev, u32 bit)
{
	reg_write(dev, REG_STATUS, reg_read(dev, REG_STATUS) | bit);
}

void virtio_ready(struct virtio_device *dev)
{
	add_status(dev, STATUS_DRIVER_OK);
}

static int reset(struct virtio_device *dev)
{
	reg_write(dev, REG_STATUS, 0);
	for (unsigned tries = 0; tries < RESET_TRIES; tries++) {
		if (!reg_read(dev, REG_STATUS))
			return 0;
	}
	return -EIO;
}

void virtio_broken(struct virtio_device *dev, const char *why, u64 detail)
{
	if (dev->broken)
		return;
	dev->broken = true;
	printk("virtio: device at 0x%lx: %s (%lu): not used any more\n", dev->phys, why, detail);
	reset(dev); /* or it goes on with its DMA */
}

/* The acknowledge comes first: what the device adds later interrupts again. */
static void handle_interrupt(void *arg)
{
	struct virtio_device *dev = arg;
	u32 status = reg_read(dev, REG_INTERRUPT_STATUS);

	if (dev->broken)
		return;
	reg_write(dev, REG_INTERRUPT_ACK, status & (INTERRUPT_QUEUE | INTERRUPT_CONFIG));
	if (dev->interrupt)
		dev->interrupt(dev);
}

static int negotiate(struct virtio_device *dev)
{
	u64 offered;

	reg_write(dev, REG_DEVICE_FEATURES_SEL, 0);
	offered = reg_read(dev, REG_DEVICE_FEATURES);
	reg_write(dev, REG_DEVICE_FEATURES_SEL, 1);
	offered |= (u64)reg_read(dev, REG_DEVICE_FEATURES) << 32;

	dev->features = offered & (dev->driver->features | RING_FEATURES);
	if (!virtio_has(dev, VIRTIO_F_VERSION_1))
		return -EOPNOTSUPP;
	for (u32 half = 0; half < 2; half++) {
		reg_write(dev, REG_DRIVER_FEATURES_SEL, half);
		reg_write(dev, REG_DRIVER_FEATURES, (u32)(dev->features >> (32 * half)));
	}
	add_status(dev, STATUS_FEATURES_OK);
	return reg_read(dev, REG_STATUS) & STATUS_FEATURES_OK ? 0 : -EOPNOTSUPP;
}

/* The steps and their order are section 3.1.1's. */
static int start_device(struct virtio_device *dev)
{
	int err = reset(dev);

	if (err)
		return err;
	add_status(dev, STATUS_ACKNOWLEDGE);
	add_status(dev, STATUS_DRIVER);
	err = negotiate(dev);
	if (!err)
		err = irq_request(dev->pin, handle_interrupt, dev);
	if (!err)
		err = dev->driver->probe(dev);
	if (err) {
		dev->broken = true;
		add_status(dev, STATUS_FAILED);
		reset(dev);
	}
	return err;
}

static const struct virtio_driver *find_driver(u32 id)
{
	for (unsigned i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (drivers[i]->id == id)
			return drivers[i];
	}
	return NULL;
}

static int probe_at(u64 phys, u64 size, u32 pin)
{
	struct virtio_device *dev = kzalloc(sizeof(*dev));
	int err = -ENOMEM;

	if (!dev)
		goto fail;
	dev->phys = phys;
	dev->pin = pin;
	dev->regs = ioremap(phys, size);
	if (!dev->regs)
		goto fail;
	err = -ENODEV;
	if (reg_read(dev, REG_MAGIC) != MMIO_MAGIC || reg_read(dev, REG_VERSION) != MMIO_VERSION)
		goto fail;
	u32 id = reg_read(dev, REG_DEVICE_ID);
	dev->driver = find_driver(id);
	if (!dev->driver) {
		if (id) /* 0: a slot without a device, nothing to tell */
			pr_info("virtio: no driver for device %u at 0x%lx\n", id, phys);
		kfree(dev);
		return 0;
	}
	dev->next = devices; /* from here it stays: its interrupt may be routed to it */
	devices = dev;
	return start_device(dev);
fail:
	kfree(dev);
	return err;
}

/* Decimal or 0x..., as far as it goes; *end is what follows. False if there is no digit. */
static bool parse_u64(const char *s, const char **end, u64 *value)
{
	unsigned base = s[0] == '0' && (s[1] == 'x' || s[1] == 'X') ? 16 : 10;
	const char *digits = base == 16 ? s + 2 : s;
	u64 n = 0;

	for (s = digits;; s++) {
		unsigned lower = (unsigned char)*s | 0x20;
		unsigned digit = lower >= 'a' && lower <= 'f' ? lower - 'a' + 10
				 : *s >= '0' && *s <= '9'     ? (unsigned)(*s - '0')
							      : 16;

		if (digit >= base)
			break;
		if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n))
			return false;
	}
	*end = s;
	*value = n;
	return s != digits;
}

/* SIZE may end in K; the kernel's own numbers never do more. */
static bool parse_device(const char *s, u64 *size, u64 *phys, u64 *pin)
{
	if (!parse_u64(s, &s, size))
		return false;
	if (*s == 'K' || *s == 'k') {
		*size <<= 10;
		s++;
	}
	if (*s++ != '@' || !parse_u64(s, &s, phys))
		return false;
	if (*s++ != ':' || !parse_u64(s, &s, pin))
		return false;
	return *s == 0 || *s == ':';
}

static void tell_failure(u64 phys, u64 pin, int err)
{
	printk("virtio: device at 0x%lx, pin %lu: not started (error %d)\n", phys, pin, -err);
}

static int probe_word(const char *word, void *arg)
{
	u64 size, phys, pin;

	*(bool *)arg = true;
	if (!parse_device(word, &size, &phys, &pin) || size < MMIO_MIN_SIZE ||
	    size > MMIO_MAX_SIZE || !IS_ALIGNED(phys, 4) || pin > 0xffff) {
		printk("virtio: virtio_mmio.device=%s: want SIZE@ADDRESS:PIN\n", word);
		return 0;
	}
	int err = probe_at(phys, size, (u32)pin);
	if (err)
		tell_failure(phys, pin, err);
	return 0;
}

/* foal fills its slots from the first on: where none answers there are no more. */
static void probe_slots(void)
{
	int err = 0;

	for (u32 i = 0; i < FOAL_VIRTIO_MMIO_DEVICES && err != -ENODEV; i++) {
		u64 phys = FOAL_VIRTIO_MMIO_BASE + i * FOAL_VIRTIO_MMIO_STRIDE;

		err = probe_at(phys, FOAL_VIRTIO_MMIO_SIZE, FOAL_VIRTIO_MMIO_PIN + i);
		if (err && err != -ENODEV)
			tell_failure(phys, FOAL_VIRTIO_MMIO_PIN + i, err);
	}
}

void virtio_mmio_init(void)
{
	bool named = false;

	cmdline_each("virtio_mmio.device", probe_word, &named);
	if (!named)
		probe_slots();
}

void virtio_mmio_shutdown(void)
{
	for (struct virtio_device *dev = devices; dev; dev = dev->next) {
		reset(dev);
		if (dev->driver->shutdown && dev->private) /* else it never started */
			dev->driver->shutdown(dev);
	}
}
