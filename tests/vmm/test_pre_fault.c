/* What KVM is given ahead of the guest, against a KVM that only notes. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ept/snapshot.h"
#include "ept/working_set.h"
#include "tests/vmm/suites.h"
#include "vmm/pre_fault.h"

#define PAGES	512UL
#define RUN	40UL /* pages in a row, from 100 on; and 3, and 300 */
#define SET_IDS "pre-fault test!"

static const uint8_t id[16] = SET_IDS;
static bool given[PAGES];
static unsigned calls, allowed;
static int error;	   /* of all calls */
static uint64_t at_a_time; /* bytes that a call deals with */

static int note(int fd, struct pre_fault_range *range)
{
	uint64_t bytes = range->size < at_a_time ? range->size : at_a_time;

	ck_assert_uint_le(range->size, PRE_FAULT_PIECE);
	ck_assert_int_eq(fd, 77);
	ck_assert_uint_eq(range->flags, 0);
	calls++;
	if (error) {
		errno = error;
		return -1;
	}
	for (uint64_t page = range->gpa / EPT_PAGE_SIZE; bytes; page++, bytes -= EPT_PAGE_SIZE) {
		ck_assert(page < PAGES && !given[page]);
		given[page] = true;
		range->gpa += EPT_PAGE_SIZE;
		range->size -= EPT_PAGE_SIZE;
	}
	return 0;
}

static bool while_allowed(void *ctx)
{
	(void)ctx;
	return allowed && allowed-- > 0;
}

static bool in_set(uint64_t page)
{
	return page == 3 || page == 300 || (page >= 100 && page < 100 + RUN);
}

struct rig {
	struct ept_snapshot *snapshot;
	struct ept_working_set *set;
	struct ept_space *space;
	int memory, index, set_fd;
};

static int file(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static struct ept_space *space_with(const struct rig *r, enum ept_engine engine)
{
	const struct ept_config config = {.vm_name = "test", .vcpus = 1, .engine = engine};
	char why[300] = "";
	struct ept_space *space;

	ck_assert_int_eq(ept_space_create(&config, &space), 0);
	ck_assert_int_eq(ept_area_add(space, "ram", GPA(0), PAGES * EPT_PAGE_SIZE, NULL, NULL), 0);
	if (r->snapshot)
		ck_assert_msg(!ept_space_restore(space, &r->snapshot, 1, why, sizeof(why)), "%s",
			      why);
	return space;
}

/* A snapshot of pages that are not zeros, and a set of some of them. */
static void record(struct rig *r)
{
	struct ept_snapshot_options options = {.memory_fd = r->memory, .index_fd = r->index};
	struct ept_snapshot_info info;
	struct ept_space *space = space_with(r, EPT_ENGINE_KERNEL);
	struct ept_slot slot;
	char why[300], c;

	memcpy(options.id, id, sizeof(id));
	ck_assert_int_eq(ept_space_start(space), 0);
	ept_space_slots(space, &slot, 1);
	memset(slot.hva, 5, slot.size);
	ck_assert_int_eq(ept_snapshot_write(space, &options, &info, why, sizeof(why)), 0);
	ept_space_destroy(space);
	ck_assert_int_eq(ept_snapshot_open(r->memory, r->index, "s", &r->snapshot, why, 300), 0);
	space = space_with(r, EPT_ENGINE_HANDLER);
	ck_assert_int_eq(ept_space_record(space), 0);
	ck_assert_int_eq(ept_space_start(space), 0);
	for (uint64_t page = 0; page < PAGES; page++)
		if (in_set(page))
			ck_assert_int_eq(
			    ept_read(space, GPA(page * EPT_PAGE_SIZE), &c, 1, EPT_ORIGIN_DEVICE),
			    0);
	ck_assert_int_eq(ept_working_set_save(space, id, r->set_fd), RUN + 2);
	ept_space_destroy(space);
}

/* False: this host has no userfaultfd. */
static bool set_up(struct rig *r)
{
	struct ept_host host;

	ept_host_probe(&host);
	if (!host.usable)
		return false;
	*r = (struct rig){.memory = file("memory"), .index = file("index"), .set_fd = file("set")};
	record(r);
	ck_assert_int_eq(ept_working_set_open(r->set_fd, id, &r->set), 0);
	r->space = space_with(r, EPT_ENGINE_HANDLER);
	ck_assert_int_eq(ept_space_prefetch(r->space, r->set), 0);
	ck_assert_int_eq(ept_space_start(r->space), 0);
	ck_assert_int_eq(ept_space_prefetch_wait(r->space, 0), 0);
	return true;
}

static void tear_down(struct rig *r)
{
	ept_space_destroy(r->space);
	ept_working_set_close(r->set);
	ept_snapshot_close(r->snapshot);
	close(r->memory);
	close(r->index);
	close(r->set_fd);
}

/* Each page of the set once, and no other; neighbours by pieces, or by what KVM takes. */
START_TEST(gives_the_set)
{
	struct pre_fault p = {.vcpu_fd = 77, .call = note, .goes_on = while_allowed};
	struct rig r;

	if (!set_up(&r))
		return;
	at_a_time = _i ? 8 * EPT_PAGE_SIZE : PAGES * EPT_PAGE_SIZE;
	allowed = 1000;
	pre_fault_set(&p, r.space);
	for (uint64_t page = 0; page < PAGES; page++)
		ck_assert_int_eq(given[page], in_set(page));
	ck_assert_uint_eq(p.pages, RUN + 2);
	ck_assert_uint_eq(calls, _i ? 7 : 5);
	tear_down(&r);
}
END_TEST

/* What a set lies of: half a page, an address that no area has. The others are given. */
START_TEST(not_what_is_none)
{
	struct pre_fault p = {.vcpu_fd = 77, .call = note, .goes_on = while_allowed};
	struct rig r;

	if (!set_up(&r))
		return;
	at_a_time = PAGES * EPT_PAGE_SIZE;
	allowed = 1000;
	r.set->gpa[0] += EPT_PAGE_SIZE / 2;
	r.set->gpa[RUN + 1] += 1UL << EPT_GPA_BITS;
	pre_fault_set(&p, r.space);
	for (uint64_t page = 0; page < PAGES; page++)
		ck_assert_int_eq(given[page], page != 3 && page != 300 && in_set(page));
	tear_down(&r);
}
END_TEST

/* A refusal, a kick, an answer that gets nowhere, or a no: it ends, and is no error. */
START_TEST(ends_early)
{
	static const struct {
		int error;
		uint64_t at_a_time;
		unsigned allowed, calls;
	} cases[] = {{EOPNOTSUPP, 0, 1000, 1},
		     {EINTR, 0, 1000, 1},
		     {0, 0, 1000, 1},
		     {0, EPT_PAGE_SIZE, 0, 0},
		     {0, EPT_PAGE_SIZE, 4, 2}};
	struct pre_fault p = {.vcpu_fd = 77, .call = note, .goes_on = while_allowed};
	struct rig r;

	if (!set_up(&r))
		return;
	error = cases[_i].error;
	at_a_time = cases[_i].at_a_time;
	allowed = cases[_i].allowed;
	pre_fault_set(&p, r.space);
	ck_assert_uint_eq(calls, cases[_i].calls);
	ck_assert_uint_eq(p.pages, at_a_time ? calls : 0);
	tear_down(&r);
}
END_TEST

/* No /dev/kvm, no vCPU: the real call says so. */
START_TEST(not_of_kvm)
{
	struct pre_fault_range range = {.size = EPT_PAGE_SIZE};
	int fd = file("no vCPU");

	ck_assert(!pre_fault_can(fd));
	ck_assert_int_eq(pre_fault_call(fd, &range), -1);
	ck_assert_int_eq(errno, ENOTTY);
	ck_assert_uint_eq(sizeof(range), 64);
	close(fd);
}
END_TEST

Suite *pre_fault_suite(void)
{
	Suite *suite = suite_create("vmm: pre-fault");
	TCase *tc = tcase_create("pre-fault");

	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, gives_the_set, 0, 2);
	tcase_add_test(tc, not_what_is_none);
	tcase_add_loop_test(tc, ends_early, 0, 5);
	tcase_add_test(tc, not_of_kvm);
	suite_add_tcase(suite, tc);
	return suite;
}
