/*
 * What the cases of /bin/check share. Each runs in a child of its own, so it may leave mappings,
 * files and itself in any state.
 */
#ifndef FOAL_USER_CHECK_H
#define FOAL_USER_CHECK_H

#include "guest/user/lib/user.h"

enum {
	SYS_MPROTECT = 10,
	SYS_BRK = 12,
	SYS_PWRITE64 = 18,
	SYS_SCHED_YIELD = 24,
	SYS_MREMAP = 25,
	SYS_MINCORE = 27,
	SYS_MADVISE = 28,
	SYS_GETPID = 39,
	SYS_FSYNC = 74,
	SYS_MLOCK = 149,
	SYS_MUNLOCK = 150,
	SYS_MLOCKALL = 151,
	SYS_MUNLOCKALL = 152,
};
enum { PROT_NONE = 0, PROT_EXEC = 4 };
enum {
	MAP_FIXED = 0x10,
	MAP_GROWSDOWN = 0x100,
	MAP_POPULATE = 0x8000,
	MAP_FIXED_NOREPLACE = 0x100000,
};
enum {
	MADV_DONTNEED = 4,
	MADV_FREE = 8,
	MADV_DONTFORK = 10,
	MADV_DOFORK = 11,
	MADV_COLD = 20,
	MADV_PAGEOUT = 21,
	MADV_POPULATE_READ = 22,
	MADV_POPULATE_WRITE = 23,
};
enum { MREMAP_MAYMOVE = 1, MREMAP_FIXED = 2, MREMAP_DONTUNMAP = 4 };
enum { MS_INVALIDATE = 2 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11 };
enum {
	ENOEXEC = 8,
	ECHILD = 10,
	ENOMEM = 12,
	EFAULT = 14,
	EBUSY = 16,
	EEXIST = 17,
	EINVAL = 22,
	EROFS = 30
};

#define FILE_PATH "/data/shared" /* 1 MiB, may be written */
#define RW	  (PROT_READ | PROT_WRITE)

/* Ends the case, naming the place, unless what should hold does. */
#define EXPECT(cond) \
	do { \
		if (!(cond)) { \
			print("check: %s:%d: %s\n", __FILE__, __LINE__, #cond); \
			return 1; \
		} \
	} while (0)

struct check {
	const char *name; /* NULL: end of the list */
	int (*fn)(void);
	int signal; /* that ends it; 0: it ends by itself, with 0 */
};

extern const struct check memory_checks[], mapping_checks[], count_checks[], pointer_checks[],
    exec_checks[], limit_checks[], huge_checks[], smaps_checks[], hugetlb_checks[], file_checks[],
    task_checks[], trap_checks[], signal_checks[], futex_checks[];

/* Fresh private memory; NULL if there is none. */
volatile uint8_t *anon(size_t pages);
int protect(volatile void *p, size_t pages, int prot);
/* The calling task's so far. */
long minor_faults(void);
/* The number behind the first line of the file that begins with name; -1: there is none. */
long proc_value(const char *path, const char *name);
/* Runs fn in a child; its wait status, or -1. */
int in_child(int (*fn)(void));

#endif
