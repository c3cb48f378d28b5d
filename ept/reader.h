/*
 * The reader: one thread a space that reads ahead of its guest, through io_uring
 * with several reads under way, or one after the other with pread where the host
 * has no io_uring. It copies to the object's cache what came, so that neither the
 * guest's CPU nor a fault thread does.
 *
 * Buffered, or past the host's page cache: ept_object_read_fd() says. Reads go to
 * buffers of 2 MiB together, then into the cache: that took 4.0 us a page cold,
 * reading into the cache's mapping 5.6 (256 KiB a read, 8 under way).
 */
#ifndef FOAL_EPT_READER_H
#define FOAL_EPT_READER_H

#include "ept/object.h"

#include <time.h>

#define EPT_READER_PAGES 64U /* a read at most */
#define EPT_READER_DEPTH 8U  /* reads under way */
#define EPT_READER_QUEUE 64U /* reads asked for and not ended */

struct ept_reader;

/* One read; the reader's but for what ept_object_read_ahead() fills in. */
struct ept_ahead {
	struct ept_object_read read; /* first: the object's reads are known by it */
	struct ept_object *obj;	     /* referenced */
	struct ept_ahead *next;
	char *buf; /* while it is under way */
	size_t len, done;
	int fd;
	bool wait;	/* the host's page cache may lack it */
	unsigned tries; /* that failed for now */
};

/* Open what it needs: before the process enters its sandbox. NULL: no memory for it. */
struct ept_reader *ept_reader_create(void);

/* Start its thread, as @config says of threads; it is of kind "read". 0 or -errno. */
int ept_reader_start(struct ept_reader *reader, const struct ept_config *config);

/*
 * Drop what is not begun, wait for what is and for who has taken a read, end the
 * thread. Idempotent; NULL is allowed.
 */
void ept_reader_stop(struct ept_reader *reader);
bool ept_reader_stopping(struct ept_reader *reader);

/*
 * Begin nothing from now on, drop what is queued and wait for what is under way: 0, or
 * -ETIMEDOUT at @until (CLOCK_MONOTONIC). NULL is allowed.
 */
int ept_reader_hold(struct ept_reader *reader, const struct timespec *until);
void ept_reader_release(struct ept_reader *reader);

/* Around a fork. NULL is allowed. */
void ept_reader_lock(struct ept_reader *reader, bool lock);
/* In the child, held: get its own descriptors; it is to be started. 0, -EMFILE. */
int ept_reader_adopt(struct ept_reader *reader);
void ept_reader_free(struct ept_reader *reader);

/* "io_uring", or "pread". */
const char *ept_reader_by(const struct ept_reader *reader);

/* A free read, of @obj, or NULL: too many are queued, or it is stopping. @obj's lock may be held.
 */
struct ept_ahead *ept_reader_take(struct ept_reader *reader, struct ept_object *obj);
/*
 * Take @read, one of the reader's, out of its queue: false if it was begun, or is
 * not queued yet. What was taken out goes back with ept_reader_put(). The object's
 * lock is held.
 */
bool ept_reader_drop(struct ept_reader *reader, struct ept_object_read *read);
void ept_reader_put(struct ept_reader *reader, struct ept_object_read *read);
/* Begin a list of them, linked by next. */
void ept_reader_queue(struct ept_reader *reader, struct ept_ahead *list);

#endif
