#include "vmm/size_text.h"

#include <stdio.h>

const char *size_text(uint64_t n)
{
	static char buf[8][16];
	static unsigned next;
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	char *out = buf[next++ % 8];
	double value = (double)n;
	unsigned unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	snprintf(out, sizeof(buf[0]), unit && value < 100 ? "%.1f %s" : "%.0f %s", value,
		 units[unit]);
	return out;
}
