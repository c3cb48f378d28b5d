#include "ept/host_pages.h"

#include "ept/ept.h"

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

/* Bits of /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst). */
#define PM_PRESENT   (1UL << 63)
#define PM_FILE	     (1UL << 61)
#define PM_EXCLUSIVE (1UL << 56)

/* The shared zero page is neither a file's nor exclusive. */
static bool somebodys(uint64_t entry)
{
	return entry & PM_PRESENT && entry & (PM_FILE | PM_EXCLUSIVE);
}

uint64_t ept_host_own_pages(int pagemap, const void *hva, uint64_t pages)
{
	uint64_t entry[512], own = 0, first = (uintptr_t)hva >> EPT_PAGE_SHIFT;
	uint64_t end = first + pages;

	while (pagemap >= 0 && first < end) {
		size_t want = end - first < 512 ? end - first : 512;
		ssize_t n =
		    pread(pagemap, entry, want * sizeof(*entry), (off_t)(first * sizeof(*entry)));

		if (n <= 0)
			break;
		n /= (ssize_t)sizeof(*entry);
		for (ssize_t i = 0; i < n; i++)
			own += somebodys(entry[i]);
		first += (uint64_t)n;
	}
	return own;
}

uint64_t ept_host_minor_faults(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_SELF, &usage) ? 0 : (uint64_t)usage.ru_minflt;
}
