/* Where nothing is, reads are all ones and writes are dropped, memory and ports alike. */
#include "tests/kvm/guests/lib/guest.h"

static void check_hole(uint64_t gpa)
{
	poke(gpa, 0x1234);
	expect(peek(gpa) == ~0UL, GUEST_BAD_VALUE);
	expect(*(volatile uint8_t *)(gpa + 1) == 0xff, GUEST_BAD_VALUE);
	expect(*(volatile uint16_t *)(gpa + 2) == 0xffff, GUEST_BAD_VALUE);
	expect(peek32(gpa + 4) == ~0u, GUEST_BAD_VALUE);
}

unsigned guest_main(const struct start_info *info)
{
	struct memmap_entry ram = memory_range(FOAL_MEMMAP_RAM, 1);
	uint64_t holes = param("holes", 16);

	(void)info;
	for (uint64_t i = 0; i < holes; i++) {
		check_hole(FOAL_MMIO_GAP_START + i * 0x100000);
		check_hole(ram.gpa + ram.size + i * PAGE);
		check_hole((15UL << 30) + i * PAGE);
	}
	out8(0x80, 1);
	expect(in8(0x1234) == 0xff, GUEST_BAD_VALUE);
	return GUEST_OK;
}
