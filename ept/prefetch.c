/*
 * The working set. An extent is noted when it was brought in, by whoever asked; the
 * list of a restore before is gone through by a thread in its order, so that what the guest
 * asks for first comes first. First the files are told all of it at once, in the
 * order of their bytes, so that the host reads in large pieces.
 *
 * A touch by this thread is a fault like any other, but for its errors: who really
 * wants the page asks again, and is told.
 */
#include "ept/prefetch.h"

#include "ept/fault.h"
#include "ept/object_snapshot.h"
#include "ept/space.h"
#include "ept/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SET_MAGIC   "foalwset"
#define SET_VERSION 1U

struct set_header {
	char magic[8];
	uint32_t version, zero;
	uint8_t id[16]; /* of the snapshot */
	uint64_t count;
	struct ept_sum sum; /* of the list, and of the header up to here before it */
};

static void count(uint64_t *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

/* --- noting ---------------------------------------------------------------------------- */

int ept_prefetch_init(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;

	for (size_t i = 0; i < space->nr_areas; i++)
		if (space->areas[i]->kind == EPT_KIND_LAYERS)
			p->max += (space->areas[i]->end - space->areas[i]->start) / EPT_EXTENT + 2;
	if (!p->max)
		return 0;
	p->noted = calloc(p->max, sizeof(*p->noted));
	return p->noted ? 0 : -ENOMEM;
}

void ept_prefetch_free(struct ept_space *space)
{
	free(space->prefetch.noted);
	free(space->prefetch.list);
}

void ept_prefetch_note(struct ept_space *space, uint64_t gpa)
{
	struct ept_prefetch *p = &space->prefetch;
	uint64_t at = __atomic_fetch_add(&p->nr, 1, __ATOMIC_RELAXED);

	if (at < p->max) /* + 1: a place that is not written yet is none */
		__atomic_store_n(&p->noted[at], gpa + 1, __ATOMIC_RELAXED);
}

size_t ept_working_set(const struct ept_space *space, uint64_t *gpa, size_t max)
{
	const struct ept_prefetch *p = &space->prefetch;
	uint64_t nr = __atomic_load_n(&p->nr, __ATOMIC_RELAXED);
	size_t n = 0;

	nr = nr < p->max ? nr : p->max;
	for (uint64_t i = 0; i < nr && n < max; i++) {
		uint64_t noted = __atomic_load_n(&p->noted[i], __ATOMIC_RELAXED);

		if (noted)
			gpa[n++] = noted - 1;
	}
	return n;
}

/* --- bringing in -------------------------------------------------------------------------- */

int ept_space_prefetch(struct ept_space *space, const uint64_t *gpa, size_t n)
{
	struct ept_prefetch *p = &space->prefetch;

	if (space->life != EPT_LIFE_NEW || p->list || !n)
		return -EINVAL;
	p->list = malloc(n * sizeof(*gpa));
	if (!p->list)
		return -ENOMEM;
	memcpy(p->list, gpa, n * sizeof(*gpa));
	p->count = n;
	p->stats.wanted = n;
	return 0;
}

void ept_prefetch_cancel(struct ept_space *space)
{
	__atomic_store_n(&space->prefetch.stop, true, __ATOMIC_RELAXED);
}

static bool cancelled(const struct ept_space *space)
{
	return __atomic_load_n(&space->prefetch.stop, __ATOMIC_RELAXED) || ept_dying(space);
}

static int by_address(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* A list that was not made of this machine's memory is of no use, and does no harm. */
static const struct ept_area *area_for(const struct ept_space *space, uint64_t gpa)
{
	const struct ept_area *area = ept_area_find(space, gpa);

	/* The first extent of an area may begin before it. */
	if (!area)
		area = ept_area_find(space, (gpa & ~(EPT_EXTENT - 1)) + EPT_EXTENT - 1);
	return area && area->kind == EPT_KIND_LAYERS ? area : NULL;
}

static void tell_files(const struct ept_space *space)
{
	const struct ept_prefetch *p = &space->prefetch;
	uint64_t *sorted = malloc(p->count * sizeof(*sorted));

	if (!sorted)
		return; /* then the reads are as they come */
	memcpy(sorted, p->list, p->count * sizeof(*sorted));
	qsort(sorted, p->count, sizeof(*sorted), by_address);
	for (size_t i = 0, run = 0; i < p->count && !cancelled(space); i++) {
		const struct ept_area *area = area_for(space, sorted[run]);

		if (i + 1 < p->count && sorted[i + 1] - sorted[i] <= EPT_EXTENT)
			continue;
		if (area)
			ept_layers_will_need(area->obj, sorted[run], sorted[i] + EPT_EXTENT);
		run = i + 1;
	}
	free(sorted);
}

static void bring_in(struct ept_space *space, uint64_t gpa)
{
	const struct ept_area *area = area_for(space, gpa);
	struct ept_resolution res;
	struct ept_request req = {.gpa = GPA(gpa & EPT_PAGE_MASK),
				  .access = EPT_READ,
				  .origin = EPT_ORIGIN_LOADER,
				  .flags = EPT_FAULT_PREFETCH,
				  .picked_up = ept_now()};

	if (!area || !ept_reclaim_has_room(space, EPT_EXTENT_PAGES))
		return;
	if (req.gpa.v < area->start)
		req.gpa.v = area->start;
	req.gpa = GPA(ept_layers_first(area->obj, req.gpa.v));
	if (req.gpa.v == UINT64_MAX)
		return;
	handle_ept_fault(space, &req, &res);
	if (res.installed)
		count(&space->prefetch.stats.brought);
}

static void *prefetch_thread(void *arg)
{
	struct ept_space *space = arg;
	struct ept_prefetch *p = &space->prefetch;

	ept_thread_begins(&space->config, "foal-prefetch", "prefetch");
	tell_files(space);
	for (size_t i = 0; i < p->count && !cancelled(space); i++)
		bring_in(space, p->list[i]);
	__atomic_store_n(&p->stats.done, true, __ATOMIC_RELEASE);
	return NULL;
}

int ept_prefetch_start(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;
	int err;

	if (!p->list || p->stats.done)
		return 0;
	err = ept_thread_create(&space->config, &p->thread, prefetch_thread, space);
	p->running = !err;
	return err;
}

void ept_prefetch_stop(struct ept_space *space)
{
	struct ept_prefetch *p = &space->prefetch;

	ept_prefetch_cancel(space);
	if (p->running)
		pthread_join(p->thread, NULL);
	p->running = false;
}

void ept_prefetch_stats(const struct ept_space *space, struct ept_prefetch_stats *out)
{
	const struct ept_prefetch *p = &space->prefetch;

	out->done =
	    __atomic_load_n(&p->stats.done, __ATOMIC_ACQUIRE); /* first: then the rest is final */
	out->wanted = __atomic_load_n(&p->stats.wanted, __ATOMIC_RELAXED);
	out->brought = __atomic_load_n(&p->stats.brought, __ATOMIC_RELAXED);
}

/* --- its file ----------------------------------------------------------------------------------
 */

static struct ept_sum sum_of(const struct set_header *h, const uint64_t *gpa)
{
	struct ept_sum head = ept_checksum(h, offsetof(struct set_header, sum));
	struct ept_sum list = ept_checksum(gpa, h->count * sizeof(*gpa));

	return (struct ept_sum){head.low ^ list.low, head.high ^ list.high};
}

static int transfer_all(int fd, void *buf, size_t len, uint64_t at, bool out)
{
	char *p = buf;

	while (len) {
		ssize_t n = out ? pwrite(fd, p, len, (off_t)at) : pread(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int ept_working_set_save(int fd, const uint8_t id[16], const uint64_t *gpa, size_t n)
{
	struct set_header h = {.magic = SET_MAGIC, .version = SET_VERSION, .count = n};
	int err;

	memcpy(h.id, id, sizeof(h.id));
	h.sum = sum_of(&h, gpa);
	err = transfer_all(fd, &h, sizeof(h), 0, true);
	return err ? err
		   : transfer_all(fd, (void *)(uintptr_t)gpa, n * sizeof(*gpa), sizeof(h), true);
}

ssize_t ept_working_set_load(int fd, const uint8_t id[16], uint64_t *gpa, size_t max)
{
	struct set_header h;
	struct ept_sum sum;

	if (transfer_all(fd, &h, sizeof(h), 0, false) || memcmp(h.magic, SET_MAGIC, 8) != 0 ||
	    h.version != SET_VERSION || h.zero || memcmp(h.id, id, sizeof(h.id)) != 0 ||
	    h.count > max || transfer_all(fd, gpa, h.count * sizeof(*gpa), sizeof(h), false))
		return -EINVAL;
	sum = sum_of(&h, gpa);
	return ept_sums_equal(&sum, &h.sum) ? (ssize_t)h.count : -EINVAL;
}
