#include "tests/ept/fake_uring.h"

#include "ept/uring.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define READS 64

struct one {
	int fd;
	void *buf, *tag;
	unsigned len;
	uint64_t offset;
	int result;
	enum { FREE, BEGUN, UNDER_WAY, DONE } state;
};

struct ept_uring {
	int event_fd;
	struct one one[READS];
};

/* The ring that was opened last is the one that reads are told to. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ept_uring *ring;
static int absent, error;
static unsigned error_times, short_bytes, reads, under_way, most;
static uint64_t bytes;
static bool hold;

void fake_uring_absent(int err)
{
	absent = err;
}

int ept_uring_open(unsigned depth, struct ept_uring **out)
{
	(void)depth;
	if (absent)
		return absent;
	*out = calloc(1, sizeof(**out));
	(*out)->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_lock(&lock);
	ring = *out;
	pthread_mutex_unlock(&lock);
	return 0;
}

int ept_uring_probe(void)
{
	return absent;
}

void ept_uring_close(struct ept_uring *r)
{
	if (!r)
		return;
	pthread_mutex_lock(&lock);
	if (ring == r)
		ring = NULL;
	pthread_mutex_unlock(&lock);
	close(r->event_fd);
	free(r);
}

int ept_uring_fd(const struct ept_uring *r)
{
	return r->event_fd;
}

void ept_uring_read(struct ept_uring *r, int fd, void *buf, unsigned len, uint64_t offset,
		    bool punt, void *tag)
{
	int i = 0;

	(void)punt;
	pthread_mutex_lock(&lock);
	while (r->one[i].state != FREE)
		i++;
	r->one[i] = (struct one){fd, buf, tag, len, offset, 0, BEGUN};
	pthread_mutex_unlock(&lock);
}

static int do_read(const struct one *o)
{
	unsigned len = short_bytes && o->len > short_bytes ? short_bytes : o->len;
	long n;

	if (error_times) {
		error_times--;
		return error;
	}
	n = syscall(SYS_pread64, o->fd, o->buf, len, o->offset);
	if (n < 0)
		return -errno;
	bytes += (uint64_t)n;
	return (int)n;
}

/* The lock is held. */
static void finish(void)
{
	uint64_t one = 1;

	for (int i = 0; ring && !hold && i < READS; i++) {
		if (ring->one[i].state != UNDER_WAY)
			continue;
		ring->one[i].result = do_read(&ring->one[i]);
		ring->one[i].state = DONE;
		under_way--;
		if (write(ring->event_fd, &one, sizeof(one)) < 0)
			abort();
	}
}

bool ept_uring_submit(struct ept_uring *r)
{
	pthread_mutex_lock(&lock);
	for (int i = 0; i < READS; i++) {
		if (r->one[i].state != BEGUN)
			continue;
		r->one[i].state = UNDER_WAY;
		reads++;
		under_way++;
		most = under_way > most ? under_way : most;
	}
	finish();
	pthread_mutex_unlock(&lock);
	return true;
}

bool ept_uring_done(struct ept_uring *r, void **tag, int *result)
{
	bool found = false;
	uint64_t count;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < READS && !found; i++) {
		if (r->one[i].state != DONE)
			continue;
		*tag = r->one[i].tag;
		*result = r->one[i].result;
		r->one[i].state = FREE;
		found = true;
	}
	if (!found && read(r->event_fd, &count, sizeof(count)) < 0)
		count = 0; /* nothing to forget */
	pthread_mutex_unlock(&lock);
	return found;
}

void fake_uring_hold(void)
{
	pthread_mutex_lock(&lock);
	hold = true;
	pthread_mutex_unlock(&lock);
}

void fake_uring_release(void)
{
	pthread_mutex_lock(&lock);
	hold = false;
	finish();
	pthread_mutex_unlock(&lock);
}

void fake_uring_fail(int err, unsigned times)
{
	pthread_mutex_lock(&lock);
	error = err;
	error_times = times;
	pthread_mutex_unlock(&lock);
}

void fake_uring_short(unsigned max)
{
	short_bytes = max;
}

#define LOCKED(type, name, variable) \
	type name(void) \
	{ \
		type value; \
\
		pthread_mutex_lock(&lock); \
		value = variable; \
		pthread_mutex_unlock(&lock); \
		return value; \
	}

LOCKED(unsigned, fake_uring_reads, reads)
LOCKED(unsigned, fake_uring_under_way, under_way)
LOCKED(unsigned, fake_uring_most, most)
LOCKED(uint64_t, fake_uring_bytes, bytes)
