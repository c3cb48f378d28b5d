/* The host's side of memory that it backs by itself, played: pages, huge pages, advice. */
#include "ept/host_pages.h"
#include "ept/mirror.h"
#include "tests/ept/fake_install.h"

#include <errno.h>
#include <string.h>

#define REGIONS 256
#define PAGES	EPT_TABLE_SIZE

static bool staging_huge = true;
static char *base;
static unsigned char present[REGIONS * PAGES]; /* bits EPT_HOST_* */
static bool huge[REGIONS], wants[REGIONS];
static bool zero_pages, small;
static uint64_t faults;
static int refusal;
static unsigned refusals, collapses;
static void (*when_asked)(void);

void fake_host(void *hva, size_t pages)
{
	base = hva;
	memset(present, 0, pages);
	memset(huge, 0, sizeof(huge));
	memset(wants, 0, sizeof(wants));
	zero_pages = small = false;
	refusals = collapses = 0;
	when_asked = NULL;
}

void fake_host_when_asked(void (*what)(void))
{
	when_asked = what;
}

static void make_huge(unsigned region)
{
	memset(present + region * PAGES, 1, PAGES);
	huge[region] = true;
}

unsigned fake_host_count(unsigned region)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PAGES; i++)
		n += present[region * PAGES + i] != 0;
	return n;
}

void fake_host_touch(unsigned first, unsigned pages)
{
	for (unsigned i = first; i < first + pages; i++) {
		if (present[i])
			continue;
		faults++;
		present[i] = 1;
		if (wants[i / PAGES] && !small && fake_host_count(i / PAGES) == 1)
			make_huge(i / PAGES);
	}
}

void fake_host_file(unsigned first, unsigned pages, bool copy)
{
	for (unsigned i = first; i < first + pages; i++) {
		unsigned char is = copy ? EPT_HOST_THERE | EPT_HOST_COPY : EPT_HOST_THERE;

		faults += (present[i] & is) != is;
		present[i] |= is;
	}
}

bool fake_host_huge(unsigned region)
{
	return huge[region];
}

bool fake_host_wants(unsigned region)
{
	return wants[region];
}

void fake_host_zero_pages(bool all)
{
	zero_pages = all;
}

void fake_host_refuse(int error, unsigned times)
{
	refusal = error;
	refusals = times;
}

unsigned fake_host_collapses(void)
{
	return collapses;
}

void fake_host_small(bool on)
{
	small = on;
}

static size_t page_of(const void *hva)
{
	return (size_t)((const char *)hva - base) / EPT_PAGE_SIZE;
}

bool ept_host_gives_huge(void)
{
	return false; /* no governor by itself: a test plays its thread */
}

static bool ours(const void *hva)
{
	return base && (size_t)((const char *)hva - base) < sizeof(present) * EPT_PAGE_SIZE;
}

void fake_host_staging(bool on)
{
	staging_huge = on;
}

int ept_host_present(void *hva, size_t len, unsigned char *vec)
{
	if (!ours(hva)) { /* a place aside, its first byte touched */
		memset(vec, staging_huge, len / EPT_PAGE_SIZE);
		return 0;
	}
	memcpy(vec, present + page_of(hva), len / EPT_PAGE_SIZE);
	return 0;
}

uint64_t ept_host_own_pages(int pagemap, const void *hva, uint64_t pages)
{
	uint64_t own = 0;

	(void)pagemap;
	if (when_asked)
		when_asked();
	for (uint64_t i = 0; i < pages && base; i++)
		own += present[page_of(hva) + i] != 0;
	return zero_pages ? 0 : own;
}

int ept_host_copies(int pagemap, const void *hva, size_t pages, unsigned char *vec)
{
	int err = ept_host_pages(pagemap, hva, pages, vec);

	for (size_t i = 0; i < pages && !err; i++)
		vec[i] = (vec[i] & EPT_HOST_COPY) != 0;
	return err;
}

int ept_host_pages(int pagemap, const void *hva, size_t pages, unsigned char *vec)
{
	(void)pagemap;
	memcpy(vec, present + page_of(hva), pages);
	return 0;
}

bool ept_host_nothing(int pagemap, const void *hva, uint64_t pages)
{
	(void)pagemap, (void)hva, (void)pages;
	return false; /* it does not tell */
}

bool ept_host_empty(int pagemap, const void *hva)
{
	(void)pagemap, (void)hva;
	return false; /* as above */
}

bool ept_host_tells(int pagemap)
{
	(void)pagemap;
	return false; /* as ept_host_gives_huge() */
}

uint64_t ept_host_faults(void)
{
	return faults;
}

int ept_install_want_huge(void *hva, size_t len, bool on)
{
	for (size_t at = 0; at < len && ours(hva); at += EPT_LEAF_BYTES)
		wants[page_of((char *)hva + at) / PAGES] = on;
	return 0;
}

/* Nobody's fault. */
int ept_install_populate(void *hva, size_t len, bool write_access)
{
	(void)write_access;
	if (ours(hva))
		memset(present + page_of(hva), 1, len / EPT_PAGE_SIZE);
	return 0;
}

int ept_install_in_whole(void *hva, size_t len)
{
	(void)hva;
	(void)len;
	return -EINVAL;
}

int ept_install_collapse(void *hva, size_t len)
{
	unsigned first = (unsigned)(page_of(hva) / PAGES);
	bool refused = false;

	collapses++;
	for (unsigned region = first; region < first + len / EPT_LEAF_BYTES; region++) {
		if (!wants[region])
			return -EINVAL;
		if (refusals) {
			refusals--;
			refused = true;
		} else {
			make_huge(region);
		}
	}
	return refused ? refusal : 0;
}

/* What the space gives back. */
void fake_host_drop(const void *hva, size_t len)
{
	size_t first = page_of(hva);

	if (!base)
		return;
	memset(present + first, 0, len / EPT_PAGE_SIZE);
	for (size_t i = first; i < first + len / EPT_PAGE_SIZE; i++)
		huge[i / PAGES] = false;
}
