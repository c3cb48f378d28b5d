/* The 2 MiB of zeroes that reads of untouched memory map; huge.h. */
#include "guest/include/huge.h"

/* There while somebody maps it, and until memory is wanted. */
static struct {
	struct spinlock lock;
	struct page *page;
	u64 users;
} zero;

bool huge_zero_present(void)
{
	return zero.page;
}

struct page *huge_zero_get(void)
{
	struct page *page;

	spin_lock(&zero.lock);
	if (!zero.page && may_alloc_user_pages(HUGE_PAGES)) {
		zero.page = alloc_pages(MAX_ORDER, GFP_ZERO);
		fault_counters.thp_zero_page_alloc += zero.page != NULL;
	}
	page = zero.page;
	zero.users += page != NULL;
	spin_unlock(&zero.lock);
	return page;
}

void huge_zero_put(void)
{
	spin_lock(&zero.lock);
	zero.users--;
	spin_unlock(&zero.lock);
}

u64 huge_zero_shrink(void)
{
	struct page *unused = NULL;

	spin_lock(&zero.lock);
	if (!zero.users) {
		unused = zero.page;
		zero.page = NULL;
	}
	spin_unlock(&zero.lock);
	if (!unused)
		return 0;
	put_page(unused);
	return HUGE_PAGES;
}
