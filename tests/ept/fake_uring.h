/*
 * An io_uring of the tests' own: it counts, comes short, fails, and holds reads
 * back until it is told. Reads are done by the thread that submits or releases.
 */
#ifndef FOAL_TESTS_EPT_FAKE_URING_H
#define FOAL_TESTS_EPT_FAKE_URING_H

#include <stdbool.h>
#include <stdint.h>

/* Before a space starts: opening a ring fails with this negative errno; 0: it does not. */
void fake_uring_absent(int error);

/* From now on reads stay under way until they are released. */
void fake_uring_hold(void);
void fake_uring_release(void);

/* The next @times reads fail with @error (negative errno). */
void fake_uring_fail(int error, unsigned times);

/* A read gives at most so many bytes; 0: any. */
void fake_uring_short(unsigned bytes);

unsigned fake_uring_reads(void);     /* begun */
unsigned fake_uring_under_way(void); /* begun and not done */
unsigned fake_uring_most(void);	     /* under way at once */
uint64_t fake_uring_bytes(void);     /* that reads gave */

#endif
