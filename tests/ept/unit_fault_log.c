/* The fault log: each field of a record, and rounds of a ring. */
#include "tests/ept/fault_log_rig.h"
#include "tests/ept/unit_suites.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* --- what a fault leaves ------------------------------------------------------------------ */

static struct vm vm_logged(uint64_t pages)
{
	return vm_file(pages * PAGE, EPT_FILE_COW);
}

static struct ept_record next_of(struct ept_records *records)
{
	struct ept_record r;

	ck_assert_int_eq(ept_records_next(records, &r), 1);
	return r;
}

/* A window read for a device, one page of it then written by vCPU 2. */
START_TEST(of_faults)
{
	struct vm vm = vm_logged(64);
	struct ept_records *records = reader(ept_space_records_fd(vm.space), false);
	struct ept_resolution res;
	uint64_t before = ept_now();

	fault_as(&vm, 21, EPT_READ, EPT_ORIGIN_DEVICE, 0, &res);
	struct ept_record r = next_of(records);
	ck_assert_uint_ge(r.at, before);
	ck_assert_uint_le(r.at + r.done_ns, ept_now());
	ck_assert_uint_ge(r.read_ns, 1);
	ck_assert_uint_ge(r.put_ns, r.read_ns);
	ck_assert_uint_ge(r.done_ns, r.put_ns);
	ck_assert_uint_eq(r.gpa, 21 * PAGE);
	ck_assert_uint_eq(r.area, 0);
	ck_assert_uint_eq(r.vcpu, EPT_RECORD_NONE);
	ck_assert_uint_eq(r.kase, EPT_CASE_FILE_READ);
	ck_assert_uint_eq(r.origin, EPT_ORIGIN_DEVICE);
	ck_assert_uint_eq(r.access, EPT_READ);
	ck_assert_uint_eq(r.flags, EPT_RECORD_MAJOR);
	ck_assert_uint_eq(r.installed, 16);
	ck_assert_uint_eq(r.around, 15);
	ck_assert_uint_eq(r.bytes_read, 16 * PAGE);
	ck_assert_uint_eq(r.error, 0);

	vm.space->events[EPT_ORIGIN_VCPU]++; /* as its fault thread counts */
	fault_as(&vm, 21, EPT_WRITE, EPT_ORIGIN_VCPU, EPT_FAULT_EVENT | EPT_FAULT_PROTECT, &res);
	r = next_of(records);
	ck_assert_uint_eq(r.kase, EPT_CASE_FILE_WP);
	ck_assert_uint_eq(r.access, EPT_WRITE);
	ck_assert_uint_eq(r.flags, EPT_RECORD_EVENT | EPT_RECORD_PROTECT);
	ck_assert_uint_eq(r.read_ns, 0);
	ck_assert_uint_ge(r.put_ns, 1);
	ck_assert_uint_eq(r.installed, 0);
	expect_no_more(records, 0);
	ept_records_close(records);
	vm_destroy(&vm);
}
END_TEST

/* What takes no page in: no area, a read that fails, a fault that finds its page there. */
START_TEST(of_failures)
{
	struct vm vm = vm_logged(64);
	struct ept_records *records = reader(ept_space_records_fd(vm.space), false);
	struct ept_resolution res;
	char c;

	ck_assert_int_eq(ept_read(vm.space, GPA(1000 * PAGE + 5), &c, 1, EPT_ORIGIN_LOADER),
			 -EFAULT);
	struct ept_record r = next_of(records);
	ck_assert_uint_eq(r.gpa, 1000 * PAGE);
	ck_assert_uint_eq(r.area, EPT_RECORD_NONE);
	ck_assert_uint_eq(r.kase, EPT_CASE_NO_AREA);
	ck_assert_uint_eq(r.origin, EPT_ORIGIN_LOADER);
	ck_assert_uint_eq(r.read_ns + r.put_ns + r.done_ns, 0);

	vm.space->events[EPT_ORIGIN_VCPU]++; /* an exit of KVM's in an event's place */
	ept_stray(vm.space, GPA(UINT64_MAX), EPT_WRITE);
	r = next_of(records);
	ck_assert_uint_eq(r.gpa, UINT64_MAX & EPT_PAGE_MASK);
	ck_assert_uint_eq(r.access, EPT_WRITE);

	fault_as(&vm, 3, EPT_READ, EPT_ORIGIN_LOADER, 0, &res);
	fault_as(&vm, 3, EPT_READ, EPT_ORIGIN_LOADER, 0, &res);
	next_of(records);
	r = next_of(records);
	ck_assert_uint_eq(r.kase, EPT_CASE_SPURIOUS);
	ck_assert_uint_eq(r.put_ns, 0);
	ck_assert_uint_ge(r.done_ns, 1);

	ck_assert_int_eq(ftruncate(vm.fd, 0), 0);
	fault_as(&vm, 50, EPT_READ, EPT_ORIGIN_DEVICE, 0, &res);
	r = next_of(records);
	ck_assert_uint_eq(r.kase, EPT_CASE_IO_ERROR);
	ck_assert_uint_eq(r.error, EIO);
	ck_assert_uint_ge(r.read_ns, 1);
	ck_assert_uint_eq(r.put_ns, 0);
	expect_no_more(records, 0);
	ept_records_close(records);
	vm_destroy(&vm);
}
END_TEST

/* Every field by itself; what is longer than a field can say, and a stage of no time. */
START_TEST(fields)
{
	struct vm vm = vm_logged(4);
	struct ept_records *records = reader(ept_space_records_fd(vm.space), false);
	const struct ept_area area = {.index = 7};
	struct ept_request req = {.gpa = GPA(3 * PAGE + 9),
				  .access = EPT_WRITE,
				  .origin = EPT_ORIGIN_KVM,
				  .flags = EPT_FAULT_EVENT,
				  .picked_up = 1000,
				  .vcpu = 3};
	struct ept_resolution res = {.kase = EPT_CASE_SNAP_WRITE,
				     .error = -ENOMEM,
				     .major = true,
				     .fallback = true,
				     .installed = 11,
				     .around = 10,
				     .bytes_read = 12,
				     .granted = 13,
				     .read_at = 1000,
				     .put_at = 1020};

	ept_fault_log_note(vm.space, &area, &req, &res, 1030);
	res.installed = 1UL << 40;
	res.around = res.granted = res.bytes_read = 1UL << 41;
	ept_fault_log_note(vm.space, NULL, &req, &res, 1000 + (1UL << 33));
	struct ept_record r = next_of(records);
	const struct ept_record want = {.at = 1000,
					.gpa = 3 * PAGE,
					.read_ns = 1,
					.put_ns = 20,
					.done_ns = 30,
					.installed = 11,
					.around = 10,
					.granted = 13,
					.bytes_read = 12,
					.area = 7,
					.vcpu = 2,
					.kase = EPT_CASE_SNAP_WRITE,
					.origin = EPT_ORIGIN_KVM,
					.access = EPT_WRITE,
					.flags = EPT_RECORD_MAJOR | EPT_RECORD_FALLBACK |
						 EPT_RECORD_EVENT,
					.error = ENOMEM};
	ck_assert_mem_eq(&r, &want, sizeof(r));
	r = next_of(records);
	ck_assert_uint_eq(r.installed, UINT32_MAX);
	ck_assert_uint_eq(r.around, UINT32_MAX);
	ck_assert_uint_eq(r.granted, UINT32_MAX);
	ck_assert_uint_eq(r.bytes_read, UINT32_MAX);
	ck_assert_uint_eq(r.done_ns, UINT32_MAX);
	ck_assert_uint_eq(r.area, EPT_RECORD_NONE);
	ept_records_close(records);
	ept_fault_log_close(&vm.space->log); /* of faults that were not */
	vm_destroy(&vm);
}
END_TEST

START_TEST(none)
{
	struct ept_config config = one_thread;

	config.log = false;
	struct vm vm = vm_create(&config, -1, 0, PAGE, EPT_FILE_COW);
	ck_assert_int_eq(ept_space_records_fd(vm.space), -1);
	vm_destroy(&vm);
}
END_TEST

/* --- rings -------------------------------------------------------------------------------- */

START_TEST(wraps)
{
	struct ept_fault_log log = new_log();
	struct ept_records *early = reader(ept_fault_log_fd(&log), false);

	put(&log, 0);
	expect_records(early, 0, 1);
	for (uint64_t n = 1; n < SLOTS + 1000; n++)
		put(&log, n);
	struct ept_records *late = reader(ept_fault_log_fd(&log), false),
			   *now = reader(ept_fault_log_fd(&log), true);
	expect_records(late, 1000, SLOTS + 1000);
	expect_no_more(late, 1000);
	expect_records(early, 1000, SLOTS + 1000);
	expect_no_more(early, 999);
	expect_no_more(now, 0);
	put(&log, 5);
	expect_records(now, 5, 6);
	expect_no_more(now, 0);
	ept_records_close(early);
	ept_records_close(late);
	ept_records_close(now);
	ept_fault_log_close(&log);
}
END_TEST

/* Under a memory limit it has its share of that: fewer records, and a reader that knows. */
START_TEST(small)
{
	static const struct {
		uint64_t limit, slots;
	} logs[] = {{1, EPT_LOG_LEAST}, {16UL << 20, 512}, {24UL << 20, 512}, {1UL << 40, SLOTS}};
	uint64_t slots = logs[_i].slots;
	struct ept_fault_log log;
	struct ept_records *records;

	ck_assert_int_eq(ept_fault_log_open(&log, logs[_i].limit), 0);
	ept_fault_log_choose(0);
	records = reader(ept_fault_log_fd(&log), false);
	for (uint64_t n = 0; n < slots + 7; n++)
		put(&log, n);
	expect_records(records, 7, slots + 7);
	expect_no_more(records, 7);
	ck_assert_uint_eq(log.map->slot[0][slots - 1].seq, 2 * slots);
	if (slots < SLOTS)
		ck_assert_uint_eq(log.map->slot[0][slots].seq, 0);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

/* Of four rings the oldest comes first. */
START_TEST(in_order)
{
	struct ept_fault_log log = new_log();
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);

	for (uint64_t n = 0; n < 1000; n++) {
		ept_fault_log_choose((unsigned)(n * n));
		put(&log, n);
	}
	expect_records(records, 0, 1000);
	expect_no_more(records, 0);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

/* A second of 200,000 records into one ring, read ten times: none is lost. */
START_TEST(keeps_up)
{
	struct ept_fault_log log = new_log();
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);

	for (uint64_t n = 0; n < 200000; n += 20000) {
		for (uint64_t i = n; i < n + 20000; i++)
			put(&log, i);
		expect_records(records, n, n + 20000);
	}
	expect_no_more(records, 0);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

/*
 * Pages of the file are there when they are written; a full one has 8 MiB, its header and the
 * samples.
 */
START_TEST(takes_memory)
{
	struct ept_fault_log log = new_log();
	struct stat st;

	ck_assert_int_eq(fstat(log.fd, &st), 0);
	ck_assert_int_eq(st.st_blocks, 0);
	for (uint64_t n = 0; n < 65; n++)
		put(&log, n);
	ck_assert_int_eq(fstat(log.fd, &st), 0);
	ck_assert_int_eq(st.st_blocks * 512, 3 * EPT_PAGE_SIZE);
	ck_assert_int_eq(st.st_size, (8 << 20) + (1UL << 12) + 64UL * EPT_LOG_SAMPLES);
	ept_fault_log_close(&log);
}
END_TEST

/* Who has the descriptor reads, and nothing else. */
START_TEST(sealed)
{
	struct ept_fault_log log = new_log();

	ck_assert_int_lt(pwrite(log.fd, "x", 1, 0), 0);
	ck_assert_int_lt(ftruncate(log.fd, 0), 0);
	ck_assert_int_lt(fallocate(log.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), 0);
	ck_assert_int_lt(fcntl(log.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	ck_assert_ptr_eq(mmap(NULL, EPT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, log.fd, 0),
			 MAP_FAILED);
	ept_fault_log_close(&log);
}
END_TEST

/* --- slots that somebody writes to ----------------------------------------------------------- */

/* Its thread took the ticket and does not run: what is behind it comes when it is given up. */
START_TEST(unfinished)
{
	struct ept_fault_log log = new_log();
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);
	bool begun = _i;

	inject_clock_stop();
	put(&log, 0);
	put(&log, 1);
	put(&log, 2);
	slot_of(&log, 1)->seq = begun ? 2 * 1 + 1 : 0;
	expect_records(records, 0, 1);
	expect_no_more(records, 0);
	inject_clock_passes(99);
	expect_no_more(records, 0);
	slot_of(&log, 1)->seq = 2 * 1 + 2; /* it runs again */
	expect_records(records, 1, 3);
	put(&log, 3);
	put(&log, 4);
	slot_of(&log, 3)->seq = begun ? 2 * 3 + 1 : 0;
	expect_no_more(records, 0);
	inject_clock_passes(100);
	expect_records(records, 4, 5);
	expect_no_more(records, 1);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

/* Somebody has been writing to the slot for a round: the next one leaves it alone. */
START_TEST(taken)
{
	struct ept_fault_log log = new_log();
	struct ept_log_slot before;

	for (uint64_t n = 0; n < SLOTS; n++)
		put(&log, n);
	slot_of(&log, 3)->seq = 2 * 3 + 1;
	before = *slot_of(&log, 3);
	for (uint64_t n = SLOTS; n < SLOTS + 8; n++)
		put(&log, n);
	ck_assert_mem_eq(&before, slot_of(&log, 3), sizeof(before));
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);
	expect_records(records, 8, SLOTS + 3);
	expect_records(records, SLOTS + 4, SLOTS + 8);
	expect_no_more(records, 8 + 1);
	/* A later one than this thread's is there: it is not written over. */
	slot_of(&log, SLOTS + 8)->seq = 2 * (2 * SLOTS + 8) + 2;
	before = *slot_of(&log, SLOTS + 8);
	put(&log, SLOTS + 8);
	ck_assert_mem_eq(&before, slot_of(&log, SLOTS + 8), sizeof(before));
	expect_no_more(records, 8 + 2);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

Suite *suite_fault_log(void)
{
	Suite *suite = suite_create("ept: fault log");
	TCase *tc = tcase_create("fault log");

	tcase_add_test(tc, of_faults);
	tcase_add_test(tc, of_failures);
	tcase_add_test(tc, fields);
	tcase_add_test(tc, none);
	tcase_add_test(tc, wraps);
	tcase_add_loop_test(tc, small, 0, 4);
	tcase_add_test(tc, in_order);
	tcase_add_test(tc, keeps_up);
	tcase_add_test(tc, takes_memory);
	tcase_add_test(tc, sealed);
	tcase_add_loop_test(tc, unfinished, 0, 2);
	tcase_add_test(tc, taken);
	suite_add_tcase(suite, tc);
	return suite;
}
