/* The working set of a restored space: noted as it is asked for, brought in ahead. */
#ifndef FOAL_EPT_WORKING_SET_H
#define FOAL_EPT_WORKING_SET_H

#include "ept/snapshot.h"

#include <pthread.h>

struct ept_prefetch {
	uint64_t *noted; /* 1 + addresses of pages, oldest first; NULL: nothing is recorded */
	uint64_t max;
	uint64_t nr; /* atomic; may pass max */

	const struct ept_working_set *set; /* to be brought in; NULL: none */
	char *buf;			   /* of a chunk; the thread's */
	pthread_t thread;
	bool running;
	bool stop;			 /* atomic */
	struct ept_prefetch_stats stats; /* atomics */
};

/* Room for what the areas of @space may have noted, if it records. -ENOMEM. */
int ept_prefetch_init(struct ept_space *space);
int ept_prefetch_start(struct ept_space *space);
void ept_prefetch_stop(struct ept_space *space);
void ept_prefetch_free(struct ept_space *space);

/* The page at @gpa came in because it was asked for. */
void ept_prefetch_note(struct ept_space *space, uint64_t gpa);

/*
 * handlers_snapshot.c: put @pages pages at @gpa in, all of one area of layers and one leaf,
 * where nothing is and nothing was given back. How many went in.
 */
unsigned ept_snap_put(struct ept_area *area, uint64_t gpa, const char *bytes, unsigned pages);

#endif
