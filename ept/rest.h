/*
 * The rest of a window of restored memory: a fault brings the extent that it was asked for, and
 * leaves the others of its window to threads that have nothing to prefetch (any more). None of it
 * is in transit before its extent is being read, so who asks for a page of it waits for the read
 * of that extent at most, or reads it himself; nobody reads it again.
 */
#ifndef FOAL_EPT_REST_H
#define FOAL_EPT_REST_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct ept_area;
struct ept_space;
struct fault;

#define EPT_RESTS 64 /* windows that wait */

/* Entries [first, end) of a leaf of @area, from that of @asked on. */
struct ept_rest {
	struct ept_area *area; /* NULL: nothing is left */
	uint64_t gpa;	       /* of the leaf */
	uint16_t first, end, asked;
};

struct ept_rests {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct ept_rest job[EPT_RESTS];
	unsigned next, count; /* the oldest; how many wait */
	bool served;	      /* atomic: there are threads that take them */
	bool stop;
	uint64_t windows, pages; /* atomics: whose rest came behind the fault; pages of these */
};

/* Nothing waits, nobody serves. Of a forked child, too: what waits is its parent's. */
void ept_rests_init(struct ept_rests *rests);
/* Serve them until ept_rests_stop(): a thread of the space. */
void ept_rests_serve(struct ept_space *space);
void ept_rests_stop(struct ept_rests *rests);

/*
 * The fault @f was resolved, and who asked goes on. Leave its rest to who serves; where nobody
 * does, bring it in here. Where too many wait it is left out, and a later fault has it.
 */
void ept_rest_leave(struct fault *f);

/*
 * handlers_snapshot.c: bring in extent [first, end) of @rest, as far as it is missing, in layers
 * and not damaged. Pages that went in; *@bytes read are added.
 */
unsigned ept_snap_bring_rest(const struct ept_rest *rest, unsigned first, unsigned end,
			     uint64_t *bytes);

#endif
