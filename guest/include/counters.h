/*
 * What the fault path did, counted once per completed fault under its case's name (docs/guest.md
 * has the table of cases). Listed here alone: declared, summed and printed from this list.
 */
#ifndef GUEST_COUNTERS_H
#define GUEST_COUNTERS_H

#include "guest/include/types.h"

/* X(name, what it counts) */
#define FAULT_CASES(X) \
	X(spurious, "the entry granted the access already") \
	X(anon_zero, "anonymous, read: the shared zero page") \
	X(anon_page, "anonymous, write: a zeroed page of its own") \
	X(file_read, "file, read: the page cache's page, read-only") \
	X(file_around, "file, read: found mapped by fault-around, nothing read") \
	X(file_cow, "private file, first write: copied into an own page") \
	X(file_shared, "shared file, write: page_mkwrite, then writable") \
	X(dax_read, "persistent memory, read: mapped in place") \
	X(dax_cow, "persistent memory, private write: copied into an own page") \
	X(dax_shared, "persistent memory, shared write: mapped in place, writable") \
	X(wp_reuse, "write to a read-only own page with one user: made writable") \
	X(wp_zero, "write to the zero page: a zeroed page of its own") \
	X(wp_copy, "write to a page others use too: copied") \
	X(wp_shared, "write to a clean shared file page: page_mkwrite, then writable") \
	X(huge_page, "anonymous, write: zeroed 2 MiB of its own") \
	X(huge_zero, "anonymous, read: the shared 2 MiB of zeroes") \
	X(huge_reuse, "write to read-only 2 MiB with one user: made writable") \
	X(hugetlb_page, "hugetlb mapping: a page of the pool, or the object's") \
	X(hugetlb_reuse, "hugetlb mapping, write to a page with one user: made writable") \
	X(hugetlb_copy, "hugetlb mapping, write to a page that a fork shares: copied") \
	X(swap_read, "swapped page: read from the swap area") \
	X(swap_cached, "swapped page: still or again in the swap cache") \
	X(numa_hint, "an entry without its rights, which it gets back") \
	X(raced, "another resolved the entry meanwhile")

enum fault_case {
#define X(name, what) FC_##name,
	FAULT_CASES(X)
#undef X
	    NR_FAULT_CASES
};

/* Beside the cases: what happened on the way, and how faults failed. */
#define FAULT_EVENTS(X) \
	X(minor, "faults completed without waiting for a read") \
	X(major, "faults that waited for a read") \
	X(retry, "passes given up to wait without the address-space lock") \
	X(around_pages, "pages mapped beside the faulting one") \
	X(readahead_pages, "pages whose read was started for a mapping, asked for or not") \
	X(reclaimed, "pages of the page cache given back when memory ran low") \
	X(swapped_out, "own pages swapped out and given back") \
	X(numa_pte_updates, "entries that lost their rights for a hint") \
	X(thp_fallback, "faults where 2 MiB were allowed and not to be had") \
	X(thp_split_pmd, "entries of 2 MiB taken apart") \
	X(thp_split_page, "pages of 2 MiB that became 512") \
	X(thp_zero_page_alloc, "times that 2 MiB of zeroes were made") \
	X(thp_collapse, "512 entries made one of 2 MiB") \
	X(oom_kills, "programs ended because memory was short") \
	X(stack_grown, "stack expansions") \
	X(kernel_faults, "faults on user memory taken by system calls") \
	X(fixups, "system calls that got a bad address") \
	X(maperr, "accesses outside any mapping") \
	X(accerr, "accesses that the mapping forbids") \
	X(sigbus, "accesses past the end of a file, failed reads") \
	X(hwpoison, "accesses to memory that was lost before") \
	X(machine_checks, "memory that was lost when it was touched") \
	X(oom, "faults that found no memory") \
	X(shootdowns, "times other CPUs were made to forget translations")

struct fault_counts {
	u64 cases[NR_FAULT_CASES];
#define X(name, what) u64 name;
	FAULT_EVENTS(X)
#undef X
};

/* Those of the CPU that counts. */
#define fault_counters (this_cpu()->faults)
/* Those of the whole system. */
struct fault_counts sum_fault_counters(void);

/* One line: "faults: name=value ..." of all that are not zero. */
void print_fault_counters(void);

#endif
