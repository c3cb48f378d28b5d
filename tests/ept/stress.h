/*
 * Everything at once: guests fault, devices reach in, files are written back, memory
 * is given back, reclaimed and snapshot, in an order that a seed decides. The actors are the
 * same on the fake installer (under ThreadSanitizer) and on userfaultfd; what a guest's touch
 * is differs.
 *
 * One more actor is a function and a row in the table of stress.c.
 */
#ifndef FOAL_TESTS_EPT_STRESS_H
#define FOAL_TESTS_EPT_STRESS_H

#include "tests/ept/util.h"

#include <pthread.h>

#define STRESS_VCPUS 3U

enum stress_kind { STRESS_ANON, STRESS_COW, STRESS_SHARED, STRESS_RO, STRESS_KINDS };

struct world {
	struct ept_space *space;
	struct ept_area *area[STRESS_KINDS];
	char *hva[STRESS_KINDS];
	int fd[STRESS_KINDS]; /* the file of each; -1: anonymous */
	bool limited;	      /* under a memory limit, with a swap file */
	/* Held for reading over each step of an actor, for writing by who wants them to rest. */
	pthread_rwlock_t steps;
	/* Of guests' writes: each to a word of its own in each page, 0: none yet. */
	uint64_t *wrote[STRESS_VCPUS][STRESS_KINDS];
	unsigned guests; /* that have not ended, atomic */
	bool stop;	 /* atomic */
	bool stopping;	 /* atomic: the space is being stopped under the actors */
	unsigned failed; /* atomic: what actors found wrong */
	unsigned seed;
};

#define STRESS_PAGES	  700U /* of each area: it lies in two leaves or three */
#define STRESS_GIVEN	  400U /* anonymous pages from here on are given back now and then */

/* The word of a page that is @vcpu's. Past the last is the file's alone. */
#define STRESS_WORD(vcpu) (8 + (vcpu))

/*
 * A guest's touch of word @word of a page: waits until the access is granted, then does
 * it. False: the space was stopped meanwhile. The program's own.
 */
bool stress_touch(struct world *w, unsigned vcpu, enum stress_kind kind, unsigned page,
		  unsigned word, enum ept_access access, uint64_t *value);

/*
 * A device's access to two words, the second perhaps of the next page: an error if the space
 * was stopped meanwhile. The program's own.
 */
int stress_device(struct world *w, enum stress_kind kind, uint64_t at, uint64_t words[2],
		  enum ept_access access);

/*
 * Some seeds' worth: actors run, end, and what they left is checked, by @check, too; or
 * the space is stopped under them. One suite a program.
 */
Suite *stress_suite(const char *name, void (*check)(struct world *w), bool limits);

/* Count something that is wrong, with a line on standard error. */
void stress_wrong(struct world *w, const char *what, unsigned where);

/*
 * Is @got what @vcpu has to find in its word of a page, having written @wrote to it last (0:
 * nothing)? What may have been given back may be zeros.
 */
bool stress_is_right(uint64_t wrote, unsigned vcpu, enum stress_kind kind, unsigned page,
		     uint64_t got);

/* Entries, counts, pool and swap file agree. Nobody changes them. */
void stress_check_mirror(struct world *w);

/* --- stress_hold.c: the space is held, for a moment or for a snapshot --------------------- */

/* While guests and devices go on: nothing is half way. False: the space is being stopped. */
bool stress_hold(struct world *w);

/* While they rest: a child writes it, and it has what was there then. The same. */
bool stress_snapshot(struct world *w);

#endif
