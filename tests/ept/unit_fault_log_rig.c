#include "tests/ept/fault_log_rig.h"

struct ept_fault_log new_log(void)
{
	struct ept_fault_log log;

	ck_assert_int_eq(ept_fault_log_open(&log, 0), 0);
	ept_fault_log_choose(0);
	return log;
}

struct ept_records *reader(int fd, bool now)
{
	struct ept_records *records;

	ck_assert_int_eq(ept_records_open(fd, now, &records), 0);
	return records;
}

struct ept_record record_of(uint64_t n)
{
	return (struct ept_record){.at = n + 1,
				   .gpa = n << EPT_PAGE_SHIFT,
				   .read_ns = (uint32_t)(n % 1000) + 1,
				   .put_ns = (uint32_t)(n % 1000) + 2,
				   .done_ns = (uint32_t)(n % 1000) + 3,
				   .installed = (uint32_t)(n % 512) + 1,
				   .around = (uint32_t)(n % 512),
				   .bytes_read = (uint32_t)n,
				   .kase = (uint8_t)(n % EPT_NR_CASES),
				   .origin = (uint8_t)(n % EPT_NR_ORIGINS),
				   .error = (uint16_t)(n % 4096)};
}

bool is_record_of(const struct ept_record *r, uint64_t n)
{
	struct ept_record want = record_of(n);

	return memcmp(r, &want, sizeof(want)) == 0;
}

void put(struct ept_fault_log *log, uint64_t n)
{
	struct ept_record record = record_of(n);

	ept_fault_log_put(log, &record);
}

void expect_records(struct ept_records *records, uint64_t n, uint64_t end)
{
	struct ept_record r;

	for (; n < end; n++) {
		ck_assert_int_eq(ept_records_next(records, &r), 1);
		ck_assert_msg(is_record_of(&r, n), "record %lu is %lu", n, r.at - 1);
	}
}

void expect_no_more(struct ept_records *records, uint64_t lost)
{
	struct ept_record r;

	ck_assert_int_eq(ept_records_next(records, &r), 0);
	ck_assert_uint_eq(ept_records_lost(records), lost);
}

struct ept_log_slot *slot_of(struct ept_fault_log *log, uint64_t ticket)
{
	return &log->map->slot[0][ticket % SLOTS];
}
