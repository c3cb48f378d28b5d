/* What a restored space brings in before it is asked for, by threads of its own. */
#ifndef FOAL_EPT_PREFETCH_H
#define FOAL_EPT_PREFETCH_H

#include "ept/mirror.h"
#include "ept/rest.h"
#include "ept/working_set.h"

#include <pthread.h>

/* Threads, where the process may use as many CPUs: some read while others put in. */
#define EPT_PREFETCH_THREADS 4

/*
 * Of so many pages in the set on a leaf comes by 2 MiB, where memory goes in so: that costs what
 * this many single ones do, and takes no more than four times their memory.
 */
#define EPT_SET_DENSE	     (EPT_TABLE_SIZE / 4)

/* The set has some of it, too little for 2 MiB. */
static inline bool ept_set_sparse(const struct ept_leaf *leaf)
{
	return leaf->in_set && leaf->in_set < EPT_SET_DENSE;
}

struct ept_prefetch {
	uint64_t *noted; /* 1 + addresses of pages, oldest first; NULL: nothing is recorded */
	uint64_t max;
	uint64_t nr; /* atomic; may pass max */

	enum ept_prefetch_how how;
	const struct ept_working_set *set; /* to be brought in; NULL: none */
	bool all;			   /* everything is, whatever @set says */
	bool rest;			   /* and then the rest of windows; also without these */
	int error;			   /* atomic: of all, something cannot be */
	uint64_t next;			   /* atomic: the first portion that nobody has taken */
	unsigned cpus;			   /* that threads may have, at most as many */
	pthread_t thread[EPT_PREFETCH_THREADS];
	unsigned running; /* of them */
	unsigned working; /* of them, still bring in @set or all; atomic */
	pthread_mutex_t lock;
	pthread_cond_t idle; /* working is 0 */
	struct ept_rests rests;
	bool stop;			 /* atomic */
	struct ept_prefetch_stats stats; /* atomics */
};

/* Room for what the areas of @space may have noted, if it records. -ENOMEM. */
int ept_prefetch_init(struct ept_space *space);
int ept_prefetch_start(struct ept_space *space);
void ept_prefetch_stop(struct ept_space *space);
void ept_prefetch_free(struct ept_space *space);
/* In a forked child, whose threads are not there. */
void ept_prefetch_forked(struct ept_space *space);
bool ept_prefetch_cancelled(const struct ept_space *space);

/*
 * prefetch_ask.c: of the @count pages whose addresses are @gpa ask for those whose 2 MiB are
 * dense: how many these are, there by now or not.
 */
uint64_t ept_prefetch_ask_dense(struct ept_space *space, const uint64_t *gpa, uint64_t count);
/*
 * Of the same pages those whose 2 MiB are not dense, as far as they are not there: their addresses,
 * and their bytes as the snapshot's extents have them. How many.
 */
unsigned ept_prefetch_read_sparse(struct ept_space *space, const uint64_t *gpa, uint64_t count,
				  uint64_t *sparse, char *to);
/* Everything that the layers hold. */
void ept_prefetch_ask_all(struct ept_space *space);

/*
 * snapshot_put.c: put in the @count pages whose addresses are @gpa and whose bytes follow
 * each other at @bytes, as far as they are areas' of layers, nothing is there, and nothing was
 * given back. Who asks for one meanwhile waits for it. @count is at most EPT_SET_CHUNK. How many
 * went in.
 */
unsigned ept_snap_put(struct ept_space *space, const uint64_t *gpa, const char *bytes,
		      unsigned count);

#endif
