/*
 * Touch every port in every width, every register of every device in every
 * width with values of no sense, and each `step=N`-th page (64) of the MMIO gap. Only what would
 * end the run is left out: the exit port, and the local APIC's commands.
 */
#include "tests/kvm/guests/lib/guest.h"

static uint64_t noise(void)
{
	static uint64_t x = 88172645463325252;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static void touch_port(uint16_t port)
{
	uint32_t value = (uint32_t)noise();
	uint32_t in;

	__asm__ volatile("inl %1, %0" : "=a"(in) : "d"(port));
	__asm__ volatile("inw %w1, %w0" : "=a"(in) : "d"(port));
	in8(port);
	/* Wider writes below the exit port reach it, too. */
	if (port >= FOAL_PORT_EXIT - 3 && port <= FOAL_PORT_EXIT)
		return;
	out8(port, (uint8_t)value);
	__asm__ volatile("outw %w0, %w1" : : "a"(value), "d"(port));
	__asm__ volatile("outl %0, %1" : : "a"(value), "d"(port));
}

/* Every width, aligned and not. */
static void touch_registers(uint64_t base, uint64_t size)
{
	for (uint64_t at = 0; at < size; at += 4) {
		uint64_t value = noise();
		uint64_t gpa = base + at;
		peek(gpa);
		*(volatile uint8_t *)(gpa + (value & 3)) = (uint8_t)value;
		*(volatile uint16_t *)(gpa + 1) = (uint16_t)value;
		poke32(gpa, (uint32_t)value);
		poke(gpa, value);
		peek32(gpa + 2);
	}
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	for (uint32_t port = 0; port < 0x10000; port += port < 0x500 ? 1 : 7)
		touch_port((uint16_t)port);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < 3; i++)
			touch_registers(FOAL_VIRTIO_MMIO_BASE + i * FOAL_VIRTIO_MMIO_STRIDE,
					FOAL_VIRTIO_MMIO_SIZE + 8);
		touch_registers(FOAL_IOAPIC_BASE, 0x110);
	}
	for (uint64_t gpa = FOAL_MMIO_GAP_START; gpa < FOAL_MMIO_GAP_END;
	     gpa += param("step", 64) * PAGE) {
		peek(gpa + 0xffc); /* across the end of the page */
		poke32(gpa, (uint32_t)noise());
	}
	return GUEST_OK;
}
