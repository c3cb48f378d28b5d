#include "ept/host_pages.h"

#include "ept/ept.h"
#include "ept/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

bool ept_host_gives_huge(void)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
	char words[64];
	ssize_t n;

	if (fd < 0)
		return false; /* a kernel without them */
	n = read(fd, words, sizeof(words) - 1);
	close(fd);
	words[n < 0 ? 0 : n] = 0;
	return !strstr(words, "[never]");
}

int ept_host_present(void *hva, size_t len, unsigned char *vec)
{
	return mincore(hva, len, vec) ? -errno : 0;
}

/* The shared zero page is neither a file's nor exclusive. */
static bool somebodys(uint64_t entry)
{
	return entry & PM_PRESENT && entry & (PM_FILE | PM_EXCLUSIVE);
}

#define ENTRIES 512

/* Up to @max entries from page number @first on; how many. 0: it does not tell. */
static size_t read_entries(int pagemap, uint64_t first, uint64_t max, uint64_t *entry)
{
	size_t want = max < ENTRIES ? max : ENTRIES;
	ssize_t n;

	if (pagemap < 0)
		return 0;
	n = pread(pagemap, entry, want * sizeof(*entry), (off_t)(first * sizeof(*entry)));
	return n > 0 ? (size_t)n / sizeof(*entry) : 0;
}

uint64_t ept_host_own_pages(int pagemap, const void *hva, uint64_t pages)
{
	uint64_t entry[ENTRIES], own = 0, first = (uintptr_t)hva >> EPT_PAGE_SHIFT;
	uint64_t end = first + pages;
	size_t n;

	while (first < end && (n = read_entries(pagemap, first, end - first, entry))) {
		for (size_t i = 0; i < n; i++)
			own += somebodys(entry[i]);
		first += n;
	}
	return own;
}

/* What @of says of each page's entry. */
static int read_pages(int pagemap, const void *hva, size_t pages, unsigned char *vec,
		      unsigned char (*of)(uint64_t entry))
{
	uint64_t entry[ENTRIES], first = (uintptr_t)hva >> EPT_PAGE_SHIFT;
	size_t n;

	for (size_t done = 0; done < pages; done += n) {
		n = read_entries(pagemap, first + done, pages - done, entry);
		if (!n)
			return -EBADF;
		for (size_t i = 0; i < n; i++)
			vec[done + i] = of(entry[i]);
	}
	return 0;
}

static unsigned char both_bits(uint64_t entry)
{
	if (!(entry & PM_PRESENT))
		return 0;
	return entry & PM_FILE ? EPT_HOST_THERE : EPT_HOST_THERE | EPT_HOST_COPY;
}

int ept_host_pages(int pagemap, const void *hva, size_t pages, unsigned char *vec)
{
	return read_pages(pagemap, hva, pages, vec, both_bits);
}

static unsigned char is_copy(uint64_t entry)
{
	return (entry & (PM_PRESENT | PM_SWAP)) && !(entry & PM_FILE);
}

int ept_host_copies(int pagemap, const void *hva, size_t pages, unsigned char *vec)
{
	return read_pages(pagemap, hva, pages, vec, is_copy);
}

bool ept_host_nothing(int pagemap, const void *hva, uint64_t pages)
{
	uint64_t entry[ENTRIES], first = (uintptr_t)hva >> EPT_PAGE_SHIFT, end = first + pages;

	while (first < end) {
		size_t n = read_entries(pagemap, first, end - first, entry);

		for (size_t i = 0; i < n; i++)
			if (is_copy(entry[i]))
				return false;
		if (!n)
			return false;
		first += n;
	}
	return true;
}

bool ept_host_empty(int pagemap, const void *hva)
{
	uint64_t entry;

	return read_entries(pagemap, (uintptr_t)hva >> EPT_PAGE_SHIFT, 1, &entry) == 1 &&
	       !(entry & (PM_PRESENT | PM_SWAP));
}

bool ept_host_tells(int pagemap)
{
	return pagemap >= 0;
}

uint64_t ept_host_faults(void)
{
	struct rusage usage;

	if (getrusage(RUSAGE_SELF, &usage))
		return 0;
	return (uint64_t)usage.ru_minflt + (uint64_t)usage.ru_majflt;
}
