/*
 * Touch every `port_step=N`-th port (1) and `page_step=N`-th page of the MMIO gap
 * (1) in turn, then do `rounds=N` (2000) things of no sense with registers and
 * rings of the devices. All of it follows from `seed=N`. Only what would end the
 * run is left out, and rings and buffers never lie where the guest itself is: a
 * device that does as it was told must not be what stops it.
 *
 * Then the devices have to work: a flush of the first pmem (`flush=no`: none is
 * within reach), the serial line, and the exit port, with status 42.
 */
#include "tests/kvm/guests/lib/guest.h"
#include "tests/kvm/guests/lib/virtio_regs.h"

#define ARENA	   (32UL << 20) /* 16 MiB that rings may lie in */
#define ARENA_SIZE (16UL << 20)
#define STATUS	   42

static uint64_t state;

static uint64_t noise(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t below(uint64_t n)
{
	return (noise() >> 16) % n;
}

/* A value to write anywhere: as an address, it is never the guest's own memory. */
static uint64_t value(void)
{
	static const uint64_t edges[] = {0, 1, 2, 0xff, 0xffff, 0x7fffffff, ~0U, ~0UL, 1UL << 63};

	switch (below(4)) {
	case 0:
		return edges[below(sizeof(edges) / sizeof(edges[0]))];
	case 1:
		return ARENA + below(ARENA_SIZE);
	case 2:
		return FOAL_MMIO_GAP_START + below(FOAL_MMIO_GAP_END - FOAL_MMIO_GAP_START);
	default:
		return noise() | 1UL << 31; /* also where only the lower half counts */
	}
}

/* --- accesses of one of the widths -------------------------------------------- */

static void in(uint16_t port)
{
	uint32_t got;

	switch (below(3)) {
	case 0:
		in8(port);
		break;
	case 1:
		__asm__ volatile("inw %w1, %w0" : "=a"(got) : "d"(port));
		break;
	default:
		__asm__ volatile("inl %1, %0" : "=a"(got) : "d"(port));
	}
}

static void out(uint16_t port)
{
	uint32_t v = (uint32_t)value();

	switch (below(3)) {
	case 0:
		out8(port, (uint8_t)v);
		break;
	case 1:
		__asm__ volatile("outw %w0, %w1" : : "a"(v), "d"(port));
		break;
	default:
		__asm__ volatile("outl %0, %1" : : "a"(v), "d"(port));
	}
}

/* Whether a write of four bytes at @port reaches @end, which ends the run. */
static bool reaches(uint16_t port, uint16_t end)
{
	return port <= end && port + 3 >= end;
}

static void touch_port(uint16_t port)
{
	in(port);
	if (!reaches(port, FOAL_PORT_EXIT) && !reaches(port, FOAL_PORT_I8042) &&
	    !reaches(port, FOAL_PORT_RESET) && !reaches(port, FOAL_PORT_ACPI_SLEEP_CTL) &&
	    !reaches(port, FOAL_PORT_ACPI_RESET))
		out(port);
}

static void read_memory(uint64_t gpa)
{
	switch (below(4)) {
	case 0:
		(void)*(volatile uint8_t *)gpa;
		break;
	case 1:
		(void)*(volatile uint16_t *)gpa;
		break;
	case 2:
		peek32(gpa);
		break;
	default:
		peek(gpa);
	}
}

static void write_memory(uint64_t gpa)
{
	uint64_t v = value();

	switch (below(4)) {
	case 0:
		*(volatile uint8_t *)gpa = (uint8_t)v;
		break;
	case 1:
		*(volatile uint16_t *)gpa = (uint16_t)v;
		break;
	case 2:
		poke32(gpa, (uint32_t)v);
		break;
	default:
		poke(gpa, v);
	}
}

/* A local APIC told nonsense may stop its processor, as a real one. */
static void touch_page(uint64_t page)
{
	if (page == FOAL_LAPIC_BASE)
		return;
	if (below(4) == 0)
		read_memory(page + below(PAGE));
	write_memory(page + below(PAGE));
}

/* --- virtio-mmio ---------------------------------------------------------------- */

static uint64_t some_device(void)
{
	return FOAL_VIRTIO_MMIO_BASE + below(param("devices", 5)) * FOAL_VIRTIO_MMIO_STRIDE;
}

/* An address for a part of a ring: mostly one that a device can use. */
static uint64_t ring_address(void)
{
	return below(8) ? (ARENA + below(ARENA_SIZE / 2)) & ~15UL : value();
}

/* Descriptors and indexes at @gpa: half sense, half noise. */
static void fill(uint64_t gpa)
{
	if (gpa < ARENA || gpa >= ARENA + ARENA_SIZE)
		return;
	for (unsigned i = 0; i < 8; i++) {
		poke(gpa + i * 16UL, value());
		poke(gpa + i * 16UL + 8, below(2) ? below(1 << 20) : noise());
	}
}

/* A driver as it should be up to its rings, and then not. */
static void drive(uint64_t base)
{
	poke32(base + REG_STATUS, 0);
	poke32(base + REG_STATUS, 3); /* ACKNOWLEDGE, DRIVER */
	poke32(base + REG_DRIVER_FEATURES_SEL, 0);
	poke32(base + REG_DRIVER_FEATURES, below(4) ? 0 : (uint32_t)noise());
	poke32(base + REG_DRIVER_FEATURES_SEL, 1);
	poke32(base + REG_DRIVER_FEATURES, below(8) ? 1 : (uint32_t)noise());
	poke32(base + REG_STATUS, 11); /* and FEATURES_OK */
	for (unsigned queue = 0; queue < 2; queue++) {
		poke32(base + REG_QUEUE_SEL, below(8) ? queue : (uint32_t)noise());
		poke32(base + REG_QUEUE_NUM, below(8) ? 1u << below(9) : (uint32_t)noise());
		for (unsigned part = 0; part < 3; part++) {
			uint64_t at = ring_address();
			fill(at);
			poke32(base + REG_QUEUE_DESC + part * 16, (uint32_t)at);
			poke32(base + REG_QUEUE_DESC + part * 16 + 4, (uint32_t)(at >> 32));
		}
		poke32(base + REG_QUEUE_READY, 1);
	}
	poke32(base + REG_STATUS, 15); /* and DRIVER_OK */
	for (uint64_t i = below(4); i-- > 0;)
		poke32(base + REG_QUEUE_NOTIFY, below(8) ? (uint32_t)below(2) : (uint32_t)noise());
	if (below(2))
		poke32(base + REG_STATUS, below(2) ? 0 : (uint32_t)noise()); /* in mid-request */
}

static void one_thing(void)
{
	uint64_t base = some_device();

	switch (below(8)) {
	case 0:
		touch_port((uint16_t)noise());
		break;
	case 1:
		touch_port((uint16_t)(FOAL_PORT_COM1 + below(FOAL_PORT_COM1_LEN)));
		break;
	case 2:
		read_memory(base + REG_CONFIG + below(0x100));
		write_memory(base + REG_CONFIG + below(0x100));
		break;
	case 3:
		write_memory(base + below(FOAL_VIRTIO_MMIO_SIZE));
		break;
	case 4:
		read_memory(base + below(FOAL_VIRTIO_MMIO_SIZE));
		poke32(base + (below(FOAL_VIRTIO_MMIO_SIZE) & ~3UL), (uint32_t)value());
		break;
	case 5:
		write_memory(FOAL_IOAPIC_BASE + below(0x20));
		break;
	default:
		drive(base);
	}
}

/* As the serial line was at the start: whatever was made of its registers. */
static void mend_serial(void)
{
	out8(FOAL_PORT_COM1 + 3, 3); /* LCR: 8 bits, no divisor latch */
	out8(FOAL_PORT_COM1 + 1, 0); /* no interrupts */
	out8(FOAL_PORT_COM1 + 4, 0); /* MCR: no loopback */
}

unsigned guest_main(const struct start_info *info)
{
	uint64_t port_step = param("port_step", 1), page_step = param("page_step", 1);

	(void)info;
	state = param("seed", 1) * 0x9e3779b97f4a7c15UL | 1;
	for (uint64_t port = below(port_step); port < 0x10000; port += port_step)
		touch_port((uint16_t)port);
	for (uint64_t page = FOAL_MMIO_GAP_START + below(page_step) * PAGE;
	     page < FOAL_MMIO_GAP_END; page += page_step * PAGE)
		touch_page(page);
	for (uint64_t i = param("rounds", 2000); i > 0; i--)
		one_thing();

	mend_serial();
	if (!param_is("flush", "no"))
		expect(pmem_flush() == 0, GUEST_BAD_DEVICE);
	say("\nall devices answer\n");
	return STATUS;
}
