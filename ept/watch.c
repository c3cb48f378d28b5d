#include "ept/watch.h"

#include "ept/space.h"
#include "ept/thread.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

static const char *const waits[] = {
#define X(id, what) [EPT_WAIT_##id] = what,
    EPT_WAITS(X)
#undef X
};

/* The lock is held. */
static void put_first(struct ept_pending **list, struct ept_pending *pending)
{
	pending->waited = 0;
	pending->next = *list;
	pending->link = list;
	if (pending->next)
		pending->next->link = &pending->next;
	*list = pending;
}

void ept_watch_begin(struct ept_space *space, struct ept_pending *pending)
{
	pthread_mutex_lock(&space->watch_lock);
	ept_hold_gate(space);
	put_first(&space->pending, pending);
	pthread_mutex_unlock(&space->watch_lock);
}

void ept_watch_portion(struct ept_space *space, struct ept_pending *pending)
{
	pthread_mutex_lock(&space->watch_lock);
	put_first(&space->portions, pending);
	pthread_mutex_unlock(&space->watch_lock);
}

void ept_watch_end(struct ept_space *space, struct ept_pending *pending)
{
	pthread_mutex_lock(&space->watch_lock);
	*pending->link = pending->next;
	if (pending->next)
		pending->next->link = pending->link;
	ept_hold_passed(space);
	pthread_mutex_unlock(&space->watch_lock);
}

uint64_t ept_watched(uint64_t *looked, uint64_t now)
{
	uint64_t passed = now - *looked;

	*looked = now;
	return passed < EPT_LOOK_NS ? passed : EPT_LOOK_NS;
}

/* Of @list, or @found: which is longest under way. The lock is held. */
static const struct ept_pending *older(struct ept_pending *list, const struct ept_pending *found,
				       uint64_t now, uint64_t passed)
{
	for (struct ept_pending *p = list; p; p = p->next) {
		uint64_t age = now > p->since ? now - p->since : 0;

		p->waited += age < passed ? age : passed;
		if (!found || p->since < found->since)
			found = p;
	}
	return found;
}

/* The fault that is longest under way, copied: it may end any moment. */
static bool oldest(struct ept_space *space, struct ept_pending *out)
{
	const struct ept_pending *found;
	uint64_t now, passed;

	pthread_mutex_lock(&space->watch_lock);
	now = ept_now();
	passed = ept_watched(&space->watch_looked, now);
	found = older(space->pending, NULL, now, passed);
	found = older(space->portions, found, now, passed);
	if (found) {
		out->area = found->area;
		out->gpa = found->gpa;
		out->origin = found->origin;
		out->waited = found->waited;
		out->kase = __atomic_load_n(&found->kase, __ATOMIC_RELAXED);
		out->wait = __atomic_load_n(&found->wait, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&space->watch_lock);
	return found;
}

static bool too_long(const struct ept_space *space, uint64_t since)
{
	unsigned limit = space->config.fault_timeout;

	return limit && since && ept_now() - since >= limit * 1000000000UL;
}

static bool look_for_hung_faults(struct ept_space *space)
{
	unsigned limit = space->config.fault_timeout;
	struct ept_pending hung;
	char where[256];

	if (!limit || !oldest(space, &hung) || hung.waited < limit * 1000000000UL)
		return false;
	ept_describe(space, hung.gpa, where, sizeof(where));
	ept_space_fail(space, hung.kase, hung.gpa, -ETIMEDOUT,
		       "%s: the fault at gpa 0x%lx, %s (%s, %s), is not resolved after %u s: it "
		       "waits for %s; mend that, or give a longer --fault-timeout",
		       space->name, (unsigned long)hung.gpa.v, where, ept_case_name(hung.kase),
		       ept_origin_name(hung.origin), limit, waits[hung.wait]);
	return true;
}

/* A guest that touches none of its files does not miss them; a stop waits for the look. */
static bool look_for_hung_look(struct ept_space *space)
{
	uint64_t since = __atomic_load_n(&space->files.since, __ATOMIC_RELAXED);
	uint64_t reader = __atomic_load_n(&space->reader_stops, __ATOMIC_RELAXED);

	if (!ept_dying(space) || (!too_long(space, since) && !too_long(space, reader)))
		return false;
	ept_space_fail(space, EPT_CASE_DYING, GPA(0), -ETIMEDOUT,
		       "%s: a look at a file behind guest memory, a read ahead of it, or what "
		       "reclaim writes has not ended after %u s: its storage does not answer; mend "
		       "that, or give a longer --fault-timeout",
		       space->name, space->config.fault_timeout);
	return true;
}

bool ept_space_check(struct ept_space *space)
{
	int dead = ept_fault_threads_dead(space);
	bool hung = look_for_hung_faults(space);

	if (dead >= 0)
		ept_space_fail(space, EPT_CASE_DYING, GPA(0), -ESRCH,
			       "%s: fault thread %d has ended, and with it what it resolved; this "
			       "is a bug",
			       space->name, dead);
	return look_for_hung_look(space) || hung || dead >= 0;
}

/* --- files ----------------------------------------------------------------------------- */

/* Where pages can be poisoned, those that are gone are, when they are touched. */
static bool looked_at(const struct ept_area *area)
{
	return area->obj && area->kind != EPT_KIND_LAYERS &&
	       !(ept_space_can_poison(area->space) && ept_handler_engine(area));
}

/* The page that the file no longer has all of: what a fault in it would say. */
static void look_at_file(struct ept_area *area)
{
	uint64_t offset = area->obj->offset;
	int64_t size = ept_object_file_size(area->obj);

	if (size < 0)
		ept_area_fail(area, GPA(area->start), (int)size, "read");
	else if ((uint64_t)size < offset)
		ept_area_fail(area, GPA(area->start), -EIO, "read");
	else if ((uint64_t)size < offset + ept_area_file_bytes(area))
		ept_area_fail(area, GPA(area->start + (((uint64_t)size - offset) & EPT_PAGE_MASK)),
			      -EIO, "read");
}

void ept_space_check_files(struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_areas; i++)
		if (looked_at(space->areas[i]))
			look_at_file(space->areas[i]);
}

/* What of the file watch may wait for storage, one thing after the other. */
static void may_wait(struct ept_space *space, uint64_t *look_at)
{
	uint64_t count;

	while (read(space->files.queue.wake_fd, &count, sizeof(count)) > 0)
		;
	do {
		uint64_t now = ept_now();

		__atomic_store_n(&space->files.since, now, __ATOMIC_RELAXED);
		if (now >= *look_at) {
			ept_space_check_files(space);
			*look_at = now + EPT_LOOK_NS;
		}
	} while (!ept_dying(space) && ept_lead_work(space));
	__atomic_store_n(&space->files.since, 0, __ATOMIC_RELAXED);
}

static void *file_watch_thread(void *arg)
{
	struct ept_space *space = arg;
	struct pollfd fds[] = {{.fd = space->stop_fd, .events = POLLIN},
			       {.fd = space->files.queue.wake_fd, .events = POLLIN}};
	uint64_t look_at = ept_now() + EPT_LOOK_NS;

	ept_thread_begins(&space->config, "foal-files", "files");
	for (;;) {
		uint64_t now = ept_now();
		int ms = now < look_at ? (int)((look_at - now) / 1000000) + 1 : 0;

		if (poll(fds, 2, ms) < 0 && errno != EINTR)
			break;
		if (fds[0].revents)
			break;
		may_wait(space, &look_at);
	}
	return NULL;
}

int ept_file_watch_start(struct ept_space *space)
{
	struct ept_file_watch *files = &space->files;
	size_t i = 0;
	int err;

	while (i < space->nr_areas && !looked_at(space->areas[i]))
		i++;
	if (i == space->nr_areas)
		return 0;
	err = ept_thread_create(&space->config, &files->thread, file_watch_thread, space);
	files->running = !err;
	return err;
}

int ept_space_watch_files(struct ept_space *space)
{
	int err = 0;

	pthread_mutex_lock(&space->life_lock);
	if (space->life == EPT_LIFE_STARTED && !space->files.running)
		err = ept_file_watch_start(space);
	pthread_mutex_unlock(&space->life_lock);
	return err;
}

void ept_file_watch_stop(struct ept_space *space)
{
	uint64_t one = 1;

	if (!space->files.running || write(space->stop_fd, &one, sizeof(one)) != sizeof(one))
		return;
	pthread_join(space->files.thread, NULL);
	space->files.running = false;
}
