#include "tests/ept/fake_install.h"

#include "ept/install_wakes.h"
#include "ept/mirror.h"
#include "ept/uffd_compat.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What is registered; tests have one space with a few areas. */
struct range {
	char *start;
	size_t pages;
	enum fake_page *page;
	unsigned *wakes, installs;
};

#define RANGES 8

void (*fake_before_wake)(char *hva, size_t len);
uint64_t fake_features = UFFD_FEATURE_POISON | UFFD_FEATURE_MOVE;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t woken = PTHREAD_COND_INITIALIZER;
static struct range ranges[RANGES];
static struct {
	int error;
	unsigned times;
} failures[FAKE_NR_OPS];
static unsigned continue_limit, move_limit, double_installs;
static int continue_error, event_socket = -1;

static struct range *find(const void *hva, size_t *page)
{
	for (int i = 0; i < RANGES; i++) {
		size_t offset = (size_t)((const char *)hva - ranges[i].start);

		if (offset < ranges[i].pages * EPT_PAGE_SIZE) {
			*page = offset / EPT_PAGE_SIZE;
			return &ranges[i];
		}
	}
	return NULL;
}

static int injected(enum fake_op op)
{
	if (!failures[op].times)
		return 0;
	failures[op].times--;
	return failures[op].error;
}

void fake_fail(enum fake_op op, int error, unsigned times)
{
	pthread_mutex_lock(&lock);
	failures[op].error = error;
	failures[op].times = times;
	pthread_mutex_unlock(&lock);
}

void fake_continue_stops_after(unsigned pages, int error)
{
	continue_limit = pages;
	continue_error = error;
}

void fake_move_stops_after(unsigned pages)
{
	move_limit = pages;
}

enum fake_page fake_touch(const void *hva)
{
	size_t page;

	pthread_mutex_lock(&lock);
	struct range *r = find(hva, &page);
	return r ? r->page[page] : FAKE_NONE;
}

void fake_touched(void)
{
	pthread_mutex_unlock(&lock);
}

enum fake_page fake_page(const void *hva)
{
	enum fake_page result = fake_touch(hva);

	fake_touched();
	return result;
}

void fake_set_page(const void *hva, enum fake_page to)
{
	size_t page;

	pthread_mutex_lock(&lock);
	struct range *r = find(hva, &page);
	if (r)
		r->page[page] = to;
	pthread_mutex_unlock(&lock);
}

unsigned fake_wakes(const void *hva)
{
	unsigned result;
	size_t page;

	pthread_mutex_lock(&lock);
	struct range *r = find(hva, &page);
	result = r ? r->wakes[page] : 0;
	pthread_mutex_unlock(&lock);
	return result;
}

unsigned fake_installs(const void *hva)
{
	size_t page;
	const struct range *r;
	unsigned result;

	pthread_mutex_lock(&lock);
	r = find(hva, &page);
	result = r ? r->installs : 0;
	pthread_mutex_unlock(&lock);
	return result;
}

unsigned fake_double_installs(void)
{
	return double_installs;
}

static void wake(struct range *r, size_t page)
{
	r->wakes[page]++;
	pthread_cond_broadcast(&woken);
}

/*
 * One page in, with the bytes at @src if there are any, and whoever waits for it woken:
 * what each install comes down to.
 */
static int put(struct ept_installer *in, void *hva, enum fake_op op, enum fake_page to,
	       const void *src)
{
	size_t page;
	struct range *r;
	int err;

	pthread_mutex_lock(&lock);
	r = find(hva, &page);
	err = r ? injected(op) : -ESHUTDOWN;
	if (!err && r->page[page] != FAKE_NONE) {
		/* CONTINUE and POISON are also how a late event makes sure that a page is there. */
		double_installs += r->page[page] != FAKE_FOREIGN && op != FAKE_OP_CONTINUE &&
				   (op != FAKE_OP_POISON || r->page[page] != FAKE_POISON);
		err = -EEXIST;
	}
	if (!err && src)
		memcpy(hva, src, EPT_PAGE_SIZE);
	if (!err) {
		r->page[page] = to;
		r->installs++;
	}
	pthread_mutex_unlock(&lock);
	if (!err)
		ept_wake_later(in, hva, EPT_PAGE_SIZE);
	else if (err == -EEXIST)
		ept_install_wake(in, hva, EPT_PAGE_SIZE);
	return err;
}

bool fake_wait(const void *hva, unsigned wakes)
{
	struct timespec until;
	struct range *r;
	size_t page;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += FAKE_WAIT_S;
	pthread_mutex_lock(&lock);
	while ((r = find(hva, &page)) && r->wakes[page] == wakes && !err)
		err = pthread_cond_timedwait(&woken, &lock, &until);
	pthread_mutex_unlock(&lock);
	return !err;
}

int ept_installer_open(struct ept_installer *in)
{
	in->dev = -1;
	return ept_installer_reopen(in);
}

/* In a child of fork(): nothing is registered any more, as in the kernel. */
void ept_installer_close_events(struct ept_installer *in)
{
	for (int i = 0; i < RANGES; i++) {
		free(ranges[i].page);
		free(ranges[i].wakes);
		ranges[i] = (struct range){0};
	}
	ept_installer_close(in);
}

int ept_installer_reopen(struct ept_installer *in)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair))
		return -errno;
	in->fd = pair[0];
	in->features = fake_features;
	in->atomic_protect = true;
	event_socket = pair[1];
	return 0;
}

void ept_installer_close(struct ept_installer *in)
{
	if (in->fd < 0)
		return;
	close(in->fd);
	close(event_socket);
	in->fd = -1;
}

void fake_event(const struct ept_installer *in, const void *hva, uint64_t flags, pid_t tid)
{
	struct uffd_msg msg = {.event = UFFD_EVENT_PAGEFAULT};

	(void)in;
	msg.arg.pagefault.address = (uint64_t)(uintptr_t)hva;
	msg.arg.pagefault.flags = flags;
	msg.arg.pagefault.feat.ptid = (uint32_t)tid;
	while (write(event_socket, &msg, sizeof(msg)) != sizeof(msg))
		if (errno != EAGAIN && errno != EINTR)
			abort();
}

int ept_install_register(struct ept_installer *in, void *hva, size_t len, enum ept_backing backing)
{
	int i = 0;

	(void)in;
	(void)backing;
	pthread_mutex_lock(&lock);
	while (ranges[i].start)
		i++;
	ranges[i] = (struct range){.start = hva,
				   .pages = len / EPT_PAGE_SIZE,
				   .page = calloc(len / EPT_PAGE_SIZE, sizeof(enum fake_page)),
				   .wakes = calloc(len / EPT_PAGE_SIZE, sizeof(unsigned))};
	pthread_mutex_unlock(&lock);
	return 0;
}

void ept_install_unregister(struct ept_installer *in, void *hva, size_t len)
{
	size_t page;
	struct range *r;

	(void)in;
	(void)len;
	pthread_mutex_lock(&lock);
	r = find(hva, &page);
	free(r->page);
	free(r->wakes);
	*r = (struct range){0};
	pthread_cond_broadcast(&woken);
	pthread_mutex_unlock(&lock);
}

int ept_install_zero(struct ept_installer *in, void *hva)
{
	return put(in, hva, FAKE_OP_ZERO, FAKE_ZERO, NULL);
}

int ept_install_copy(struct ept_installer *in, void *hva, const void *src)
{
	return put(in, hva, FAKE_OP_COPY, FAKE_OWN, src);
}

int ept_install_poison(struct ept_installer *in, void *hva)
{
	return put(in, hva, FAKE_OP_POISON, FAKE_POISON, NULL);
}

int ept_install_copies(struct ept_installer *in, void *hva, const void *src, size_t len,
		       size_t *done)
{
	for (*done = 0; *done < len; *done += EPT_PAGE_SIZE) {
		int err = ept_install_copy(in, (char *)hva + *done, (const char *)src + *done);

		if (err)
			return err;
	}
	return 0;
}

/* One step, and each page of it put in and woken. */
int ept_install_move(struct ept_installer *in, void *hva, void *src, size_t *done)
{
	size_t len = move_limit ? move_limit * EPT_PAGE_SIZE : EPT_LEAF_BYTES;
	int err;

	*done = 0;
	move_limit = 0;
	pthread_mutex_lock(&lock);
	err = injected(FAKE_OP_MOVE);
	pthread_mutex_unlock(&lock);
	if (!err)
		err = ept_install_copies(in, hva, src, len, done);
	return err ? err : len < EPT_LEAF_BYTES ? -EAGAIN : 0;
}

int ept_install_continue(struct ept_installer *in, void *hva, size_t len, bool protect,
			 size_t *done)
{
	int result = 0;

	for (*done = 0; *done < len; *done += EPT_PAGE_SIZE) {
		int err = 0;

		if (continue_limit && *done == continue_limit * EPT_PAGE_SIZE)
			return continue_error;
		err = put(in, (char *)hva + *done, FAKE_OP_CONTINUE,
			  protect ? FAKE_PROTECTED : FAKE_WRITABLE, NULL);
		if (err && err != -EEXIST)
			return err;
		result = err ? err : result;
	}
	return result;
}

int ept_install_protect(struct ept_installer *in, void *hva, size_t len, bool on)
{
	int err = 0;

	pthread_mutex_lock(&lock);
	for (size_t at = 0; at < len && !err; at += EPT_PAGE_SIZE) {
		size_t page;
		struct range *r = find((char *)hva + at, &page);

		err = r ? injected(FAKE_OP_PROTECT) : -ESHUTDOWN;
		if (err)
			break;
		if (on && (r->page[page] == FAKE_WRITABLE || r->page[page] == FAKE_OWN))
			r->page[page] = FAKE_PROTECTED;
		else if (!on && r->page[page] == FAKE_PROTECTED)
			r->page[page] = FAKE_WRITABLE;
		else if (!on && r->page[page] == FAKE_ZERO)
			r->page[page] = FAKE_OWN;
	}
	pthread_mutex_unlock(&lock);
	if (!on && !err)
		ept_wake_later(in, hva, len);
	return err;
}

void ept_install_wake(struct ept_installer *in, void *hva, size_t len)
{
	(void)in;
	if (fake_before_wake)
		fake_before_wake(hva, len);
	pthread_mutex_lock(&lock);
	for (size_t at = 0; at < len; at += EPT_PAGE_SIZE) {
		size_t page;
		struct range *r = find((char *)hva + at, &page);

		if (r)
			wake(r, page);
	}
	pthread_mutex_unlock(&lock);
}

/* In one step: nothing is written to the page between its copy and its end. */
static int move_one(char *to, char *from)
{
	struct range *at, *source;
	size_t page, was;
	int err;

	pthread_mutex_lock(&lock);
	at = find(to, &page);
	source = find(from, &was);
	err = at && source ? injected(FAKE_OP_MOVE) : -ESHUTDOWN;
	if (!err && source->page[was] != FAKE_OWN && source->page[was] != FAKE_WRITABLE)
		err = -ENOENT;
	if (!err && at->page[page] != FAKE_NONE) {
		double_installs += at->page[page] != FAKE_FOREIGN;
		err = -EEXIST;
	}
	if (!err) {
		memcpy(to, from, EPT_PAGE_SIZE);
		at->page[page] = FAKE_OWN;
		at->installs++;
		source->page[was] = FAKE_NONE;
	}
	pthread_mutex_unlock(&lock);
	return err;
}

int ept_install_move_pages(struct ept_installer *in, void *to, void *from, size_t len, size_t *done)
{
	for (*done = 0; *done < len; *done += EPT_PAGE_SIZE) {
		char *source = (char *)from + *done, *at = (char *)to + *done;
		int err = move_one(at, source);

		if (err)
			return err;
		madvise(source, EPT_PAGE_SIZE, MADV_DONTNEED);
		ept_wake_later(in, at, EPT_PAGE_SIZE);
	}
	return 0;
}

int ept_install_drop(struct ept_installer *in, void *hva, size_t len)
{
	if (!in) { /* what the host kernel backs */
		fake_host_drop(hva, len);
		return 0;
	}
	for (size_t at = 0; at < len; at += EPT_PAGE_SIZE)
		fake_set_page((char *)hva + at, FAKE_NONE);
	return madvise(hva, len, MADV_DONTNEED) ? -errno : 0; /* no event: nothing is registered */
}

void ept_install_advise(void *hva, size_t len, bool small)
{
	(void)hva;
	(void)len;
	(void)small;
}
