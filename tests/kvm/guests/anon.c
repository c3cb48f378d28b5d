/* Sweep anonymous memory from 16 MiB on (guest.h, sweep). */
#include "tests/kvm/guests/lib/guest.h"

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	sweep(param("base", 16UL << 20), false);
	return GUEST_OK;
}
