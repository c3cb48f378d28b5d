/*
 * What the parts of oracle.c share: brackets around which faults are counted, and regions whose
 * counts are defined.
 */
#ifndef FOAL_DIFF_ORACLE_H
#define FOAL_DIFF_ORACLE_H

#include <stdbool.h>
#include <stddef.h>

#define PAGE  4096UL
#define PAGES 64UL /* of a region */

/* A part of the oracle's programs, by their numbers in its table (docs/oracle.md). */
void anonymous_programs(void); /* 1 to 5, 9, 18, 19 */
void file_programs(void);      /* 6, 7, 14, 15, 17 */
void disk_programs(void);      /* 8, 16: of a file on a disk's file system */
void fork_programs(void);      /* 10 to 12 */
void signal_programs(void);    /* 13 */
void mem_programs(void);       /* 20 */
void thread_programs(void);    /* 22 */
void huge_programs(void);      /* 21 */

/* --- counting (oracle.c) ---------------------------------------------------------------- */

struct faults {
	long minor, major;
};

/* Of the calling process, so far. */
struct faults faults(void);
/* One line: what happened, and the faults since @before. */
void tell(const char *what, struct faults before);

/* Counts what a statement takes. All it runs was run before. */
#define COUNT(name, what) \
	do { \
		struct faults before_ = faults(); \
		what; \
		tell(name, before_); \
	} while (0)

void say(const char *what, long value);
/* Ends the program where something that has to work does not. */
void must(bool works, const char *what);

/* Its own code, data and stack are there, and its own: once more in each child. */
void touch_self(void);
/* In a child, of which the end is told; it is to return. */
void in_child(const char *what, void (*run)(void));

/* --- memory ------------------------------------------------------------------------------ */

/* So many bytes of an arena of which each region begins at a multiple of 2 MiB. */
char *place(size_t bytes);
/* Private memory of 64 pages, without huge pages. */
char *own_region(void);
/* 64 pages of the file. */
char *file_region(int protection, int flags);
/* The scratch file, of 65 pages and a half, all in the page cache, and written page by page. */
int scratch_file(void);
/* The same name: of so many pages, in no cache. */
int cold_file(size_t pages);

/* A byte of each page; the sum of what was read. */
unsigned read_pages(const volatile char *p, size_t pages);
void write_pages(volatile char *p, size_t pages, char value);

/* --- faults (oracle_signals.c) ------------------------------------------------------------ */

enum access { READ, WRITE, FETCH };

/* Touches @at: "ok", or what the signal says, with the address as the distance from @base. */
void attempt(const char *what, enum access access, const volatile char *at,
	     const volatile char *base);

#endif
