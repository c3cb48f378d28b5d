/*
 * Two processors add to the same words of fresh pages, `pages=N` (256), one
 * upwards and one downwards: `where=ram` from 16 MiB on, `where=pmem`. No
 * addition may be lost, whoever brings the page in.
 */
#include "tests/kvm/guests/lib/guest.h"

static uint64_t base, pages;
static bool is_file;
static volatile uint32_t ap_runs, go, ap_done;

static void add(uint64_t page)
{
	__asm__ volatile("lock addq $1, (%0)" : : "r"(base + page * PAGE) : "memory");
}

void ap_main(void)
{
	ap_runs = 1;
	while (!go)
		__asm__ volatile("pause");
	for (uint64_t n = pages; n-- > 0;)
		add(n);
	ap_done = 1;
	for (;;)
		__asm__ volatile("cli; hlt");
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	is_file = param_is("where", "pmem");
	base = is_file ? pmem_range(0).gpa : 16UL << 20;
	pages = param("pages", 256);
	start_processor(1);
	while (!ap_runs)
		__asm__ volatile("pause");
	go = 1;
	for (uint64_t n = 0; n < pages; n++)
		add(n);
	while (!ap_done)
		__asm__ volatile("pause");
	for (uint64_t n = 0; n < pages; n++)
		expect(peek(base + n * PAGE) == (is_file ? FILE_PATTERN(n) : 0) + 2,
		       GUEST_BAD_VALUE);
	return GUEST_OK;
}
