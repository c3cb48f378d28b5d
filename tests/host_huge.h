/* Whether the host gave the huge pages that it was asked for: tests that count them ask. */
#ifndef FOAL_TESTS_HOST_HUGE_H
#define FOAL_TESTS_HOST_HUGE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* A count of the host's since it started (proc_vmstat(5)); 0 too if it has none of that name. */
static inline uint64_t host_count(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "re");
	uint64_t n, found = 0;
	char is[64];

	while (f && fscanf(f, "%63s %lu", is, &n) == 2)
		if (!strcmp(name, is))
			found = n;
	if (f)
		fclose(f);
	return found;
}

/*
 * How often the host had no 2 MiB to give or broke some up. Where this grew during a test, be
 * it for others, what the test counts is an upper bound.
 */
static inline uint64_t host_refusals(void)
{
	return host_count("thp_fault_fallback") + host_count("thp_split_page") +
	       host_count("thp_split_pmd") + host_count("thp_collapse_alloc_failed") +
	       host_count("thp_zero_page_alloc_failed");
}

#endif
