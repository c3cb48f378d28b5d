/*
 * Failures of files, injected rather than hoped for: the test programs define
 * pread, pwrite and fdatasync themselves, so ept/'s calls come here first. So with the clock,
 * for tests of what takes too long, and with what a file system is called.
 */
#ifndef FOAL_TESTS_EPT_INJECT_H
#define FOAL_TESTS_EPT_INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inject {
	unsigned pread_delay_us;
	size_t pread_max; /* bytes a call gives at most; 0: any */
	bool block;	  /* reads that touch [bad_from, bad_to) wait until this is false */
	unsigned blocked; /* how many do */
	int pread_errno;  /* for reads that touch [bad_from, bad_to) of any file */
	uint64_t bad_from, bad_to;
	unsigned eintr_every; /* every so many calls fail with EINTR first; 0: none */
	bool move_denied;     /* UFFDIO_MOVE moves a page, and says EEXIST */
	bool slip;	      /* a write comes between mapping a page and write-protecting it */
	uint64_t clock_ns;    /* CLOCK_MONOTONIC stands still here; 0: it runs */
	int pwrite_errno;
	int fdatasync_errno;
	long file_system; /* that all files are in, as statfs(2) calls it; 0: what it is */
	/* counted, atomically */
	unsigned preads, pwrites, fdatasyncs;
	uint64_t bytes_read, bytes_written;
};

/* What such a write leaves, and where in the page. */
#define INJECT_SLIPPED 0x5a
#define INJECT_SLIP_AT 100

extern struct inject inject;

/* A test looks and sets while the threads of a space run. */
#define inject_get(field)	 __atomic_load_n(&inject.field, __ATOMIC_RELAXED)
#define inject_set(field, value) __atomic_store_n(&inject.field, value, __ATOMIC_RELAXED)

/* From now on time passes when inject_clock_passes() says so, and not by itself. */
void inject_clock_stop(void);
void inject_clock_passes(unsigned ms);

/* From now on reads that touch [@from, @to) wait, until inject_set(block, false). */
void inject_block(uint64_t from, uint64_t to);
/* Until one does. */
void inject_wait_blocked(void);

#endif
