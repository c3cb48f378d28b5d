/* The fault log: each field of a record, rounds of a ring, and a file that nobody can trust. */
#include "ept/fault_log.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define SLOTS ((uint64_t)EPT_LOG_SLOTS)

/* --- a log, its writer and its reader ----------------------------------------------------- */

static struct ept_fault_log new_log(void)
{
	struct ept_fault_log log;

	ck_assert_int_eq(ept_fault_log_open(&log), 0);
	ept_fault_log_choose(0);
	return log;
}

static struct ept_records *reader(int fd, bool now)
{
	struct ept_records *records;

	ck_assert_int_eq(ept_records_open(fd, now, &records), 0);
	return records;
}

/* Fields that follow from @n, so that one half of another record shows. */
static struct ept_record record_of(uint64_t n)
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

static bool is_record_of(const struct ept_record *r, uint64_t n)
{
	struct ept_record want = record_of(n);

	return memcmp(r, &want, sizeof(want)) == 0;
}

static void put(struct ept_fault_log *log, uint64_t n)
{
	struct ept_record record = record_of(n);

	ept_fault_log_put(log, &record);
}

/* The next ones are those of [n, end). */
static void expect_records(struct ept_records *records, uint64_t n, uint64_t end)
{
	struct ept_record r;

	for (; n < end; n++) {
		ck_assert_int_eq(ept_records_next(records, &r), 1);
		ck_assert_msg(is_record_of(&r, n), "record %lu is %lu", n, r.at - 1);
	}
}

static void expect_no_more(struct ept_records *records, uint64_t lost)
{
	struct ept_record r;

	ck_assert_int_eq(ept_records_next(records, &r), 0);
	ck_assert_uint_eq(ept_records_lost(records), lost);
}

/* --- what a fault leaves ------------------------------------------------------------------ */

static struct vm vm_logged(uint64_t pages)
{
	struct ept_config config = one_thread;

	config.log = true;
	return vm_file_with(&config, pages * PAGE, EPT_FILE_COW);
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
	vm_destroy(&vm);
}
END_TEST

START_TEST(none)
{
	struct vm vm = vm_anon(PAGE);

	ck_assert_int_eq(ept_space_records_fd(vm.space), -1);
	vm_destroy(&vm);
}
END_TEST

/* --- rings -------------------------------------------------------------------------------- */

START_TEST(wraps)
{
	struct ept_fault_log log = new_log();
	struct ept_records *early = reader(log.fd, false);

	put(&log, 0);
	expect_records(early, 0, 1);
	for (uint64_t n = 1; n < SLOTS + 1000; n++)
		put(&log, n);
	struct ept_records *late = reader(log.fd, false), *now = reader(log.fd, true);
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

/* Of four rings the oldest comes first. */
START_TEST(in_order)
{
	struct ept_fault_log log = new_log();
	struct ept_records *records = reader(log.fd, false);

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
	struct ept_records *records = reader(log.fd, false);

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

/* Pages of the file are there when they are written; a full one has 8 MiB and its header. */
START_TEST(takes_memory)
{
	struct ept_fault_log log = new_log();
	struct stat st;

	ck_assert_int_eq(fstat(log.fd, &st), 0);
	ck_assert_int_eq(st.st_blocks * 512, EPT_PAGE_SIZE);
	for (uint64_t n = 0; n < 65; n++)
		put(&log, n);
	ck_assert_int_eq(fstat(log.fd, &st), 0);
	ck_assert_int_eq(st.st_blocks * 512, 3 * EPT_PAGE_SIZE);
	ck_assert_int_eq(st.st_size, (8 << 20) + EPT_PAGE_SIZE);
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

static struct ept_log_slot *slot_of(struct ept_fault_log *log, uint64_t ticket)
{
	return &log->map->slot[0][ticket % SLOTS];
}

/* Its thread took the ticket and does not run: what is behind it comes when it is given up. */
START_TEST(unfinished)
{
	struct ept_fault_log log = new_log();
	struct ept_records *records = reader(log.fd, false);
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
	struct ept_records *records = reader(log.fd, false);
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

/* --- many at once ------------------------------------------------------------------------------
 */

#define THREADS	   8
#define PER_THREAD 20000UL

struct writer {
	struct ept_fault_log *log;
	uint64_t first;
	pthread_t thread;
};

static void *write_records(void *arg)
{
	struct writer *w = arg;

	ept_fault_log_choose((unsigned)(w->first / PER_THREAD));
	for (uint64_t n = w->first; n < w->first + PER_THREAD; n++)
		put(w->log, n);
	return NULL;
}

/* Whole, and none twice. */
static uint64_t take_all(struct ept_records *records, bool *seen)
{
	struct ept_record r;
	uint64_t count = 0;

	for (; ept_records_next(records, &r); count++) {
		ck_assert_uint_le(r.at, THREADS * PER_THREAD);
		ck_assert_msg(is_record_of(&r, r.at - 1), "record %lu is torn", r.at - 1);
		ck_assert(!seen[r.at - 1]);
		seen[r.at - 1] = true;
	}
	return count;
}

START_TEST(eight_threads)
{
	struct ept_fault_log log = new_log();
	struct ept_records *records = reader(log.fd, false);
	bool *seen = calloc(THREADS * PER_THREAD, 1);
	struct writer writers[THREADS];
	uint64_t read = 0;

	for (unsigned i = 0; i < THREADS; i++) {
		writers[i] = (struct writer){.log = &log, .first = i * PER_THREAD};
		pthread_create(&writers[i].thread, NULL, write_records, &writers[i]);
	}
	for (int i = 0; i < 100; i++)
		read += take_all(records, seen);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(writers[i].thread, NULL);
	read += take_all(records, seen);
	ck_assert_uint_eq(read + ept_records_lost(records), THREADS * PER_THREAD);
	ck_assert_uint_ge(read, SLOTS); /* what a ring holds at least is there */
	free(seen);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

static bool enough;

static void *write_on(void *arg)
{
	struct ept_fault_log *log = arg;

	ept_fault_log_choose(0);
	for (uint64_t n = 0; !__atomic_load_n(&enough, __ATOMIC_RELAXED); n++)
		put(log, n);
	return NULL;
}

/* A reader that is slower is where the oldest are overwritten: what it gets is whole. */
START_TEST(overtaken)
{
	struct ept_fault_log log = new_log();
	struct ept_records *records = reader(log.fd, false);
	pthread_t writer;
	struct ept_record r;

	pthread_create(&writer, NULL, write_on, &log);
	for (int i = 0; i < 1000000; i++)
		if (ept_records_next(records, &r))
			ck_assert_msg(is_record_of(&r, r.at - 1), "record %lu is torn", r.at - 1);
	__atomic_store_n(&enough, true, __ATOMIC_RELAXED);
	pthread_join(writer, NULL);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

/* --- files that are no log ------------------------------------------------------------------ */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t random_word(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* As a monitor that was broken out into could pass: one that stays writable. */
static struct ept_fault_log false_log(size_t size, int seals)
{
	struct ept_fault_log log = {.fd = memfd_create("false", MFD_ALLOW_SEALING)};

	ck_assert_int_ge(log.fd, 0);
	ck_assert_int_eq(ftruncate(log.fd, (off_t)size), 0);
	ck_assert_int_eq(fcntl(log.fd, F_ADD_SEALS, seals), 0);
	log.map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, log.fd, 0);
	ck_assert(log.map != MAP_FAILED);
	log.map->magic = EPT_LOG_MAGIC;
	log.map->version = EPT_LOG_VERSION;
	log.map->rings = EPT_LOG_RINGS;
	log.map->slots = EPT_LOG_SLOTS;
	log.map->slot_size = sizeof(struct ept_log_slot);
	return log;
}

static void expect_refused(int fd)
{
	struct ept_records *records;

	ck_assert_int_eq(ept_records_open(fd, false, &records), -EINVAL);
}

START_TEST(no_log)
{
	const size_t size = sizeof(struct ept_log_map);
	struct ept_fault_log log = false_log(size, F_SEAL_SHRINK);
	int file = temp_file(size);
	uint32_t *const numbers[] = {&log.map->version, &log.map->rings, &log.map->slots,
				     &log.map->slot_size, (uint32_t *)&log.map->magic};

	ept_records_close(reader(log.fd, false));
	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		++*numbers[i];
		expect_refused(log.fd);
		--*numbers[i];
	}
	expect_refused(false_log(size, 0).fd); /* it could shrink under its reader */
	expect_refused(false_log(size + EPT_PAGE_SIZE, F_SEAL_SHRINK).fd);
	expect_refused(false_log(size - EPT_PAGE_SIZE, F_SEAL_SHRINK).fd);
	expect_refused(file);
	expect_refused(-1);
	expect_refused(open("/dev/zero", O_RDWR));
	close(file);
}
END_TEST

static void expect_sane(const struct ept_record *r)
{
	ck_assert_uint_lt(r->kase, EPT_NR_CASES);
	ck_assert_uint_lt(r->origin, EPT_NR_ORIGINS);
	ck_assert_uint_le(r->access, EPT_WRITE);
	ck_assert_uint_lt(r->flags, 16);
	ck_assert(r->vcpu < EPT_MAX_VCPUS || r->vcpu == EPT_RECORD_NONE);
	ck_assert_uint_eq(r->gpa % EPT_PAGE_SIZE, 0);
	ck_assert_uint_le(r->at, INT64_MAX);
	ck_assert_uint_le(r->around, r->installed);
	ck_assert_uint_le(r->read_ns, r->done_ns);
	ck_assert_uint_le(r->put_ns, r->done_ns);
	ck_assert(!r->put_ns || r->read_ns <= r->put_ns);
	ck_assert_uint_lt(r->error, 4096);
	ck_assert_uint_eq(r->unused, 0);
}

/* Records with one bit turned, under sequence numbers that are right: refused, or harmless. */
START_TEST(turned_bits)
{
	struct ept_fault_log log = false_log(sizeof(*log.map), F_SEAL_SHRINK);
	struct ept_records *records = reader(log.fd, false);
	struct ept_record r;
	uint64_t given = 0;

	ept_fault_log_choose(0);
	for (uint64_t n = 0; n < SLOTS; n++) {
		uint64_t bit = random_word() % (8 * sizeof(r));

		put(&log, n);
		slot_of(&log, n)->word[bit / 64] ^= 1UL << bit % 64;
	}
	for (; ept_records_next(records, &r); given++)
		expect_sane(&r);
	ck_assert_uint_eq(given + ept_records_lost(records), SLOTS);
	ck_assert_uint_gt(given, 0);
	ck_assert_uint_lt(given, SLOTS);
	ept_records_close(records);
	ept_fault_log_close(&log);
}
END_TEST

static void *scribble(void *arg)
{
	const struct writer *w = arg;
	uint64_t *words = (uint64_t *)w->log->map;

	for (unsigned i = 0; i < 1000000; i++)
		__atomic_store_n(&words[random_word() % (sizeof(*w->log->map) / 8)], random_word(),
				 __ATOMIC_RELAXED);
	return NULL;
}

/* Random bytes, heads among them, and random ones written meanwhile. Each call comes back. */
START_TEST(random_bytes)
{
	struct ept_fault_log log = false_log(sizeof(*log.map), F_SEAL_SHRINK);
	uint64_t *words = (uint64_t *)log.map;
	struct writer writer = {.log = &log};
	struct ept_records *records = reader(log.fd, false);
	struct ept_record r;

	for (size_t i = EPT_PAGE_SIZE / 8; i < sizeof(*log.map) / 8; i++)
		words[i] = random_word();
	for (unsigned i = 0; i < EPT_LOG_RINGS; i++)
		log.map->ring[i].head = i ? random_word() >> i * 16 : 100;
	pthread_create(&writer.thread, NULL, scribble, &writer);
	for (int i = 0; i < 300; i++)
		if (ept_records_next(records, &r))
			expect_sane(&r);
	pthread_join(writer.thread, NULL);
	log.map->ring[0].head = 0; /* back */
	log.map->ring[1].head = UINT64_MAX;
	for (int i = 0; i < 300; i++)
		if (ept_records_next(records, &r))
			expect_sane(&r);
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
	tcase_add_test(tc, in_order);
	tcase_add_test(tc, keeps_up);
	tcase_add_test(tc, takes_memory);
	tcase_add_test(tc, sealed);
	tcase_add_loop_test(tc, unfinished, 0, 2);
	tcase_add_test(tc, taken);
	tcase_add_test(tc, eight_threads);
	tcase_add_test(tc, overtaken);
	tcase_add_test(tc, no_log);
	tcase_add_test(tc, turned_bits);
	tcase_add_test(tc, random_bytes);
	suite_add_tcase(suite, tc);
	return suite;
}
