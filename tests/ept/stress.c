#include "tests/ept/stress.h"

#include <stdio.h>
#include <stdlib.h>

#define ROUNDS 1500U /* of each actor */

struct actor {
	struct world *w;
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

/* What a guest must find in its own word. Anonymous memory may have been given back. */
static void check_own(struct actor *a, enum stress_kind kind, unsigned page, uint64_t got)
{
	uint64_t wrote = a->w->wrote[a->number][kind][page];
	uint64_t before = kind == STRESS_ANON ? 0 : file_word(page, STRESS_WORD(a->number));

	if (kind == STRESS_ANON && got == 0)
		return;
	if (got != (wrote ? wrote : before))
		stress_wrong(a->w, "a guest's word is not what it wrote, page", page);
}

static void *guest(void *arg)
{
	struct actor *a = arg;
	struct world *w = a->w;

	ept_vcpu_bind(w->space, a->number, gettid());
	for (uint64_t i = 1; i <= ROUNDS && going(a); i++) {
		enum stress_kind kind = (enum stress_kind)random_below(a, STRESS_KINDS);
		unsigned page = random_below(a, STRESS_PAGES);
		bool write = kind != STRESS_RO && random_below(a, 2);
		uint64_t value = i << 8 | a->number;

		if (!stress_touch(w, a->number, kind, page, STRESS_WORD(a->number),
				  write ? EPT_WRITE : EPT_READ, &value))
			break;
		if (write)
			w->wrote[a->number][kind][page] = value;
		else
			check_own(a, kind, page, value);
	}
	return NULL;
}

/*
 * Reads, and writes back as it was, what nobody else touches: the last word of a page and
 * the first of the next, or two in the middle.
 */
static void *device(void *arg)
{
	struct actor *a = arg;

	for (unsigned i = 0; i < ROUNDS && going(a); i++) {
		enum stress_kind kind = (enum stress_kind)random_below(a, STRESS_KINDS);
		unsigned page = random_below(a, STRESS_PAGES - 1);
		uint64_t at = (page + 1) * PAGE - (a->number ? PAGE / 2 : 8);
		uint8_t buf[16];
		gpa_t gpa = GPA(a->w->area[kind]->start + at);

		if (ended(a, ept_read(a->w->space, gpa, buf, sizeof(buf), EPT_ORIGIN_DEVICE),
			  "ept_read"))
			break;
		if (kind != STRESS_ANON && !has_pattern(buf, at, sizeof(buf)))
			stress_wrong(a->w, "a device read what is not in the file, page", page);
		if (kind != STRESS_RO && random_below(a, 4) == 0 &&
		    ended(a, ept_write(a->w->space, gpa, buf, sizeof(buf), EPT_ORIGIN_DEVICE),
			  "ept_write"))
			break;
	}
	return NULL;
}

static void *writer_back(void *arg)
{
	struct actor *a = arg;

	for (unsigned i = 0; i < ROUNDS / 20 && going(a); i++)
		ended(a, ept_area_sync(a->w->area[STRESS_SHARED]), "sync");
	return NULL;
}

static void *giver_back(void *arg)
{
	struct actor *a = arg;
	const struct ept_area *area = a->w->area[STRESS_ANON];

	for (unsigned i = 0; i < ROUNDS / 4 && going(a); i++) {
		unsigned first = random_below(a, STRESS_PAGES);
		unsigned pages =
		    1 + random_below(a, STRESS_PAGES - first < 20 ? STRESS_PAGES - first : 20);
		uint64_t given;

		ended(a,
		      ept_discard_anonymous(a->w->space, GPA(area->start + first * PAGE),
					    pages * PAGE, &given),
		      "discard");
	}
	return NULL;
}

static void *looker(void *arg)
{
	struct actor *a = arg;

	for (unsigned i = 0; i < ROUNDS / 4 && going(a); i++) {
		struct ept_area_info info;

		ept_space_check(a->w->space);
		ept_space_check_files(a->w->space);
		ept_area_info(a->w->area[random_below(a, STRESS_KINDS)], &info);
	}
	return NULL;
}

static const struct {
	void *(*run)(void *);
	unsigned count;
} actors[] = {
    {guest, STRESS_VCPUS}, {device, 2}, {writer_back, 1}, {giver_back, 1}, {looker, 1},
};

#define NR_KINDS   (sizeof(actors) / sizeof(actors[0]))
#define MAX_ACTORS 16

/* --- the stage --------------------------------------------------------------------- */

static void build(struct world *w)
{
	static const enum ept_file_mode modes[] = {[STRESS_COW] = EPT_FILE_COW,
						   [STRESS_SHARED] = EPT_FILE_SHARED,
						   [STRESS_RO] = EPT_FILE_RO};
	struct ept_config config = {
	    .vm_name = "stress", .vcpus = STRESS_VCPUS, .fault_timeout = 60};

	ck_assert_int_eq(ept_space_create(&config, &w->space), 0);
	for (int k = 0; k < STRESS_KINDS; k++) {
		struct ept_object *obj = NULL;

		w->fd[k] = k == STRESS_ANON ? -1 : temp_file(STRESS_PAGES * PAGE);
		if (k != STRESS_ANON)
			ck_assert_int_eq(ept_object_file(w->fd[k], "disk.img", 0,
							 STRESS_PAGES * PAGE, modes[k], &obj),
					 0);
		ck_assert_int_eq(ept_area_add(w->space, "a", GPA((uint64_t)k << 30),
					      STRESS_PAGES * PAGE, obj, &w->area[k]),
				 0);
		ept_object_put(obj);
		for (unsigned v = 0; v < STRESS_VCPUS; v++)
			w->wrote[v][k] = calloc(STRESS_PAGES, sizeof(uint64_t));
	}
	ck_assert_int_eq(ept_space_start(w->space), 0);
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

/* Entries and counts agree. */
static void check_mirror(const struct world *w)
{
	for (int k = 0; k < STRESS_KINDS; k++) {
		uint64_t resident = 0, dirty = 0;
		struct ept_area_info info;

		for (unsigned page = 0; page < STRESS_PAGES; page++) {
			gpa_t gpa = GPA(w->area[k]->start + page * PAGE);
			struct ept_leaf *leaf = ept_mirror_find(&w->space->mirror, gpa);
			enum ept_pte pte =
			    leaf ? ept_pte_get(leaf, ept_leaf_index(gpa)) : EPT_PTE_NONE;

			ck_assert_int_ne(pte, EPT_PTE_TRANSIT);
			resident += pte != EPT_PTE_NONE && pte != EPT_PTE_ZERO;
			dirty += pte == EPT_PTE_DIRTY;
		}
		ept_area_info(w->area[k], &info);
		ck_assert_uint_eq(info.resident, resident * PAGE);
		ck_assert_uint_eq(info.dirty, dirty * PAGE);
	}
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
	ept_space_destroy(w->space);
	for (int k = 0; k < STRESS_KINDS; k++) {
		for (unsigned v = 0; v < STRESS_VCPUS; v++)
			free(w->wrote[v][k]);
		if (w->fd[k] >= 0)
			close(w->fd[k]);
	}
}

/* The program's own. */
static void (*check)(struct world *w);

static void play(unsigned seed, bool stop_under_them)
{
	struct world w = {.seed = seed};
	struct actor cast[MAX_ACTORS];
	unsigned n = 0;

	build(&w);
	inject_set(eintr_every, 7);
	inject_set(pread_max, 10000);
	inject_set(pread_delay_us, seed % 2 ? 50 : 0);
	for (unsigned k = 0; k < NR_KINDS; k++)
		for (unsigned i = 0; i < actors[k].count; i++, n++) {
			cast[n] = (struct actor){.w = &w, .number = i, .seed = seed * 64 + n};
			pthread_create(&cast[n].thread, NULL, actors[k].run, &cast[n]);
		}
	if (stop_under_them) {
		usleep(5000 + seed % 16 * 3000); /* wherever they are by then */
		__atomic_store_n(&w.stopping, true, __ATOMIC_RELEASE);
		__atomic_store_n(&w.stop, true, __ATOMIC_RELAXED);
		ept_space_stop(w.space);
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(cast[i].thread, NULL);
	ck_assert_ptr_null(ept_space_failure(w.space));
	if (!stop_under_them) {
		/* Each page of each file is read at most once, but for what write-back compares. */
		if (w.space->installer.atomic_protect)
			ck_assert_uint_le(inject_get(bytes_read), 3UL * STRESS_PAGES * PAGE);
		settle(&w);
		check_shared_file(&w);
		check_mirror(&w);
		check(&w);
	}
	ck_assert_uint_eq(w.failed, 0);
	destroy(&w);
}

START_TEST(all_at_once)
{
	play((unsigned)_i + 1, false);
}
END_TEST

START_TEST(stopped_under_them)
{
	play((unsigned)_i + 1, true);
}
END_TEST

Suite *stress_suite(const char *name, void (*program_check)(struct world *w))
{
	Suite *suite = suite_create(name);
	TCase *tc = tcase_create("stress");

	check = program_check;
	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, all_at_once, 0, 6);
	tcase_add_loop_test(tc, stopped_under_them, 0, 12);
	suite_add_tcase(suite, tc);
	return suite;
}
