/* Whether the host gave the huge pages that it was asked for: tests that count them ask. */
#ifndef FOAL_TESTS_HOST_HUGE_H
#define FOAL_TESTS_HOST_HUGE_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/*
 * How often the host had no 2 MiB to give or broke some up (proc_vmstat(5)). Where this
 * grew during a test, be it for others, what the test counts is an upper bound.
 */
static inline uint64_t host_refusals(void)
{
	static const char *const names[] = {"thp_fault_fallback", "thp_split_page", "thp_split_pmd",
					    "thp_collapse_alloc_failed",
					    "thp_zero_page_alloc_failed"};
	FILE *f = fopen("/proc/vmstat", "re");
	char name[64];
	uint64_t n, sum = 0;

	while (f && fscanf(f, "%63s %lu", name, &n) == 2)
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (!strcmp(name, names[i]))
				sum += n;
	if (f)
		fclose(f);
	return sum;
}

#endif
