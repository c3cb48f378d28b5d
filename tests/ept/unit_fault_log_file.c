/* The fault log under many threads at once, and a file that nobody can trust. */
#include "tests/ept/fault_log_rig.h"
#include "tests/ept/unit_suites.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>

/* --- many at once ---------------------------------------------------------------------- */

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
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);
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
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);
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
	log.map->slots = log.slots = EPT_LOG_SLOTS;
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

	ept_records_close(reader(ept_fault_log_fd(&log), false));
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
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);
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
	struct ept_records *records = reader(ept_fault_log_fd(&log), false);
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

Suite *suite_fault_log_file(void)
{
	Suite *suite = suite_create("ept: fault log file");
	TCase *tc = tcase_create("fault log file");

	tcase_add_test(tc, eight_threads);
	tcase_add_test(tc, overtaken);
	tcase_add_test(tc, no_log);
	tcase_add_test(tc, turned_bits);
	tcase_add_test(tc, random_bytes);
	suite_add_tcase(suite, tc);
	return suite;
}
