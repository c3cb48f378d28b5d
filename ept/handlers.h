/*
 * What the handlers of the cases share. A handler is called, and returns, with
 * the leaf locked; it may drop the lock in between.
 */
#ifndef FOAL_EPT_HANDLERS_H
#define FOAL_EPT_HANDLERS_H

#include "ept/fault.h"
#include "ept/object_snapshot.h"
#include "ept/space.h"
#include "ept/watch.h"

struct fault {
	struct ept_area *area;
	struct ept_leaf *leaf;
	const struct ept_request *req;
	struct ept_resolution *res;
	unsigned index;		     /* of the page in the leaf */
	bool waited;		     /* for a page in transit */
	bool looked_at;		     /* whether it is sampled (sample.h) */
	unsigned short_of;	     /* pages that the memory limit has no room for now */
	bool stepped;		     /* step and streams are known */
	struct ept_streams *streams; /* of a file area: of its reads, or of its writes */
	struct ept_step step;	     /* of a file area: what the fault's stream says */
	bool unreadable;	     /* the object did not give the page */
	int poisoned;		     /* so it was poisoned: the object's error, to be noted */
	struct ept_rest rest;	     /* of a snapshot's window; to be brought in behind it */
	struct ept_pending pending;
};

typedef enum ept_result (*handler_fn)(struct fault *f);

/* handlers_anon.c */
enum ept_result ept_anon_read(struct fault *f);
enum ept_result ept_anon_write(struct fault *f);
enum ept_result ept_anon_wp(struct fault *f);

/* handlers_file.c */
enum ept_result ept_file_read(struct fault *f);
enum ept_result ept_file_cow(struct fault *f);
enum ept_result ept_file_wp(struct fault *f);
enum ept_result ept_shared_read(struct fault *f);
enum ept_result ept_shared_write(struct fault *f);
enum ept_result ept_shared_mkwrite(struct fault *f);

/* What is to be read ahead with this fault, if it was not begun yet. No lock is held. */
void ept_fault_read_ahead(struct fault *f);
/* handlers_huge.c */
enum ept_result ept_file_huge(struct fault *f);
/* Bring the 2 MiB around in, if that is wanted and can be; else false, and nothing was done. */
bool ept_anon_whole(struct fault *f, enum ept_result *result);
/* The same of a snapshot's area. After false its leaf may have changed. */
bool ept_snap_whole(struct fault *f, enum ept_result *result);
/* handlers_snapshot.c */
enum ept_result ept_snap_read(struct fault *f);
enum ept_result ept_snap_write(struct fault *f);
/* Was nothing put in at entry @index of an area of layers, and nothing given back? */
static inline bool ept_snap_empty(const struct ept_leaf *leaf, unsigned index)
{
	return ept_pte_get(leaf, index) == EPT_PTE_NONE &&
	       ept_pte_value(leaf, index) != EPT_VALUE_DISCARDED;
}
/* Is the page of empty entry @index zeros, by the snapshot or because it was given back? */
bool ept_snap_zeros(const struct fault *f, unsigned index);
/*
 * handlers_file.c: how many pages, from the one of the fault on, who touches own pages in
 * order is given at once: asked of its stream once, however often the fault is tried. And
 * say that it was given what lies there now.
 */
unsigned ept_write_ahead(struct fault *f);
/* The same of pages that were in use before: as many as were gone over in order so far. */
unsigned ept_return_ahead(struct fault *f);
void ept_write_moved(const struct fault *f);

/* handlers_reclaim.c */
enum ept_result ept_hint(struct fault *f);
/* handlers_swap.c */
enum ept_result ept_swap_in(struct fault *f);

/* handlers_any.c */
enum ept_result ept_spurious(struct fault *f);
enum ept_result ept_transit(struct fault *f);
enum ept_result ept_ro_write(struct fault *f);

/* poison.c */
enum ept_result ept_io_poison(struct fault *f);
/* The end of a fault whose object failed with @err: the page is poisoned, or the space fails. */
enum ept_result ept_io_failed(struct fault *f, int err);

/*
 * How a handler ends. @err is what install or the object said; the case was
 * set by the dispatcher and changes only if the fault became another one.
 */
enum ept_result ept_fault_finish(struct fault *f, int err);

/* Grant writing to a page that is there, and call it @pte from now on. */
enum ept_result ept_grant_write(struct fault *f, enum ept_pte pte);

/*
 * What the page of entry @index is, that was just mapped as @pte: where the host cannot map and
 * protect in one step a write may have come between, to the shared page or to an own copy.
 */
enum ept_pte fault_mapped_as(const struct fault *f, unsigned index, enum ept_pte pte);

/* Say what the fault waits for from here on. */
static inline void fault_waits(struct fault *f, enum ept_wait wait)
{
	ept_watch_wait(&f->pending, wait);
}

/* What was to be read for it has come, or will not. */
static inline void fault_read_ended(struct fault *f)
{
	if (f->area->space->log.map)
		f->res->read_at = ept_now();
}

static inline void fault_lock_leaf(struct fault *f)
{
	fault_waits(f, EPT_WAIT_LEAF);
	pthread_mutex_lock(&f->leaf->lock);
	fault_waits(f, EPT_WAIT_HOST);
}

static inline uint64_t fault_leaf_start(const struct fault *f)
{
	return ept_leaf_start(f->req->gpa.v);
}

/* Where the page of entry @index of the fault's leaf lies in this process. */
static inline char *fault_hva(const struct fault *f, unsigned index)
{
	return ept_hva(f->area, fault_leaf_start(f) + ((uint64_t)index << EPT_PAGE_SHIFT));
}

static inline struct ept_installer *fault_installer(const struct fault *f)
{
	return &f->area->space->installer;
}

/* Is a write to a page mapped as @pte to be an event? Nobody can write a read-only area. */
static inline bool fault_protects(const struct fault *f, enum ept_pte pte)
{
	return pte != EPT_PTE_DIRTY && ept_area_writable(f->area);
}

static inline void fault_set(const struct fault *f, unsigned index, enum ept_pte pte)
{
	ept_area_set_pte(f->area, f->leaf, index, pte);
}

#endif
