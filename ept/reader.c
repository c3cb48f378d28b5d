#include "ept/reader.h"

#include "ept/thread.h"
#include "ept/uring.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)EPT_READER_PAGES << EPT_PAGE_SHIFT)
#define BUFFERS_SIZE (EPT_READER_DEPTH * BUFFER_BYTES)
#define TRIES	     8	 /* of a read that fails for now (EINTR, EAGAIN) */
#define SOON_MS	     5	 /* until the kernel is asked again to take a read */
#define IDLE_MS	     200 /* until the buffers go back to the host */

struct ept_reader {
	pthread_t thread;
	bool started;
	const struct ept_config *config;

	pthread_mutex_t lock; /* the lists, out, stopping */
	struct ept_ahead *idle;
	struct ept_ahead *queue, **tail; /* asked for, oldest first */
	unsigned out; /* reads that are not idle: the thread ends after the last */
	bool stopping, held;
	pthread_cond_t drained; /* out is 0 */

	int wake_fd;		/* readable: the queue or stopping changed */
	struct ept_uring *ring; /* NULL: pread. The thread's */
	char *buffers;
	char *buffer[EPT_READER_DEPTH]; /* the free ones; the thread's */
	unsigned free_buffers, under_way;
	bool touched; /* the buffers hold memory */
	struct ept_ahead ahead[EPT_READER_QUEUE];
};

/* At 2 MiB, so that a huge page can hold them: a read into one has few segments. */
static int make_buffers(struct ept_reader *r)
{
	size_t size = 2 * BUFFERS_SIZE;
	char *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	size_t before;

	if (base == MAP_FAILED)
		return -ENOMEM;
	before = -(uintptr_t)base % BUFFERS_SIZE;
	if (before)
		munmap(base, before);
	munmap(base + before + BUFFERS_SIZE, size - before - BUFFERS_SIZE);
	r->buffers = base + before;
	madvise(r->buffers, BUFFERS_SIZE, MADV_HUGEPAGE);
	madvise(r->buffers, BUFFERS_SIZE, MADV_DONTDUMP);
	for (unsigned i = 0; i < EPT_READER_DEPTH; i++)
		r->buffer[i] = r->buffers + i * BUFFER_BYTES;
	r->free_buffers = EPT_READER_DEPTH;
	return 0;
}

struct ept_reader *ept_reader_create(void)
{
	struct ept_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->drained, NULL);
	r->tail = &r->queue;
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wake_fd < 0 || make_buffers(r)) {
		ept_reader_free(r);
		return NULL;
	}
	for (unsigned i = 0; i < EPT_READER_QUEUE; i++) {
		r->ahead[i].next = r->idle;
		r->idle = &r->ahead[i];
	}
	if (ept_uring_open(EPT_READER_DEPTH, &r->ring))
		r->ring = NULL;
	return r;
}

void ept_reader_free(struct ept_reader *r)
{
	if (!r)
		return;
	ept_reader_stop(r);
	ept_uring_close(r->ring);
	if (r->buffers)
		munmap(r->buffers, BUFFERS_SIZE);
	if (r->wake_fd >= 0)
		close(r->wake_fd);
	pthread_cond_destroy(&r->drained);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

const char *ept_reader_by(const struct ept_reader *r)
{
	return r->ring ? "io_uring" : "pread";
}

struct ept_ahead *ept_reader_take(struct ept_reader *r, struct ept_object *obj)
{
	struct ept_ahead *a;

	pthread_mutex_lock(&r->lock);
	a = r->stopping || r->held ? NULL : r->idle;
	if (a) {
		r->idle = a->next;
		r->out++;
	}
	pthread_mutex_unlock(&r->lock);
	if (a)
		*a = (struct ept_ahead){.obj = ept_object_ref(obj)};
	return a;
}

static void wake(const struct ept_reader *r)
{
	uint64_t one = 1;

	/* Cannot fail but for a counter that is full, and then the thread is awake. */
	if (write(r->wake_fd, &one, sizeof(one)) < 0)
		return;
}

void ept_reader_queue(struct ept_reader *r, struct ept_ahead *list)
{
	struct ept_ahead *last = list;
	bool was_empty;

	while (last->next)
		last = last->next;
	pthread_mutex_lock(&r->lock);
	was_empty = !r->queue;
	*r->tail = list;
	r->tail = &last->next;
	pthread_mutex_unlock(&r->lock);
	if (was_empty)
		wake(r);
}

/* The oldest that was asked for and not begun. */
static struct ept_ahead *dequeue(struct ept_reader *r)
{
	struct ept_ahead *a;

	pthread_mutex_lock(&r->lock);
	a = r->queue;
	if (a)
		r->queue = a->next;
	if (!r->queue)
		r->tail = &r->queue;
	pthread_mutex_unlock(&r->lock);
	return a;
}

bool ept_reader_drop(struct ept_reader *r, struct ept_object_read *read)
{
	struct ept_ahead **p = &r->queue, *a = (struct ept_ahead *)read;
	bool found;

	pthread_mutex_lock(&r->lock);
	while (*p && *p != a)
		p = &(*p)->next;
	found = *p;
	if (found) {
		*p = a->next;
		if (r->tail == &a->next)
			r->tail = p;
	}
	pthread_mutex_unlock(&r->lock);
	return found;
}

void ept_reader_put(struct ept_reader *r, struct ept_object_read *read)
{
	struct ept_ahead *a = (struct ept_ahead *)read;

	ept_object_put(a->obj);
	pthread_mutex_lock(&r->lock);
	a->next = r->idle;
	r->idle = a;
	r->out--;
	if (r->held && !r->out)
		pthread_cond_broadcast(&r->drained);
	if (r->stopping) /* under the lock: it may be freed right after */
		wake(r);
	pthread_mutex_unlock(&r->lock);
}

/* @done bytes of it are in the cache. */
static void end(struct ept_reader *r, struct ept_ahead *a, size_t done)
{
	ept_object_ahead_ended(a->obj, &a->read, done);
	ept_reader_put(r, &a->read);
}

static void store_and_end(struct ept_reader *r, struct ept_ahead *a)
{
	uint64_t byte = a->read.first << EPT_PAGE_SHIFT;
	size_t done = ept_object_store(a->obj, a->buf, a->done, byte) ? 0 : a->done;

	r->buffer[r->free_buffers++] = a->buf;
	r->under_way--;
	end(r, a, done);
}

/* Through the page cache the kernel would make this thread wait for what it lacks. */
static void read_rest(struct ept_reader *r, struct ept_ahead *a)
{
	uint64_t byte = (a->read.first << EPT_PAGE_SHIFT) + a->done;
	bool punt = a->wait && a->fd == a->obj->fd;

	ept_uring_read(r->ring, a->fd, a->buf + a->done, (unsigned)(a->len - a->done),
		       a->obj->offset + byte, punt, a);
}

static void begin(struct ept_reader *r, struct ept_ahead *a)
{
	uint64_t from = a->read.first << EPT_PAGE_SHIFT, to = a->read.end << EPT_PAGE_SHIFT;
	bool cached;
	int err;

	if (to > a->obj->length)
		to = a->obj->length;
	a->len = to - from;
	a->fd = ept_object_read_fd(a->obj, from, to, &cached);
	a->wait = !cached;
	a->buf = r->buffer[--r->free_buffers];
	r->under_way++;
	r->touched = true;
	if (r->ring) {
		read_rest(r, a);
		return;
	}
	a->done = ept_object_pread_fd(a->obj, a->fd, a->buf, a->len, from, &err);
	store_and_end(r, a);
}

/* A read may come short, or fail for now: go on until the file ends or fails for good. */
static void came(struct ept_reader *r, struct ept_ahead *a, int result)
{
	bool again = result > 0;

	if (result > 0) {
		a->done += (size_t)result;
		a->tries = 0;
	} else if (result == -EINTR || result == -EAGAIN) {
		again = ++a->tries < TRIES;
		a->wait = true;
	} else if (result == -EINVAL && a->fd != a->obj->fd) {
		ept_object_refuse_direct(a->obj);
		again = true;
	}
	if (!again || a->done == a->len) {
		store_and_end(r, a);
		return;
	}
	if (result < 0 || a->done % EPT_PAGE_SIZE)
		a->fd = a->obj->fd;
	read_rest(r, a);
}

bool ept_reader_stopping(struct ept_reader *r)
{
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stopping;
	pthread_mutex_unlock(&r->lock);
	return stop;
}

/*
 * A read may be with a thread that is about to queue it, or to put it back, and that
 * thread's space may be another one, which shares the object.
 */
static bool over(struct ept_reader *r)
{
	bool result;

	pthread_mutex_lock(&r->lock);
	result = r->stopping && !r->out;
	pthread_mutex_unlock(&r->lock);
	return result;
}

/* Begin what there is room for; a reader that stops or is held begins nothing. */
static void begin_queued(struct ept_reader *r)
{
	struct ept_ahead *a;
	bool stop;

	pthread_mutex_lock(&r->lock);
	stop = r->stopping || r->held;
	pthread_mutex_unlock(&r->lock);

	while ((stop || r->free_buffers) && (a = dequeue(r))) {
		if (stop)
			end(r, a, 0);
		else
			begin(r, a);
	}
}

static void give_buffers_back(struct ept_reader *r)
{
	madvise(r->buffers, BUFFERS_SIZE, MADV_DONTNEED);
	r->touched = false;
}

/* Sleep until there is something to do. */
static void wait_for_work(struct ept_reader *r, bool submitted)
{
	struct pollfd fds[] = {{.fd = r->wake_fd, .events = POLLIN},
			       {.fd = r->ring ? ept_uring_fd(r->ring) : -1, .events = POLLIN}};
	bool idle = !r->under_way && r->touched;
	int n = poll(fds, 2, !submitted ? SOON_MS : idle ? IDLE_MS : -1);
	uint64_t count;

	if (n == 0 && idle && submitted)
		give_buffers_back(r);
	if (n > 0 && fds[0].revents && read(r->wake_fd, &count, sizeof(count)) < 0)
		return; /* somebody else's wake was read with this one */
}

static void *reader_thread(void *arg)
{
	struct ept_reader *r = arg;

	ept_thread_begins(r->config, "foal-read", "read");
	for (;;) {
		struct ept_ahead *a;
		bool submitted = true;
		int result;

		begin_queued(r);
		if (r->ring)
			submitted = ept_uring_submit(r->ring);
		if (over(r))
			return NULL;
		wait_for_work(r, submitted);
		while (r->ring && ept_uring_done(r->ring, (void **)&a, &result))
			came(r, a, result);
	}
}

int ept_reader_start(struct ept_reader *r, const struct ept_config *config)
{
	int err;

	r->config = config;
	err = ept_thread_create(config, &r->thread, reader_thread, r);
	r->started = !err;
	return err;
}

int ept_reader_hold(struct ept_reader *r, const struct timespec *until)
{
	int err = 0;

	if (!r)
		return 0;
	pthread_mutex_lock(&r->lock);
	r->held = true;
	wake(r);
	while (r->out && !err && !r->stopping)
		err = -pthread_cond_clockwait(&r->drained, &r->lock, CLOCK_MONOTONIC, until);
	err = r->out ? err : 0;
	pthread_mutex_unlock(&r->lock);
	return err;
}

void ept_reader_release(struct ept_reader *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->held = false;
	pthread_mutex_unlock(&r->lock);
}

void ept_reader_lock(struct ept_reader *r, bool lock)
{
	if (r && lock)
		pthread_mutex_lock(&r->lock);
	else if (r)
		pthread_mutex_unlock(&r->lock);
}

int ept_reader_adopt(struct ept_reader *r)
{
	if (!r)
		return 0;
	pthread_cond_init(&r->drained, NULL);
	r->started = false;
	ept_uring_close(r->ring);
	if (ept_uring_open(EPT_READER_DEPTH, &r->ring))
		r->ring = NULL;
	close(r->wake_fd);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return r->wake_fd < 0 ? -EMFILE : 0;
}

void ept_reader_stop(struct ept_reader *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&r->lock);
	r->stopping = true;
	pthread_mutex_unlock(&r->lock);
	if (!r->started)
		return;
	wake(r);
	pthread_join(r->thread, NULL);
	r->started = false;
}
