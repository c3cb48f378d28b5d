/* Sweep a large table of the kernel's own, `table=r` (constant) or `table=w`. */
#include "tests/kvm/guests/lib/guest.h"

#define TEXT_OF(x) #x
#define TEXT(x)	   TEXT_OF(x)

/* FILE_PATTERN(n) in the first word of page n, 0xaa in the rest. */
#define TABLE(name, flags) \
	__asm__(".pushsection ." name ", \"" flags "\", @progbits\n" \
		".balign 4096\n" \
		".globl " name "\n" name ":\n" \
		".set i, 0\n" \
		".rept " TEXT(KERNEL_DATA_PAGES) "\n" \
						 ".quad 0xf0a1000000000000 + i\n" \
						 ".fill 4088, 1, 0xaa\n" \
						 ".set i, i + 1\n" \
						 ".endr\n" \
						 ".popsection\n")

TABLE("table_r", "a");
TABLE("table_w", "aw");

extern const char table_r[], table_w[];

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	sweep((uint64_t)(param_is("table", "w") ? table_w : table_r), true);
	return GUEST_OK;
}
