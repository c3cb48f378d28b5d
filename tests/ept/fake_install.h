/*
 * An installer that only notes. It keeps what a host's page table would hold,
 * a page at a time, and fails a test that installs a page twice. Events come
 * from fake_event(); there is no waiter, so it counts how often each was woken.
 */
#ifndef FOAL_TESTS_EPT_FAKE_INSTALL_H
#define FOAL_TESTS_EPT_FAKE_INSTALL_H

#include "ept/install.h"

#include <stdbool.h>

#include <sys/types.h>

enum fake_page {
	FAKE_NONE,
	FAKE_ZERO,	/* zero page, protected */
	FAKE_OWN,	/* private and writable */
	FAKE_PROTECTED, /* cached page, or an own one, protected */
	FAKE_WRITABLE,	/* cached page, writable or not protected */
	FAKE_POISON,	/* a touch is an error */
	FAKE_FOREIGN,	/* somebody else put it there: an install says EEXIST */
};

enum fake_op {
	FAKE_OP_ZERO,
	FAKE_OP_COPY,
	FAKE_OP_CONTINUE,
	FAKE_OP_PROTECT,
	FAKE_OP_MOVE,
	FAKE_OP_POISON,
	FAKE_NR_OPS
};

/* UFFD_FEATURE_* of the kernel it stands for; set before ept_space_create(). */
extern uint64_t fake_features;

/* The next @times calls of @op fail with @error (negative errno) and do nothing. */
void fake_fail(enum fake_op op, int error, unsigned times);

/* CONTINUE deals with this many pages a run, then fails with @error. */
void fake_continue_stops_after(unsigned pages, int error);

/* The next MOVE comes apart after this many pages. */
void fake_move_stops_after(unsigned pages);

enum fake_page fake_page(const void *hva);
void fake_set_page(const void *hva, enum fake_page page);
/* The same as hardware has it: it stays so until fake_touched(), which ends the touch. */
enum fake_page fake_touch(const void *hva);
void fake_touched(void);
unsigned fake_wakes(const void *hva);
/*
 * Sleep as a waiter in the page at @hva does, whose event was sent when fake_wakes()
 * was @wakes: until it is woken, or nothing is registered there any more. False if that
 * took FAKE_WAIT_S seconds: its wake was lost.
 */
#define FAKE_WAIT_S 60
bool fake_wait(const void *hva, unsigned wakes);
/* Called before a wake, by who wakes; NULL: nothing is. */
extern void (*fake_before_wake)(char *hva, size_t len);
/* Pages that were put into what is registered around @hva; attempts, anywhere, over one that we
 * had put there ourselves. */
unsigned fake_installs(const void *hva);
unsigned fake_double_installs(void);

/* --- fake_host.c ------------------------------------------------------------------ */

/* What the host's tables hold of the memory it backs by itself, and which of it is huge. */
void fake_host(void *hva, size_t pages);
void fake_host_touch(unsigned first, unsigned pages); /* as a guest; huge where that is wanted */
/* The same of a file's pages: @copy, written; each is a fault. */
void fake_host_file(unsigned first, unsigned pages, bool copy);
unsigned fake_host_count(unsigned region); /* pages present of 512 */
bool fake_host_huge(unsigned region);
bool fake_host_wants(unsigned region);
void fake_host_zero_pages(bool all);		  /* all that is there is the zero page */
void fake_host_refuse(int error, unsigned times); /* the next collapses fail */
unsigned fake_host_collapses(void);		  /* calls since fake_host() */
/* Whose the pages are: asked between the look at them and what follows. */
void fake_host_when_asked(void (*what)(void));
void fake_host_small(bool small);  /* no touch gives a huge page */
void fake_host_staging(bool huge); /* are places aside huge pages? They are, at first. */
void fake_host_drop(const void *hva, size_t len);

/* An event as a fault thread reads it: @flags are UFFD_PAGEFAULT_FLAG_*. */
void fake_event(const struct ept_installer *in, const void *hva, uint64_t flags, pid_t tid);

#endif
