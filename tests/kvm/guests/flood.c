/* Say `bytes=N` bytes (4096), lines of 64, without asking whether there is room. */
#include "tests/kvm/guests/lib/guest.h"

unsigned guest_main(const struct start_info *info)
{
	uint64_t bytes = param("bytes", 4096);

	(void)info;
	for (uint64_t i = 0; i < bytes; i++)
		out8(FOAL_PORT_COM1, i % 64 == 63 ? '\n' : (uint8_t)('0' + i % 64));
	return GUEST_OK;
}
