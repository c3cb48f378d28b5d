#include "tests/ept/records.h"

#include "ept/record.h"
#include "ept/stats.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint64_t *seen; /* a bit a case, shared with the tests' processes */

void remember_cases_with_records(void)
{
	seen = mmap(NULL, sizeof(*seen), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

int cases_without_records(void)
{
	uint64_t had = __atomic_load_n(seen, __ATOMIC_RELAXED);
	int status = EXIT_SUCCESS;

	for (int c = 0; c < EPT_NR_CASES; c++)
		if (!(had >> c & 1)) {
			printf("no test compared a record of %s\n",
			       ept_case_name((enum ept_case)c));
			status = EXIT_FAILURE;
		}
	return status;
}

static void add(struct ept_case_stats *sum, const struct ept_record *r)
{
	sum->faults++;
	sum->major += (r->flags & EPT_RECORD_MAJOR) != 0;
	sum->fallback += (r->flags & EPT_RECORD_FALLBACK) != 0;
	sum->installed += r->installed;
	sum->around += r->around;
	sum->granted += r->granted;
	sum->bytes_read += r->bytes_read;
	sum->by_origin[r->origin]++;
}

/* What a record says of itself, whatever came before it. */
static void check_fields(const struct ept_space *space, const struct ept_record *r)
{
	const struct ept_area *area = r->area == EPT_RECORD_NONE ? NULL : space->areas[r->area];

	ck_assert(area ? r->gpa >= area->start && r->gpa < area->end
		       : !ept_area_find(space, r->gpa));
	ck_assert(r->vcpu == EPT_RECORD_NONE || r->vcpu < space->config.vcpus);
	ck_assert(r->vcpu == EPT_RECORD_NONE || r->origin == EPT_ORIGIN_VCPU);
	ck_assert(!(r->flags & EPT_RECORD_PROTECT) || r->access == EPT_WRITE);
	ck_assert(!r->bytes_read || r->read_ns || r->kase > EPT_CASE_SPURIOUS);
	ck_assert(!r->installed || r->put_ns || r->error);
	ck_assert(r->kase < EPT_CASE_NO_AREA ? area != NULL : true);
}

/* Of area @area, or (as many as there are) of none. */
static void compare(const struct ept_space *space, size_t area, const struct ept_case_stats *sums)
{
	for (int c = 0; c < EPT_NR_CASES; c++) {
		struct ept_case_stats is;

		ept_area_case_stats(space, area, (enum ept_case)c, &is);
#define SAME(field, ...) \
	ck_assert_msg(sums[c].field == is.field, "area %zu, %s: " #field " %lu, records %lu", \
		      area, ept_case_name((enum ept_case)c), (unsigned long)is.field, \
		      (unsigned long)sums[c].field);
		EPT_COUNTERS(SAME)
		for (int o = 0; o < EPT_NR_ORIGINS; o++)
			SAME(by_origin[o])
#undef SAME
		if (is.faults && seen)
			__atomic_fetch_or(seen, 1UL << c, __ATOMIC_RELAXED);
	}
}

void expect_records_are_counters(const struct ept_space *space)
{
	size_t areas = ept_area_count(space);
	struct ept_case_stats(*sums)[EPT_NR_CASES] = calloc(areas + 1, sizeof(*sums));
	struct ept_records *records;
	struct ept_record r;

	ck_assert_ptr_nonnull(sums);
	if (space->log.map) {
		ck_assert_int_eq(ept_records_open(ept_space_records_fd(space), false, &records), 0);
		while (ept_records_next(records, &r)) {
			check_fields(space, &r);
			add(&sums[r.area == EPT_RECORD_NONE ? areas : r.area][r.kase], &r);
		}
		for (size_t area = 0; area <= areas && !ept_records_lost(records); area++)
			compare(space, area, sums[area]);
		ept_records_close(records);
	}
	free(sums);
}
