/*
 * What the fault path needs of a kernel, on the build machine: frames, one task that waits for
 * events the test brings about, and a mapping of a file made by hand.
 */
#ifndef TESTS_FAKE_MM_H
#define TESTS_FAKE_MM_H

#include "tests/guest_mm/host_cpu.h"

#include "guest/include/mm.h"

#include <check.h>

#define FAKE_START 0x200000UL /* where the mapping lies */
#define FAKE_PAGES 16

/*
 * What happens elsewhere while the task is about to sleep (an interrupt between its look and its
 * sleep), and while it sleeps. NULL: nothing, and sleeping aborts. Each is called once.
 */
extern void (*fake_interrupt)(void);
extern void (*fake_event)(void);
/* What happens elsewhere while a page of 2 MiB is allocated; and whether there are none. */
extern void (*fake_huge_alloc)(void);
extern bool fake_no_huge;

/* Other CPUs are asked for something: called each time, before they do it. */
extern void (*fake_call)(void);

/* One address space with one mapping of FAKE_PAGES pages, of fake_inode or anonymous. */
extern struct mm fake_mm;
extern struct vma fake_vma;
extern struct inode fake_inode;

/* What the task was told last. */
extern struct fake_signal {
	int sig, code;
	u64 addr;
} fake_signal;

/* swap_suite.c, huge_suite.c */
Suite *guest_swap_suite(void), *guest_huge_suite(void);

/* Everything as new. flags: VM_*; ops NULL: anonymous. */
void fake_setup(unsigned flags, const struct vm_ops *ops);

/* Frames handed out and not given back. */
long fake_frames(void);

/* The entry of the mapping's page, its table made. */
pte_t *fake_entry(unsigned page);

/* A page in the cache of fake_inode, up to date, with the cache's reference. */
struct page *fake_cached(u64 index);

#endif
