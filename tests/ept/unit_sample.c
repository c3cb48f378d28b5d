/* Which faults are sampled, and what becomes of the answers. */
#include "ept/fault.h"
#include "ept/record.h"
#include "ept/stats.h"
#include "tests/ept/unit_suites.h"
#include "tests/ept/util.h"

#define RIP 0xffffffff81000000UL

static struct told {
	struct ept_space *space;
	bool answers;
	unsigned kicks;
	uint64_t resident; /* pages, at the last kick */
} told;

/* As the vCPU's thread would, at once. */
static void on_kick(pid_t tid)
{
	const unsigned vcpu = 0;

	ck_assert_int_eq(tid, gettid());
	told.kicks++;
	told.resident = told.space->areas[0]->resident;
	ck_assert(ept_vcpu_asked(told.space, vcpu));
	if (told.answers)
		ept_vcpu_sampled(told.space, vcpu, RIP + told.kicks, 3, true);
}

static struct vm vm_sampled(unsigned every, bool answers)
{
	struct ept_config config = one_thread;

	config.log = true;
	config.sample_every = every;
	config.kick = on_kick;
	struct vm vm = vm_create(&config, -1, 0, 64 * PAGE, EPT_FILE_RO);
	told = (struct told){.space = vm.space, .answers = answers};
	return vm;
}

static void event(const struct vm *vm, uint64_t page, enum ept_access access, unsigned flags)
{
	struct ept_request req = {.gpa = GPA(page * PAGE),
				  .access = access,
				  .origin = EPT_ORIGIN_VCPU,
				  .vcpu = 1,
				  .flags = EPT_FAULT_EVENT | flags,
				  .picked_up = ept_now()};
	struct ept_resolution res;

	__atomic_fetch_add(&vm->space->events[EPT_ORIGIN_VCPU], 1, __ATOMIC_RELAXED);
	handle_ept_fault(vm->space, &req, &res);
	__atomic_fetch_add(&vm->space->ended[EPT_ORIGIN_VCPU], 1, __ATOMIC_RELEASE);
}

static void expect(const struct vm *vm, uint64_t faults, uint64_t kicks, uint64_t taken,
		   uint64_t refaults)
{
	struct ept_sampling_stats s;

	ck_assert(ept_space_sampling(vm->space, &s));
	ck_assert_uint_eq(s.faults, faults);
	ck_assert_uint_eq(s.kicks, kicks);
	ck_assert_uint_eq(s.taken, taken);
	ck_assert_uint_eq(s.refaults, refaults);
}

/* Before its page is in, and what the vCPU says is in the log. */
START_TEST(one_in_three)
{
	struct vm vm = vm_sampled(3, true);
	struct ept_records *records;
	struct ept_sample sample;

	for (uint64_t page = 0; page < 10; page++) {
		event(&vm, page, EPT_WRITE, 0);
		ck_assert_uint_eq(told.kicks, (page + 1) / 3);
		ck_assert_uint_eq(told.resident, told.kicks ? 3 * told.kicks - 1 : 0);
	}
	expect(&vm, 10, 3, 3, 0);
	ck_assert_int_eq(ept_records_open(ept_space_records_fd(vm.space), false, &records), 0);
	for (uint64_t i = 1; i <= 3; i++) {
		ck_assert_int_eq(ept_samples_next(records, &sample), 1);
		ck_assert_uint_eq(sample.gpa, (3 * i - 1) * PAGE);
		ck_assert_uint_eq(sample.rip, RIP + i);
		ck_assert_uint_eq(sample.cpl, 3);
		ck_assert_uint_eq(sample.exact, 1);
		ck_assert_uint_eq(sample.access, EPT_WRITE);
	}
	ck_assert_int_eq(ept_samples_next(records, &sample), 0);
	ck_assert_uint_eq(ept_samples_lost(records), 0);
	ept_records_close(records);
	vm_destroy(&vm);
}
END_TEST

/* The same event at once again is the kick's doing; another one of the page is a fault. */
START_TEST(refaults)
{
	struct vm vm = vm_sampled(1, true);

	event(&vm, 1, EPT_WRITE, 0);
	event(&vm, 1, EPT_WRITE, 0);
	event(&vm, 1, EPT_WRITE, 0);
	expect(&vm, 1, 1, 1, 2);
	event(&vm, 2, EPT_READ, 0);
	event(&vm, 2, EPT_WRITE, EPT_FAULT_PROTECT);
	expect(&vm, 3, 3, 3, 2);
	event(&vm, 1, EPT_WRITE, 0); /* late, and not the last one */
	event(&vm, 2, EPT_WRITE, EPT_FAULT_PROTECT);
	expect(&vm, 3, 3, 3, 2);
	vm_destroy(&vm);
}
END_TEST

/* A vCPU that has not answered is not asked again; one that enters anew stands elsewhere. */
START_TEST(no_answer)
{
	struct vm vm = vm_sampled(1, false);

	event(&vm, 1, EPT_WRITE, 0);
	event(&vm, 2, EPT_WRITE, 0);
	ck_assert_uint_eq(told.kicks, 1);
	ept_vcpu_enters(vm.space, 0);
	ck_assert(!ept_vcpu_asked(vm.space, 0));
	event(&vm, 3, EPT_WRITE, 0);
	ck_assert_uint_eq(told.kicks, 2);
	expect(&vm, 3, 3, 0, 0);
	vm_destroy(&vm);
}
END_TEST

/* A sample with one bit turned is refused, or harmless; more than the ring holds are lost. */
START_TEST(hostile)
{
	struct vm vm = vm_sampled(1, true);
	struct ept_fault_log *log = &vm.space->log;
	const struct ept_sample good = {.at = 1, .gpa = PAGE, .cpl = 3, .exact = 1};
	struct ept_records *records;
	struct ept_sample sample;
	uint64_t given = 0;

	ck_assert_int_eq(ept_records_open(ept_space_records_fd(vm.space), false, &records), 0);
	for (unsigned n = 0; n < EPT_LOG_SAMPLES + 5; n++) {
		unsigned bit = n % (8 * sizeof(good));
		ept_fault_log_put_sample(log, &good);
		log->map->sample[n % EPT_LOG_SAMPLES].word[bit / 64] ^= 1UL << bit % 64;
	}
	for (; ept_samples_next(records, &sample); given++) {
		ck_assert_uint_eq(sample.gpa % PAGE, 0);
		ck_assert(sample.at <= INT64_MAX && sample.vcpu < EPT_MAX_VCPUS);
		ck_assert(sample.access <= EPT_WRITE && sample.cpl <= 3 && sample.exact <= 1);
		ck_assert(!sample.unused[0] && !sample.more[0] && !sample.more[2]);
	}
	ck_assert_uint_eq(given + ept_samples_lost(records), EPT_LOG_SAMPLES + 5);
	ck_assert_uint_gt(given, 0);
	ck_assert_uint_gt(ept_samples_lost(records), 5);
	ept_records_close(records);
	vm_destroy(&vm);
}
END_TEST

Suite *suite_sample(void)
{
	Suite *suite = suite_create("ept: sample");
	TCase *tc = tcase_create("sample");

	tcase_add_test(tc, one_in_three);
	tcase_add_test(tc, refaults);
	tcase_add_test(tc, no_answer);
	tcase_add_test(tc, hostile);
	suite_add_tcase(suite, tc);
	return suite;
}
