/*
 * System calls, Linux's x86-64 ABI: the number in rax, arguments in rdi, rsi,
 * rdx, r10, r8, r9; rcx and r11 are lost. A result in [-4095, -1] is a negative
 * errno. The same programs therefore run on Linux too.
 */
#ifndef FOAL_USER_SYSCALL_H
#define FOAL_USER_SYSCALL_H

#include <stddef.h>
#include <stdint.h>

enum {
	SYS_READ = 0,
	SYS_WRITE = 1,
	SYS_OPEN = 2,
	SYS_CLOSE = 3,
	SYS_FSTAT = 5,
	SYS_MMAP = 9,
	SYS_MUNMAP = 11,
	SYS_PREAD64 = 17,
	SYS_MSYNC = 26,
	SYS_NANOSLEEP = 35,
	SYS_FORK = 57,
	SYS_EXECVE = 59,
	SYS_WAIT4 = 61,
	SYS_GETRUSAGE = 98,
	SYS_CLOCK_GETTIME = 228,
	SYS_EXIT_GROUP = 231,
	SYS_GETRANDOM = 318,
};

enum { O_RDONLY = 0, O_RDWR = 2 };
enum { PROT_READ = 1, PROT_WRITE = 2 };
enum { MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20, MAP_NORESERVE = 0x4000 };
enum { MS_SYNC = 4 };
enum { ENOENT = 2 };

struct timespec {
	int64_t tv_sec;
	int64_t tv_nsec;
};

/* struct stat of x86-64; what no program here reads is padding. */
struct stat {
	uint64_t pad0[3];
	uint32_t st_mode;
	uint32_t pad1[5];
	int64_t st_size;
	uint64_t pad2[11];
};

struct rusage {
	int64_t ru_utime[2];
	int64_t ru_stime[2];
	int64_t pad0[4];
	int64_t ru_minflt;
	int64_t ru_majflt;
	int64_t pad1[8];
};

static inline long syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long syscall4(long nr, long a, long b, long c, long d)
{
	return syscall6(nr, a, b, c, d, 0, 0);
}

static inline long syscall3(long nr, long a, long b, long c)
{
	return syscall6(nr, a, b, c, 0, 0, 0);
}

static inline long sys_read(int fd, void *buf, size_t len)
{
	return syscall3(SYS_READ, fd, (long)buf, (long)len);
}

static inline long sys_write(int fd, const void *buf, size_t len)
{
	return syscall3(SYS_WRITE, fd, (long)buf, (long)len);
}

static inline long sys_getrandom(void *buf, size_t len, unsigned flags)
{
	return syscall3(SYS_GETRANDOM, (long)buf, (long)len, flags);
}

static inline long sys_pread(int fd, void *buf, size_t len, uint64_t off)
{
	return syscall4(SYS_PREAD64, fd, (long)buf, (long)len, (long)off);
}

static inline int sys_open(const char *path, int flags)
{
	return (int)syscall3(SYS_OPEN, (long)path, flags, 0);
}

static inline int sys_close(int fd)
{
	return (int)syscall3(SYS_CLOSE, fd, 0, 0);
}

static inline int sys_fstat(int fd, struct stat *st)
{
	return (int)syscall3(SYS_FSTAT, fd, (long)st, 0);
}

static inline long sys_mmap(void *addr, size_t len, int prot, int flags, int fd, uint64_t off)
{
	return syscall6(SYS_MMAP, (long)addr, (long)len, prot, flags, fd, (long)off);
}

static inline int sys_munmap(void *addr, size_t len)
{
	return (int)syscall3(SYS_MUNMAP, (long)addr, (long)len, 0);
}

static inline int sys_msync(void *addr, size_t len, int flags)
{
	return (int)syscall3(SYS_MSYNC, (long)addr, (long)len, flags);
}

static inline int sys_nanosleep(const struct timespec *req)
{
	return (int)syscall3(SYS_NANOSLEEP, (long)req, 0, 0);
}

static inline int sys_fork(void)
{
	return (int)syscall3(SYS_FORK, 0, 0, 0);
}

static inline int sys_execve(const char *path, char *const argv[], char *const envp[])
{
	return (int)syscall3(SYS_EXECVE, (long)path, (long)argv, (long)envp);
}

static inline int sys_wait4(int pid, int *status)
{
	return (int)syscall4(SYS_WAIT4, pid, (long)status, 0, 0);
}

static inline int sys_getrusage(struct rusage *ru)
{
	return (int)syscall3(SYS_GETRUSAGE, 0, (long)ru, 0);
}

static inline int sys_clock_gettime(int clock, struct timespec *ts)
{
	return (int)syscall3(SYS_CLOCK_GETTIME, clock, (long)ts, 0);
}

_Noreturn static inline void sys_exit(int status)
{
	for (;;)
		syscall3(SYS_EXIT_GROUP, status, 0, 0);
}

#endif
