/* The working set of a restored space: noted as it is asked for, brought in ahead. */
#ifndef FOAL_EPT_PREFETCH_H
#define FOAL_EPT_PREFETCH_H

#include "ept/snapshot.h"

#include <pthread.h>

struct ept_prefetch {
	uint64_t *noted; /* addresses of extents, oldest first; NULL: no area of a snapshot */
	uint64_t max;	 /* extents there are: each is noted once or a few times */
	uint64_t nr;	 /* atomic; may pass max */

	uint64_t *list; /* to be brought in; NULL: none */
	size_t count;
	pthread_t thread;
	bool running;
	bool stop;			 /* atomic */
	struct ept_prefetch_stats stats; /* atomics */
};

/* Room for what the areas of @space may have noted. -ENOMEM. */
int ept_prefetch_init(struct ept_space *space);
int ept_prefetch_start(struct ept_space *space);
void ept_prefetch_stop(struct ept_space *space);
void ept_prefetch_free(struct ept_space *space);

/* The extent at @gpa came in. */
void ept_prefetch_note(struct ept_space *space, uint64_t gpa);

#endif
