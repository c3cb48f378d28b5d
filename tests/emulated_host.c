#include "tests/emulated_host.h"

#include <cpuid.h>
#include <string.h>

bool emulated_host(void)
{
	unsigned a, b = 0, c, d;

	__cpuid(0x40000000, a, b, c, d); /* the hypervisor's signature begins in EBX */
	return memcmp(&b, "TCGT", 4) == 0;
}

unsigned rounds_here(unsigned usual)
{
	return emulated_host() ? usual / 4 : usual;
}
