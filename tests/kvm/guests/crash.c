/*
 * End badly, by `how=`:
 *   triple    an exception that no handler takes
 *   nowhere   a jump to an address that nothing backs
 *   table     page tables in memory that nothing backs
 */
#include "tests/kvm/guests/lib/guest.h"

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	if (param_is("how", "triple"))
		__asm__ volatile("ud2");
	if (param_is("how", "nowhere"))
		((void (*)(void))(FOAL_MMIO_GAP_START + 0x8000000))();
	if (param_is("how", "table"))
		__asm__ volatile("mov %0, %%cr3" : : "r"(FOAL_MMIO_GAP_START + 0x8000000));
	return GUEST_BAD_PARAM;
}
