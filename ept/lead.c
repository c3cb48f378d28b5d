#include "ept/lead.h"

#include "ept/host_pages.h"
#include "ept/space.h"
#include "ept/stats.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* --- of an area ---------------------------------------------------------------------- */

static int open_again(const struct ept_object *obj)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", obj->fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Its address and its place in the file agree modulo 2 MiB, or no entry could map 2 MiB. */
static void map_view(struct ept_lead *lead, const struct ept_area *area)
{
	uint64_t phase = area->obj->offset % EPT_LEAF_BYTES;
	size_t size = (ept_area_file_bytes(area) + EPT_PAGE_SIZE - 1) & EPT_PAGE_MASK;
	char *view;

	lead->room_size = size + 2 * EPT_LEAF_BYTES;
	lead->room = mmap(NULL, lead->room_size, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (lead->room == MAP_FAILED) {
		lead->room = NULL;
		return;
	}
	view = (char *)(((uintptr_t)lead->room + EPT_LEAF_BYTES - 1) & ~(EPT_LEAF_BYTES - 1));
	view += phase;
	if (mmap(view, size, PROT_READ, MAP_SHARED | MAP_FIXED, lead->fd,
		 (off_t)area->obj->offset) != MAP_FAILED &&
	    !ept_install_in_whole(view, size))
		lead->view = view;
}

struct ept_lead *ept_lead_create(const struct ept_area *area)
{
	struct ept_lead *lead = calloc(1, sizeof(*lead));

	if (!lead)
		return NULL;
	lead->fd = open_again(area->obj);
	if (lead->fd >= 0 && area->space->config.huge != EPT_HUGE_NEVER)
		map_view(lead, area);
	return lead;
}

void ept_lead_free(struct ept_lead *lead)
{
	if (!lead)
		return;
	if (lead->room)
		munmap(lead->room, lead->room_size);
	if (lead->fd >= 0)
		close(lead->fd);
	free(lead);
}

static void count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

void ept_area_lead_stats(const struct ept_area *area, struct ept_lead_stats *out)
{
	*out = (struct ept_lead_stats){0};
	if (!area->lead)
		return;
#define X(field, name, unit) \
	out->field = __atomic_load_n(&area->lead->stats.field, __ATOMIC_RELAXED);
	EPT_LEAD_COUNTERS(X)
#undef X
}

/* --- what there is to do --------------------------------------------------------------- */

int ept_lead_queue_init(struct ept_lead_queue *queue)
{
	pthread_mutex_init(&queue->lock, NULL);
	queue->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return queue->wake_fd < 0 ? -EMFILE : 0;
}

void ept_lead_queue_end(struct ept_lead_queue *queue)
{
	if (queue->wake_fd >= 0)
		close(queue->wake_fd);
	pthread_mutex_destroy(&queue->lock);
}

static int add_job(struct ept_area *area, enum ept_lead_kind kind, uint64_t first, uint64_t pages)
{
	struct ept_lead_queue *queue = &area->space->files.queue;
	uint64_t last = ept_area_file_bytes(area) >> EPT_PAGE_SHIFT, one = 1;
	uint64_t end = first + pages < last ? first + pages : last;
	int err = -EAGAIN;

	if (first >= end)
		return 0;
	pthread_mutex_lock(&queue->lock);
	for (unsigned i = 0; i < EPT_LEAD_JOBS && err; i++) {
		struct ept_lead_job *job = &queue->jobs[i];

		if (job->first < job->end)
			continue;
		*job = (struct ept_lead_job){area, kind, first, end};
		queue->order[i] = ++queue->turn;
		err = 0;
	}
	pthread_mutex_unlock(&queue->lock);
	if (err)
		count(&area->lead->stats.dropped, 1);
	else if (write(queue->wake_fd, &one, sizeof(one)) != sizeof(one))
		return 0; /* it is readable already */
	return err;
}

int ept_lead_read(struct ept_area *area, uint64_t first, uint64_t pages)
{
	int err = add_job(area, EPT_LEAD_READ, first, pages);

	if (!err)
		count(&area->lead->stats.windows, 1);
	return err;
}

int ept_lead_copy(struct ept_area *area, uint64_t first, uint64_t pages)
{
	return add_job(area, EPT_LEAD_COPY, first, pages);
}

/* The first that came; copies before reads, which take longer. */
static struct ept_lead_job *next_job(struct ept_lead_queue *queue)
{
	struct ept_lead_job *found = NULL;

	for (unsigned i = 0; i < EPT_LEAD_JOBS; i++) {
		struct ept_lead_job *job = &queue->jobs[i];

		if (job->first < job->end &&
		    (!found || job->kind < found->kind ||
		     (job->kind == found->kind &&
		      queue->order[i] < queue->order[found - queue->jobs])))
			found = job;
	}
	return found;
}

/* Where the 2 MiB of the file end that @page of @area lies in, as a page of the area. */
static uint64_t piece_end(const struct ept_area *area, uint64_t page)
{
	uint64_t base = area->obj->offset >> EPT_PAGE_SHIFT;

	return (base + page) / EPT_TABLE_SIZE * EPT_TABLE_SIZE + EPT_TABLE_SIZE - base;
}

/* A step's worth of the next job; false: there is none. */
static bool take_step(struct ept_lead_queue *queue, struct ept_lead_job *step)
{
	struct ept_lead_job *job;

	pthread_mutex_lock(&queue->lock);
	job = next_job(queue);
	if (job) {
		uint64_t end = piece_end(job->area, job->first);

		*step = *job;
		if (job->kind == EPT_LEAD_READ && end < step->end)
			step->end = end;
		job->first = step->end;
	}
	pthread_mutex_unlock(&queue->lock);
	return job;
}

/* --- doing it --------------------------------------------------------------------------- */

/*
 * A touch of the view reads all of the piece, in one folio if the file system can; what
 * is missing of it then, as some of it was there before, comes by its own read-ahead.
 */
static int read_piece(const struct ept_area *area, uint64_t first, uint64_t end)
{
	const struct ept_lead *lead = area->lead;
	uint64_t from = first << EPT_PAGE_SHIFT, size = (end - first) << EPT_PAGE_SHIFT;
	int err = 0;

	if (lead->view) {
		err = ept_install_populate(lead->view + from, EPT_PAGE_SIZE, false);
		ept_install_drop(NULL, lead->view + from, size);
	}
	if (!err)
		err = -posix_fadvise(lead->fd, (off_t)(area->obj->offset + from), (off_t)size,
				     POSIX_FADV_WILLNEED);
	return err;
}

static void read_step(const struct ept_lead_job *step)
{
	struct ept_area *area = step->area;
	int64_t there = ept_object_host_cached(area->obj, step->first << EPT_PAGE_SHIFT,
					       step->end << EPT_PAGE_SHIFT);
	uint64_t pages = step->end - step->first;

	if (there >= (int64_t)pages || area->lead->fd < 0)
		return;
	count(&area->lead->stats.pieces, 1);
	if (read_piece(area, step->first, step->end))
		count(&area->lead->stats.failed, 1);
	else
		count(&area->lead->stats.read, (pages - (there > 0 ? (uint64_t)there : 0))
						   << EPT_PAGE_SHIFT);
}

static void copy_step(const struct ept_lead_job *step)
{
	struct ept_area *area = step->area;
	uint64_t pages = step->end - step->first;

	if (ept_install_populate(area->hva + (step->first << EPT_PAGE_SHIFT),
				 pages << EPT_PAGE_SHIFT, true))
		count(&area->lead->stats.failed, 1);
	else
		count(&area->lead->stats.copied, pages);
}

bool ept_lead_work(struct ept_space *space)
{
	struct ept_lead_job step;

	if (!take_step(&space->files.queue, &step))
		return false;
	if (step.kind == EPT_LEAD_READ)
		read_step(&step);
	else
		copy_step(&step);
	return true;
}
