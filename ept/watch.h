/*
 * Faults under way, for whoever asks why one does not end. Who resolves a fault
 * says what it waits for as it goes; ept_space_check() finds one that takes too
 * long, and a fault thread that ended. Files are looked at by a thread of their own.
 */
#ifndef FOAL_EPT_WATCH_H
#define FOAL_EPT_WATCH_H

#include "ept/ept.h"
#include "ept/lead.h"

#include <pthread.h>

struct ept_area;

#define EPT_WAITS(X) \
	X(HOST, "the host's kernel to put the page in (host memory, or its locks)") \
	X(LEAF, "the lock of the page's table, which another fault or a write-back holds") \
	X(READ, "a read of its file, whose storage does not answer") \
	X(TRANSIT, "another thread that reads the page") \
	X(SWAP, "a read of the swap file, whose storage does not answer") \
	X(ROOM, "room under the memory limit; storage that pages go to may not answer") \
	X(TRACE, "the file of --trace, whose storage does not answer; the page is there")

enum ept_wait {
#define X(id, what) EPT_WAIT_##id,
	EPT_WAITS(X)
#undef X
};

/* On the stack of the thread that resolves it. Fixed while it is listed but for the last two. */
struct ept_pending {
	const struct ept_area *area;
	gpa_t gpa;
	enum ept_origin origin;
	uint64_t since; /* ept_now() */
	struct ept_pending *next, **link;
	uint64_t waited;    /* ns, as ept_space_check() saw it; under watch_lock */
	enum ept_case kase; /* atomic: so far */
	enum ept_wait wait; /* atomic */
};

void ept_watch_begin(struct ept_space *space, struct ept_pending *pending);
void ept_watch_end(struct ept_space *space, struct ept_pending *pending);

/*
 * The same of what is brought in behind a fault, in a portion of work (hold.h): a vCPU that
 * finds a page of it in transit sleeps until it is there, and no fault is under way for it.
 */
void ept_watch_portion(struct ept_space *space, struct ept_pending *pending);

/* The thread that may wait for storage: it looks at the files' sizes, and reads ahead. */
struct ept_file_watch {
	struct ept_lead_queue queue;
	pthread_t thread;
	bool running;	/* under life_lock */
	uint64_t since; /* it waits for one, ept_now(); 0: it does not; atomic */
};

/* Only if there is a file to look at. The stop waits for a look that is under way. */
int ept_file_watch_start(struct ept_space *space);
void ept_file_watch_stop(struct ept_space *space);

static inline void ept_watch_wait(struct ept_pending *pending, enum ept_wait wait)
{
	__atomic_store_n(&pending->wait, wait, __ATOMIC_RELAXED);
}

#endif
