#include "tests/ept/stress.h"

#include "ept/stats.h"
#include "ept/uffd_compat.h"
#include "tests/ept/records.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 1500U /* of each actor */

struct actor_kind;

struct actor {
	struct world *w;
	const struct actor_kind *kind;
	unsigned number; /* among those of its kind */
	unsigned seed;
	pthread_t thread;
};

static unsigned random_below(struct actor *a, unsigned n)
{
	return (unsigned)rand_r(&a->seed) % n;
}

static bool going(const struct actor *a)
{
	return !__atomic_load_n(&a->w->stop, __ATOMIC_RELAXED);
}

void stress_wrong(struct world *w, const char *what, unsigned where)
{
	fprintf(stderr, "seed %u: %s (%u)\n", w->seed, what, where);
	__atomic_add_fetch(&w->failed, 1, __ATOMIC_RELAXED);
}

/* An answer that only a space that is being stopped may give. */
static bool ended(struct actor *a, int err, const char *what)
{
	if (err && !(err == -ESHUTDOWN && __atomic_load_n(&a->w->stopping, __ATOMIC_ACQUIRE)))
		stress_wrong(a->w, what, (unsigned)-err);
	return err;
}

/* --- the actors ------------------------------------------------------------------- */

static uint64_t file_word(unsigned page, unsigned word)
{
	uint8_t bytes[8];
	uint64_t value;

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = pattern_byte(page * PAGE + word * 8UL + i);
	memcpy(&value, bytes, sizeof(value));
	return value;
}

bool stress_is_right(uint64_t wrote, unsigned vcpu, enum stress_kind kind, unsigned page,
		     uint64_t got)
{
	uint64_t before = kind == STRESS_ANON ? 0 : file_word(page, STRESS_WORD(vcpu));

	if (kind == STRESS_ANON && page >= STRESS_GIVEN && got == 0)
		return true;
	return got == (wrote ? wrote : before);
}

static bool guest_step(struct actor *a, uint64_t i)
{
	struct world *w = a->w;
	enum stress_kind kind = (enum stress_kind)random_below(a, STRESS_KINDS);
	unsigned page = random_below(a, STRESS_PAGES);
	bool write = kind != STRESS_RO && random_below(a, 2);
	uint64_t value = i << 8 | a->number, *wrote = &w->wrote[a->number][kind][page];

	if (!stress_touch(w, a->number, kind, page, STRESS_WORD(a->number),
			  write ? EPT_WRITE : EPT_READ, &value))
		return false;
	if (write)
		*wrote = value;
	else if (!stress_is_right(*wrote, a->number, kind, page, value))
		stress_wrong(w, "a guest's word is not what it wrote, page", page);
	return true;
}

/*
 * Reads, and writes back as it was, what nobody else touches: the last word of a page and
 * the first of the next, or two in the middle.
 */
static bool device_step(struct actor *a, uint64_t i)
{
	enum stress_kind kind = (enum stress_kind)random_below(a, STRESS_KINDS);
	unsigned page = random_below(a, STRESS_PAGES - 1);
	uint64_t at = (page + 1) * PAGE - (a->number ? PAGE / 2 : 8), words[2];

	(void)i;
	if (ended(a, stress_device(a->w, kind, at, words, EPT_READ), "a device reads"))
		return false;
	if (kind == STRESS_ANON ? words[0] || words[1] : !has_pattern(words, at, sizeof(words)))
		stress_wrong(a->w, "a device read what nobody wrote, page", page);
	return kind == STRESS_RO || random_below(a, 4) ||
	       !ended(a, stress_device(a->w, kind, at, words, EPT_WRITE), "a device writes");
}

static bool write_back_step(struct actor *a, uint64_t i)
{
	(void)i;
	return !ended(a, ept_area_sync(a->w->area[STRESS_SHARED]), "sync");
}

static bool give_back_step(struct actor *a, uint64_t i)
{
	const struct ept_area *area = a->w->area[STRESS_ANON];
	unsigned first = STRESS_GIVEN + random_below(a, STRESS_PAGES - STRESS_GIVEN);
	unsigned left = STRESS_PAGES - first, pages = 1 + random_below(a, left < 20 ? left : 20);
	uint64_t given;

	(void)i;
	return !ended(a,
		      ept_discard_anonymous(a->w->space, GPA(area->start + first * PAGE),
					    pages * PAGE, &given),
		      "discard");
}

static bool look_step(struct actor *a, uint64_t i)
{
	struct ept_area_info info;

	(void)i;
	ept_space_check(a->w->space);
	ept_space_check_files(a->w->space);
	ept_area_info(a->w->area[random_below(a, STRESS_KINDS)], &info);
	return true;
}

static bool guests_go_on(const struct world *w)
{
	return __atomic_load_n(&w->guests, __ATOMIC_RELAXED) && !ept_dying(w->space);
}

/* What is in the pool goes to the swap file, whether it has to or not. */
static bool swap_step(struct actor *a, uint64_t i)
{
	struct ept_reclaim *r = &a->w->space->reclaim;

	(void)i;
	while (!__atomic_load_n(&r->pool.pages, __ATOMIC_RELAXED) && guests_go_on(a->w))
		sched_yield();
	ept_work_begin(a->w->space);
	pthread_mutex_lock(&r->work);
	ept_reclaim_write(a->w->space, 0);
	pthread_mutex_unlock(&r->work);
	ept_work_end(a->w->space);
	return true;
}

static bool hold_step(struct actor *a, uint64_t i)
{
	(void)i;
	return stress_hold(a->w);
}

static bool snapshot_step(struct actor *a, uint64_t i)
{
	(void)i;
	return stress_snapshot(a->w);
}

static const struct actor_kind {
	bool (*step)(struct actor *a, uint64_t i); /* false: the space was stopped */
	unsigned count, rounds;
	bool limited; /* only under a memory limit */
	bool no_rest; /* goes on while others take a rest for it, or may not */
} kinds[] = {
    {guest_step, STRESS_VCPUS, ROUNDS, false, false}, {device_step, 2, ROUNDS, false, false},
    {write_back_step, 1, ROUNDS / 20, false, false},  {give_back_step, 1, ROUNDS / 4, false, false},
    {look_step, 1, ROUNDS / 4, false, false},	      {swap_step, 1, ROUNDS / 20, true, true},
    {hold_step, 1, ROUNDS / 50, false, true},	      {snapshot_step, 1, 3, false, true},
};

#define NR_KINDS   (sizeof(kinds) / sizeof(kinds[0]))
#define MAX_ACTORS 16

static void *act(void *arg)
{
	struct actor *a = arg;
	const struct actor_kind *kind = a->kind;
	bool goes_on = true;

	if (kind->step == guest_step)
		ept_vcpu_bind(a->w->space, a->number, gettid());
	for (uint64_t i = 1; i <= kind->rounds && goes_on && going(a); i++) {
		if (!kind->no_rest)
			pthread_rwlock_rdlock(&a->w->steps);
		goes_on = kind->step(a, i);
		if (!kind->no_rest)
			pthread_rwlock_unlock(&a->w->steps);
	}
	if (kind->step == guest_step)
		__atomic_sub_fetch(&a->w->guests, 1, __ATOMIC_RELAXED);
	return NULL;
}

/* --- the stage --------------------------------------------------------------------- */

/* Nobody faults or reclaims meanwhile, and all see them afterwards. */
static void set_marks(struct world *w, uint64_t low, uint64_t high, uint64_t hard)
{
	struct ept_reclaim *r = &w->space->reclaim;

	ck_assert_int_eq(ept_space_hold(w->space, 600000), 0);
	pthread_mutex_lock(&r->work);
	r->low = low;
	r->high = high;
	r->hard = hard;
	pthread_mutex_unlock(&r->work);
	ept_space_release(w->space);
}

/* A third of what there is to touch. Some hosts cannot move pages. */
static void limit(struct world *w)
{
	struct ept_reclaim *r = &w->space->reclaim;

	r->limit = STRESS_KINDS * STRESS_PAGES / 3;
	r->window = 4;
	r->ring.size = 64;
}

static void build(struct world *w)
{
	static const enum ept_file_mode modes[] = {[STRESS_COW] = EPT_FILE_COW,
						   [STRESS_SHARED] = EPT_FILE_SHARED,
						   [STRESS_RO] = EPT_FILE_RO};
	struct ept_swap_file swap = {.fd = temp_file(0), .name = "swap", .size = 1UL << 30};
	struct ept_config config = {
	    .vm_name = "stress", .vcpus = STRESS_VCPUS, .fault_timeout = 60, .log = true};
	pthread_rwlockattr_t attr;

	pthread_rwlockattr_init(&attr);
	pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&w->steps, &attr);
	config.memory_limit = w->limited ? EPT_LIMIT_FLOOR : 0;
	config.swap = w->limited ? &swap : NULL;
	ck_assert_int_eq(ept_space_create(&config, &w->space), 0);
	close(swap.fd);
	ept_fault_log_close(&w->space->log); /* a limit's is too short for all faults */
	ck_assert_int_eq(ept_fault_log_open(&w->space->log, 0), 0);
	if (w->seed % 3 == 0)
		w->space->installer.features &= ~(uint64_t)UFFD_FEATURE_MOVE;
	if (w->limited)
		limit(w);
	for (int k = 0; k < STRESS_KINDS; k++) {
		struct ept_object *obj = NULL;

		w->fd[k] = k == STRESS_ANON ? -1 : temp_file(STRESS_PAGES * PAGE);
		if (k != STRESS_ANON)
			ck_assert_int_eq(ept_object_file(w->fd[k], "disk.img", 0,
							 STRESS_PAGES * PAGE, modes[k], &obj),
					 0);
		/* One behind the other: where two meet, both are in one table of the mirror. */
		ck_assert_int_eq(ept_area_add(w->space, "a", GPA(k * STRESS_PAGES * PAGE),
					      STRESS_PAGES * PAGE, obj, &w->area[k]),
				 0);
		ept_object_put(obj);
		for (unsigned v = 0; v < STRESS_VCPUS; v++)
			w->wrote[v][k] = calloc(STRESS_PAGES, sizeof(uint64_t));
	}
	ck_assert_int_eq(ept_space_start(w->space), 0);
	if (w->limited)
		set_marks(w, w->space->reclaim.limit - 96, w->space->reclaim.limit - 64,
			  w->space->reclaim.limit - 32);
	for (int k = 0; k < STRESS_KINDS; k++)
		w->hva[k] = ept_hva(w->area[k], w->area[k]->start);
}

/* What holds on either installer once all actors have ended. */
static void check_shared_file(struct world *w)
{
	struct ept_area_info info;

	ck_assert_int_eq(ept_area_sync(w->area[STRESS_SHARED]), 0);
	ept_area_info(w->area[STRESS_SHARED], &info);
	ck_assert_uint_eq(info.dirty, 0);
	for (unsigned page = 0; page < STRESS_PAGES; page++)
		for (unsigned v = 0; v < STRESS_VCPUS; v++) {
			uint64_t wrote = w->wrote[v][STRESS_SHARED][page];

			if (wrote)
				ck_assert(file_has(w->fd[STRESS_SHARED],
						   page * PAGE + STRESS_WORD(v) * 8UL, &wrote,
						   sizeof(wrote)));
		}
}

static void expect_count(struct world *w, uint64_t is, uint64_t counted, const char *what)
{
	if (is != counted)
		stress_wrong(w, what, (unsigned)counted);
}

/* What counts of a cache is what is in it, once nothing is being read. */
static void check_cache(struct world *w, struct ept_object *obj)
{
	uint64_t cached = 0;

	pthread_mutex_lock(&obj->lock);
	for (uint64_t page = 0; page < STRESS_PAGES; page++)
		cached += ept_object_cached(obj, page);
	if (!obj->reads) {
		expect_count(w, cached, obj->nr_cached, "cached pages");
		expect_count(w, 0, obj->nr_coming, "pages that are coming");
	}
	pthread_mutex_unlock(&obj->lock);
}

void stress_check_mirror(struct world *w)
{
	const struct ept_reclaim *r = &w->space->reclaim;
	uint64_t of[EPT_NR_PTES] = {0}, own = 0;

	for (int k = 0; k < STRESS_KINDS; k++) {
		uint64_t resident = 0, dirty = 0;

		for (unsigned page = 0; page < STRESS_PAGES; page++) {
			gpa_t gpa = GPA(w->area[k]->start + page * PAGE);
			struct ept_leaf *leaf = ept_mirror_find(&w->space->mirror, gpa);
			enum ept_pte pte =
			    leaf ? ept_pte_get(leaf, ept_leaf_index(gpa)) : EPT_PTE_NONE;

			of[pte]++;
			own += ept_pte_own(pte);
			resident += ept_pte_own(pte) || pte == EPT_PTE_FILE ||
				    pte == EPT_PTE_CLEAN || pte == EPT_PTE_DIRTY;
			dirty += pte == EPT_PTE_DIRTY;
		}
		expect_count(w, w->area[k]->resident, resident, "resident pages");
		expect_count(w, w->area[k]->dirty, dirty, "dirty pages");
		if (w->area[k]->obj)
			check_cache(w, w->area[k]->obj);
	}
	expect_count(w, 0, of[EPT_PTE_TRANSIT], "pages in transit");
	expect_count(w, r->own, own, "own pages");
	expect_count(w, r->pool.pages, of[EPT_PTE_POOLED], "pages in the pool");
	expect_count(w, r->swap.pages, of[EPT_PTE_SWAPPED], "pages in the swap file");
}

/* A page of a file is read once, and again each time it was dropped; but for write-back. */
static void check_reads(const struct world *w)
{
	struct ept_reclaim_stats s;
	uint64_t most = 3UL * STRESS_PAGES * PAGE;

	if (ept_reclaim_stats(w->space, &s))
		most += s.dropped * PAGE + s.read_bytes;
	if (w->space->installer.atomic_protect)
		ck_assert_uint_le(inject_get(bytes_read), most);
}

/* It did what it is here for: pages left, by both ways, and came back. */
static void check_reclaim(const struct world *w)
{
	struct ept_reclaim_stats s;

	if (!ept_reclaim_stats(w->space, &s))
		return;
	ck_assert_uint_gt(s.sampled, STRESS_PAGES);
	ck_assert_uint_gt(s.compressed, 0);
	ck_assert_uint_gt(s.written, 0);
	ck_assert_uint_gt(s.refaults, 0);
	ck_assert_uint_gt(s.dropped, 0);
}

/* Who waited is woken before its fault is counted. */
static void settle(const struct world *w)
{
	while (event_faults(w->space) < events(w->space))
		usleep(200);
}

static void destroy(struct world *w)
{
	ept_space_stop(w->space);
	ck_assert_ptr_null(w->space->pending);
	ck_assert_uint_eq(event_faults(w->space), events(w->space));
	expect_records_are_counters(w->space);
	ept_space_destroy(w->space);
	pthread_rwlock_destroy(&w->steps);
	for (int k = 0; k < STRESS_KINDS; k++) {
		for (unsigned v = 0; v < STRESS_VCPUS; v++)
			free(w->wrote[v][k]);
		if (w->fd[k] >= 0)
			close(w->fd[k]);
	}
}

/* The program's own. */
static void (*check)(struct world *w);

static void play(unsigned seed, bool limited, bool stop_under_them)
{
	struct world w = {.seed = seed, .limited = limited, .guests = STRESS_VCPUS};
	const struct ept_failure *failure;
	struct actor cast[MAX_ACTORS];
	unsigned n = 0;

	build(&w);
	inject_set(eintr_every, 7);
	inject_set(pread_max, 10000);
	inject_set(pread_delay_us, seed % 2 ? 50 : 0);
	for (unsigned k = 0; k < NR_KINDS; k++)
		for (unsigned i = 0; i < kinds[k].count && (limited || !kinds[k].limited);
		     i++, n++) {
			cast[n] = (struct actor){
			    .w = &w, .kind = &kinds[k], .number = i, .seed = seed * 64 + n};
			pthread_create(&cast[n].thread, NULL, act, &cast[n]);
		}
	if (stop_under_them) {
		usleep(5000 + seed % 16 * 3000); /* wherever they are by then */
		__atomic_store_n(&w.stopping, true, __ATOMIC_RELEASE);
		__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
		ept_space_stop(w.space);
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(cast[i].thread, NULL);
	failure = ept_space_failure(w.space);
	ck_assert_msg(!failure, "%s", failure ? failure->message : "");
	if (!stop_under_them) {
		settle(&w);
		check_reads(&w);
		check_reclaim(&w);
		if (limited) /* from here on there is room for all */
			set_marks(&w, UINT32_MAX, UINT32_MAX, UINT32_MAX);
		check_shared_file(&w);
		stress_check_mirror(&w);
		check(&w);
	}
	ck_assert_uint_eq(w.failed, 0);
	destroy(&w);
}

START_TEST(all_at_once)
{
	play((unsigned)_i + 1, false, false);
}
END_TEST

START_TEST(stopped_under_them)
{
	play((unsigned)_i + 1, _i % 2, true);
}
END_TEST

START_TEST(under_a_limit)
{
	play((unsigned)_i + 1, true, false);
}
END_TEST

Suite *stress_suite(const char *name, void (*program_check)(struct world *w), bool limits)
{
	Suite *suite = suite_create(name);
	TCase *tc = tcase_create("stress");

	check = program_check;
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, all_at_once, 0, 6);
	if (limits)
		tcase_add_loop_test(tc, under_a_limit, 0, 6);
	for (int i = 0; i < 12; i += limits ? 12 : 2) /* every second has a limit */
		tcase_add_loop_test(tc, stopped_under_them, i, limits ? 12 : i + 1);
	suite_add_tcase(suite, tc);
	return suite;
}
