#include "tests/guest/fake_virtio.h"
#include "guest/include/boot.h"
#include "guest/include/irq.h"
#include "guest/include/sched.h"
#include <stdio.h>
#include <string.h>

/* Registers' offsets, from the specification and not from the driver (4.2.2). */
enum {
	MAGIC = 0x0,
	VERSION = 0x4,
	DEVICE_ID = 0x8,
	DEVICE_FEATURES = 0x10,
	DEVICE_FEATURES_SEL = 0x14,
	DRIVER_FEATURES = 0x20,
	DRIVER_FEATURES_SEL = 0x24,
	QUEUE_NUM_MAX = 0x34,
	QUEUE_NUM = 0x38,
	QUEUE_READY = 0x44,
	QUEUE_NOTIFY = 0x50,
	INTERRUPT_STATUS = 0x60,
	INTERRUPT_ACK = 0x64,
	STATUS = 0x70,
	QUEUE_DESC = 0x80,
	QUEUE_AVAIL = 0x90,
	QUEUE_USED = 0xa0,
	CONFIG = 0x100,
};

enum { MAX_CHAIN = 300 };

struct fake_virtio fake_virtio;
struct boot_info boot_info;
bool host_irqs_off;

static char registers[0x200];
static void (*handler)(void *arg);
static void *handler_arg;

/* Declared as the drivers see them, in host_io.h. */
u32 readl(const volatile void *addr);
void writel(u32 v, volatile void *addr);
void *ioremap(u64 phys, u64 len);

void *ioremap(u64 phys, u64 len)
{
	(void)phys, (void)len;
	return registers;
}

bool direct_map_add(u64 phys, u64 len)
{
	(void)phys, (void)len;
	return true;
}

int irq_request(unsigned pin, void (*fn)(void *), void *arg)
{
	(void)pin;
	handler = fn;
	handler_arg = arg;
	return 0;
}

int cmdline_each(const char *key, int (*fn)(const char *value, void *arg), void *arg)
{
	(void)key;
	return fn("512@0xd0000000:16", arg);
}

void wait_queue_init(struct wait_queue *q)
{
	list_init(&q->waiters);
}

/* --- requests ------------------------------------------------------------------------------- */

struct chain {
	unsigned n, out; /* pieces; how many of them the device reads */
	struct vring_desc piece[MAX_CHAIN];
};

static u16 avail_at(unsigned i)
{
	return ((struct vring_avail *)phys_to_virt(fake_virtio.avail))->ring[i];
}

static void take_chain(const struct vring_desc *table, u32 at, u32 size, struct chain *c)
{
	for (;;) {
		const struct vring_desc *d = &table[at];

		if (d->flags & VRING_DESC_INDIRECT) {
			take_chain(phys_to_virt(d->addr), 0, d->len / sizeof(*d), c);
			return;
		}
		fake_virtio.bad_chains += c->n >= size || at >= size || !d->len;
		/* What the device reads comes before what it writes (2.7.4.2). */
		fake_virtio.bad_chains += !(d->flags & VRING_DESC_WRITE) && c->out < c->n;
		c->out += !(d->flags & VRING_DESC_WRITE);
		c->piece[c->n++] = *d;
		if (!(d->flags & VRING_DESC_NEXT))
			return;
		at = d->next;
	}
}

static u8 answer_disk(struct chain *c)
{
	const u32 *header = phys_to_virt(c->piece[0].addr);
	u64 at = *(const u64 *)(header + 2) * 512;

	if (header[0] == 4) { /* VIRTIO_BLK_T_FLUSH */
		fake_virtio.flushes++;
	} else if (header[0] == 11) { /* VIRTIO_BLK_T_DISCARD */
		fake_virtio.discards++;
	} else {
		for (unsigned i = 1; i + 1 < c->n; i++) {
			void *mem = phys_to_virt(c->piece[i].addr);
			u32 len = c->piece[i].len;

			if (at + len > sizeof(fake_virtio.disk))
				return 1;
			if (header[0] == 1)
				memcpy(fake_virtio.disk + at, mem, len);
			else
				memcpy(mem, fake_virtio.disk + at, len);
			at += len;
		}
	}
	switch (fake_virtio.fault) {
	case STATUS_ERROR:
		return 1;
	case STATUS_UNSUPPORTED:
		return 2;
	case STATUS_WILD:
		return 77;
	default:
		return 0;
	}
}

static void answer(u16 head)
{
	struct vring_desc *desc = phys_to_virt(fake_virtio.desc);
	struct chain c = {0};

	take_chain(desc, head, fake_virtio.queue_num, &c);
	fake_virtio.requests++;
	fake_virtio.longest_chain = MAX(fake_virtio.longest_chain, c.n);
	if (fake_virtio.id == VIRTIO_ID_PMEM) {
		fake_virtio.flushes++;
		*(u32 *)phys_to_virt(c.piece[1].addr) = fake_virtio.fault == STATUS_ERROR;
		return;
	}
	*(u8 *)phys_to_virt(c.piece[c.n - 1].addr) = answer_disk(&c);
	if (fake_virtio.fault == CHAIN_CHANGED) {
		desc[head].flags = VRING_DESC_NEXT;
		desc[head].next = head;
	}
}

static void put_used(u32 id)
{
	struct vring_used *used = phys_to_virt(fake_virtio.used);

	used->ring[used->idx & (fake_virtio.queue_num - 1)].id = id;
	used->idx++;
}

static void finish(u16 head)
{
	struct vring_used *used = phys_to_virt(fake_virtio.used);

	switch (fake_virtio.fault) {
	case USED_ID_WILD:
		put_used(0x10000);
		break;
	case USED_ID_UNUSED:
		put_used((head + 1U) & (fake_virtio.queue_num - 1));
		break;
	case USED_TWICE:
		put_used(head);
		put_used(head);
		break;
	case USED_INDEX_JUMPS:
		used->idx += 1000;
		break;
	default:
		put_used(head);
	}
}

void fake_virtio_run(void)
{
	struct vring_avail *avail = phys_to_virt(fake_virtio.avail);
	bool any = false;

	while (fake_virtio.queue_ready && fake_virtio.last_avail != avail->idx) {
		u16 head = avail_at(fake_virtio.last_avail++ & (fake_virtio.queue_num - 1));

		answer(head);
		finish(head);
		any = true;
	}
	if (fake_virtio.queue_ready && fake_virtio.driver_features >> VIRTIO_F_EVENT_IDX & 1) {
		struct vring_used *used = phys_to_virt(fake_virtio.used);

		*(u16 *)&used->ring[fake_virtio.queue_num] = fake_virtio.last_avail;
	}
	if (!any)
		return;
	fake_virtio.interrupts++;
	fake_virtio.interrupt_status |= 1;
	host_irqs_off = true;
	handler(handler_arg);
	host_irqs_off = false;
}

/* --- registers ------------------------------------------------------------------------------ */

u32 readl(const volatile void *addr)
{
	unsigned reg = (unsigned)((const volatile char *)addr - registers);

	switch (reg) {
	case MAGIC:
		return fake_virtio.fault == WRONG_MAGIC ? 0 : 0x74726976;
	case VERSION:
		return fake_virtio.fault == LEGACY_VERSION ? 1 : 2;
	case DEVICE_ID:
		return fake_virtio.id;
	case DEVICE_FEATURES:
		return (u32)(fake_virtio.features >> (32 * fake_virtio.sel[0]));
	case QUEUE_NUM_MAX:
		return fake_virtio.fault == NO_QUEUE ? 0 : fake_virtio.queue_max;
	case QUEUE_READY:
		return fake_virtio.fault == QUEUE_NOT_TAKEN ? 0 : fake_virtio.queue_ready;
	case INTERRUPT_STATUS:
		return fake_virtio.interrupt_status;
	case STATUS:
		if (fake_virtio.fault == RESET_STUCK)
			return 0x40;
		if (fake_virtio.fault == FEATURES_REFUSED)
			return fake_virtio.status & ~8U;
		return fake_virtio.status;
	default:
		return reg >= CONFIG ? fake_virtio.config[(reg - CONFIG) / 4] : 0;
	}
}

static void set_half(u64 *value, u32 v, bool high)
{
	*value = high ? (*value & 0xffffffff) | (u64)v << 32 : (*value & ~0xffffffffULL) | v;
}

void writel(u32 v, volatile void *addr)
{
	unsigned reg = (unsigned)((volatile char *)addr - registers);

	switch (reg) {
	case DEVICE_FEATURES_SEL:
		fake_virtio.sel[0] = v & 1;
		break;
	case DRIVER_FEATURES_SEL:
		fake_virtio.sel[1] = v & 1;
		break;
	case DRIVER_FEATURES:
		set_half(&fake_virtio.driver_features, v, fake_virtio.sel[1]);
		break;
	case QUEUE_NUM:
		fake_virtio.queue_num = v;
		break;
	case QUEUE_READY:
		fake_virtio.queue_ready = v;
		break;
	case QUEUE_NOTIFY:
		fake_virtio.notifies++;
		if (!fake_virtio.async && !host_irqs_off)
			fake_virtio_run();
		break;
	case INTERRUPT_ACK:
		fake_virtio.interrupt_status &= ~v;
		break;
	case STATUS:
		fake_virtio.status = v;
		if (!v) {
			fake_virtio.resets++;
			fake_virtio.queue_ready = 0;
		}
		break;
	case QUEUE_DESC:
	case QUEUE_DESC + 4:
		set_half(&fake_virtio.desc, v, reg != QUEUE_DESC);
		break;
	case QUEUE_AVAIL:
	case QUEUE_AVAIL + 4:
		set_half(&fake_virtio.avail, v, reg != QUEUE_AVAIL);
		break;
	case QUEUE_USED:
	case QUEUE_USED + 4:
		set_half(&fake_virtio.used, v, reg != QUEUE_USED);
		break;
	}
}

bool fake_virtio_start(const char *name)
{
	if (fake_virtio.fault != NO_VERSION_1)
		fake_virtio.features |= 1ULL << VIRTIO_F_VERSION_1;
	if (!fake_virtio.queue_max)
		fake_virtio.queue_max = 256;
	if (fake_virtio.id == VIRTIO_ID_BLOCK)
		fake_virtio.config[0] = fake_virtio.fault == NO_CAPACITY ? 0 : FAKE_DISK_SECTORS;
	fake_idle = fake_virtio_run;
	drivers_init();
	return blkdev_lookup(name) != NULL;
}
