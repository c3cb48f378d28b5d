#include "ept/object_snapshot.h"
#include "ept/snapshot.h"
#include "tests/ept/stress.h"
#include "tests/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define HOLD_MS 600000

static bool ended(struct world *w, int err, const char *what)
{
	if (err && !(err == -ESHUTDOWN && __atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE)))
		stress_wrong(w, what, (unsigned)-err);
	return err;
}

static void check_nothing_half_way(struct world *w)
{
	pthread_mutex_lock(&w->space->watch_lock);
	if (w->space->pending || w->space->working)
		stress_wrong(w, "something is under way in a space that is held", 0);
	pthread_mutex_unlock(&w->space->watch_lock);
	for (unsigned k = 0; k < STRESS_KINDS; k++)
		for (unsigned page = 0; page < STRESS_PAGES; page++) {
			gpa_t gpa = GPA(w->area[k]->start + page * PAGE);
			struct ept_leaf *leaf = ept_mirror_find(&w->space->mirror, gpa);

			if (leaf && ept_pte_get(leaf, ept_leaf_index(gpa)) == EPT_PTE_TRANSIT)
				stress_wrong(w, "in transit in a space that is held, page", page);
		}
}

bool stress_hold(struct world *w)
{
	int err = ept_space_hold(w->space, HOLD_MS);

	if (err == -EBUSY) /* by a snapshot */
		return true;
	if (ended(w, err, "hold"))
		return false;
	/* A stop lets all go on. */
	if (!__atomic_load_n(&w->stopping, __ATOMIC_ACQUIRE))
		check_nothing_half_way(w);
	ept_space_release(w->space);
	return true;
}

/* --- snapshots ------------------------------------------------------------------------------ */

/* A snapshot, and the child that writes it and looks at it: there nothing changes any more. */
struct picture {
	struct world *w;
	int memory, index;
};

static void check_page(const struct picture *p, enum stress_kind kind, unsigned page,
		       const uint64_t *words)
{
	for (unsigned v = 0; v < STRESS_VCPUS; v++)
		if (!stress_is_right(p->w->wrote[v][kind][page], v, kind, page,
				     words[STRESS_WORD(v)]))
			stress_wrong(p->w, "a snapshot has not what a guest wrote, page", page);
}

static void check_area(const struct picture *p, struct ept_snapshot *snapshot,
		       enum stress_kind kind)
{
	_Alignas(8) char bytes[EPT_PAGE_SIZE];
	struct ept_area *area = p->w->area[kind];
	struct ept_object *obj;

	if (ept_object_snapshot(&snapshot, 1, GPA(area->start), STRESS_PAGES * PAGE, area->obj,
				&obj)) {
		stress_wrong(p->w, "the snapshot's object", kind);
		return;
	}
	for (unsigned page = 0; page < STRESS_PAGES; page++) {
		int what = ept_layers_page(obj, page, bytes, NULL);

		if (what == EPT_LAYERS_ZERO)
			memset(bytes, 0, sizeof(bytes));
		for (unsigned i = 0; i < PAGE && what == EPT_LAYERS_BELOW; i++)
			bytes[i] = (char)pattern_byte(page * PAGE + i);
		if (what < 0)
			stress_wrong(p->w, "a snapshot's page cannot be read, page", page);
		else
			check_page(p, kind, page, (const uint64_t *)(const void *)bytes);
	}
	ept_object_put(obj);
}

static int write_and_check(const struct picture *p)
{
	struct ept_snapshot_options options = {.memory_fd = p->memory, .index_fd = p->index};
	struct ept_snapshot_info info;
	struct ept_snapshot *snapshot;
	char why[300];
	int err = ept_snapshot_write(p->w->space, &options, &info, why, sizeof(why));

	if (!err)
		err = ept_snapshot_open(p->memory, p->index, "stress", &snapshot, why, sizeof(why));
	if (err) {
		fprintf(stderr, "%s\n", why);
		return 1;
	}
	check_area(p, snapshot, STRESS_ANON);
	check_area(p, snapshot, STRESS_COW);
	ept_snapshot_close(snapshot);
	return p->w->failed ? 1 : 0;
}

/* Guests and devices rest. */
static int take(const struct picture *p, struct ept_fork *fork_of, pid_t *child)
{
	struct ept_space *space = p->w->space;
	int err;

	do
		err = ept_space_hold(space, HOLD_MS);
	while (err == -EBUSY); /* for a moment, by stress_hold() */
	if (err)
		return err;
	if (!__atomic_load_n(&p->w->stopping, __ATOMIC_ACQUIRE)) {
		check_nothing_half_way(p->w);
		stress_check_mirror(p->w);
	}
	err = ept_space_fork_begin(space, fork_of);
	if (!err) {
		*child = fork();
		if (!*child) {
			ept_space_fork_frozen(space,
					      open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
			_exit(write_and_check(p));
		}
		ept_space_fork_parent(space);
	}
	ept_space_release(space);
	return err;
}

bool stress_snapshot(struct world *w)
{
	struct picture p = {.w = w, .memory = scratch_file(), .index = scratch_file()};
	struct ept_fork fork_of;
	int err, status = 0;
	pid_t child = -1;

	pthread_rwlock_wrlock(&w->steps);
	err = take(&p, &fork_of, &child);
	pthread_rwlock_unlock(&w->steps);
	if (!ended(w, err, "fork")) {
		if (waitpid(child, &status, 0) != child || status)
			stress_wrong(w, "the child that writes a snapshot", (unsigned)status);
		ept_space_fork_gone(w->space, &fork_of);
	}
	close(p.memory);
	close(p.index);
	return !err;
}
