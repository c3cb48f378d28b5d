/* Which arguments each system call of the guest kernel takes, for tests/diff/hostile.c. */
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include "guest/include/syscall.h"
#include "tests/diff/hostile.h"

enum {
#define X(nr, name) NR_##name = nr,
	SYSCALLS(X)
#undef X
};

#define ROW(call, letters, ...) \
	.name = #call, .nr = NR_##call, .kinds = letters, .base = {__VA_ARGS__}
#define CALL(...) \
	{ \
		ROW(__VA_ARGS__) \
	}
#define TELLS(...) \
	{ \
		ROW(__VA_ARGS__), .tells = true \
	}
#define WAITS(...) \
	{ \
		ROW(__VA_ARGS__), .waits = true \
	}
#define LEFT_OUT(call, why) \
	{ \
		.name = #call, .nr = NR_##call \
	} /* why */

#define EVENT	((long)&event)
#define AT_ONCE ((long)&at_once)
#define NOBODY	0x3ffffff

static const struct timespec at_once;
static const struct sigevent event = {.sigev_signo = 10};
static const char link_path[] = "link", here[] = ".", new_path[] = "new", file_path[] = "file";

#define LINK ((long)link_path)
#define HERE ((long)here)
#define NEW  ((long)new_path)
#define FILE ((long)file_path)

const struct call hostile_calls[] = {
    /* files */
    TELLS(read, "fob", 0, 0, 8),
    TELLS(write, "fib", 0, 0, 8),
    TELLS(sendfile, "ffob", 0, 0, 0, 8),
    TELLS(pread64, "fob@", 0, 0, 8),
    TELLS(pwrite64, "fib@", 0, 0, 8),
    TELLS(readv, "fic", 0, 0, 1),
    TELLS(writev, "fic", 0, 0, 1),
    TELLS(preadv, "fic@", 0, 0, 1),
    TELLS(pwritev, "fic@", 0, 0, 1),
    TELLS(lseek, "f@x"),
    CALL(ioctl, "fxo", 0, 0x5401),
    CALL(fsync, "f"),
    CALL(fdatasync, "f"),
    CALL(fadvise64, "f@xx", 0, 0, 0, 0),
    CALL(ftruncate, "f@", 0, 16),
    CALL(fstat, "fo"),
    CALL(fstatfs, "ro"),
    CALL(fchmod, "r-", 0, 0644),
    CALL(fchown, "r--", 0, -1, -1),
    CALL(getdents64, "dob", 0, 0, 1024),
    CALL(fchdir, "d"),
    /* descriptors */
    CALL(dup, "f"),
    CALL(dup2, "fc", 0, 50),
    CALL(dup3, "fcx", 0, 51),
    CALL(fcntl, "fx-", 0, F_GETFD),
    CALL(fcntl, "f-c", 0, F_DUPFD, 60),
    CALL(pipe, "o"),
    CALL(pipe2, "ox"),
    CALL(poll, "oc-", 0, 1),
    CALL(ppoll, "oc-i-", 0, 1, AT_ONCE, 0, 8),
    CALL(select, "cooo-", 4, 0, 0, 0, AT_ONCE),
    CALL(pselect6, "cooo-i", 4, 0, 0, 0, AT_ONCE),
    CALL(close, "c", 77),
    CALL(eventfd, "c"),
    CALL(eventfd2, "cx"),
    CALL(timerfd_create, "xx", 1),
    CALL(timerfd_settime, "fxio"),
    CALL(timerfd_gettime, "fo"),
    CALL(signalfd, "fix", 0, 0, 8),
    CALL(signalfd4, "fixx", 0, 0, 8),
    CALL(signalfd4, "-ixx", -1, 0, 8),
    /* paths */
    CALL(open, "p--"),
    CALL(openat, "ap--"),
    CALL(creat, "p-", 0, 0644),
    CALL(stat, "po"),
    CALL(lstat, "po"),
    CALL(newfstatat, "apox"),
    CALL(statx, "ap-xo"),
    CALL(statfs, "po"),
    CALL(access, "px"),
    CALL(faccessat, "apx"),
    CALL(faccessat2, "apxx"),
    CALL(truncate, "p@", 0, 16),
    CALL(chdir, "p", HERE),
    CALL(rename, "pp", FILE, FILE),
    CALL(renameat, "apap", 0, FILE, 0, FILE),
    CALL(renameat2, "apapx", 0, FILE, 0, FILE),
    CALL(mkdir, "p-", FILE, 0755),
    CALL(mkdirat, "ap-", 0, FILE, 0755),
    CALL(mknod, "px-", FILE, S_IFREG | 0600),
    CALL(mknodat, "apx-", 0, FILE, S_IFREG | 0600),
    CALL(rmdir, "p", NEW),
    CALL(unlink, "p", NEW),
    CALL(unlinkat, "apx", 0, NEW),
    CALL(link, "pp", FILE, FILE),
    CALL(linkat, "apapx", 0, FILE, 0, FILE),
    CALL(symlink, "pp", FILE, FILE),
    CALL(symlinkat, "pap", FILE, 0, FILE),
    TELLS(readlink, "pob", LINK, 0, 8),
    TELLS(readlinkat, "apob", 0, LINK, 0, 8),
    CALL(chmod, "p-", 0, 0644),
    CALL(fchmodat, "ap-", 0, 0, 0644),
    CALL(chown, "p--", 0, -1, -1),
    CALL(lchown, "p--", 0, -1, -1),
    CALL(fchownat, "ap--x", 0, 0, -1, -1),
    CALL(utimensat, "apix"),
    CALL(getcwd, "ob", 0, 1024),
    CALL(umask, "c", 022),
    CALL(execve, "p--"),
    /* memory */
    CALL(mmap, "mlx--@", 0, 4096, 3, 0x22, -1),
    CALL(mmap, "-l---@", 0, 4096, 3, 0, -1),
    CALL(mprotect, "mlx", 0, 4096, 3),
    CALL(munmap, "ml", 0, 4096),
    CALL(brk, "l"),
    CALL(mremap, "mllx-", 0, 4096, 4096),
    CALL(msync, "mlx", 0, 4096, 4),
    CALL(mincore, "mlo", 0, 4096),
    CALL(madvise, "m-x", 0, 4096, 4),
    CALL(mlock, "ml", 0, 4096),
    CALL(mlock2, "mlx", 0, 4096),
    CALL(munlock, "ml", 0, 4096),
    CALL(mlockall, "x"),
    CALL(munlockall, ""),
    /* signals */
    CALL(rt_sigaction, "sio-", 10, 0, 0, 8),
    CALL(rt_sigaction, "--ox", 10, 0, 0, 8),
    CALL(rt_sigprocmask, "xiox", 0, 0, 0, 8),
    CALL(rt_sigpending, "ox", 0, 8),
    WAITS(rt_sigsuspend, "ix", BAD, 8),
    CALL(sigaltstack, "io"),
    CALL(kill, "Ps", NOBODY),
    CALL(tkill, "Ps", NOBODY),
    CALL(tgkill, "PPs", NOBODY, NOBODY),
    CALL(rt_sigtimedwait, "io--", 0, 0, AT_ONCE, 8),
    WAITS(rt_sigtimedwait, "--ix", BAD, 0, 0, 8),
    CALL(rt_sigqueueinfo, "Psi", NOBODY),
    CALL(rt_tgsigqueueinfo, "PPsi", NOBODY, NOBODY),
    LEFT_OUT(rt_sigreturn, "tests/diff/frames.c"),
    LEFT_OUT(pause, "no arguments, no end"),
    CALL(getitimer, "xo"),
    CALL(setitimer, "xio"),
    CALL(alarm, "c"),
    CALL(timer_create, "xio", 1),
    CALL(timer_create, "x-o", 1, EVENT),
    CALL(timer_settime, "cxio"),
    CALL(timer_gettime, "co"),
    CALL(timer_getoverrun, "c"),
    CALL(timer_delete, "c"),
    /* tasks */
    CALL(wait4, "Poxo", -1),
    CALL(getpid, ""),
    CALL(gettid, ""),
    CALL(getppid, ""),
    CALL(getpgid, "P"),
    CALL(getsid, "P"),
    CALL(setpgid, "PP"),
    CALL(getpgrp, ""),
    TELLS(getuid, ""),
    TELLS(getgid, ""),
    TELLS(geteuid, ""),
    TELLS(getegid, ""),
    CALL(getgroups, "co"),
    CALL(setuid, "-", -1),
    CALL(setgid, "-", -1),
    CALL(setreuid, "--", -1, -1),
    CALL(setregid, "--", -1, -1),
    CALL(setresuid, "---", -1, -1, -1),
    CALL(setresgid, "---", -1, -1, -1),
    TELLS(setfsuid, "-", -1),
    TELLS(setfsgid, "-", -1),
    WAITS(setgroups, "-i", 1),
    CALL(setgroups, "-i", 70000),
    CALL(getresuid, "ooo"),
    CALL(getresgid, "ooo"),
    CALL(prctl, "xi", PR_SET_NAME),
    CALL(prctl, "xo", PR_GET_NAME),
    CALL(getcpu, "oo"),
    CALL(set_tid_address, "o"),
    CALL(arch_prctl, "xo", 0x1003),
    CALL(sched_yield, ""),
    CALL(getrusage, "xo"),
    LEFT_OUT(clone, "what its flags do is not undone; /bin/check has those refused"),
    LEFT_OUT(fork, "no arguments"),
    LEFT_OUT(vfork, "no arguments"),
    LEFT_OUT(exit, "no return"),
    LEFT_OUT(exit_group, "no return"),
    LEFT_OUT(setsid, "no arguments, and the terminal is lost"),
    /* time, and the machine */
    CALL(nanosleep, "io"),
    CALL(clock_nanosleep, "xxio", 1),
    CALL(clock_gettime, "xo", 1),
    CALL(clock_getres, "xo", 1),
    CALL(gettimeofday, "oo"),
    CALL(times, "o"),
    CALL(uname, "o"),
    CALL(sysinfo, "o"),
    TELLS(getrandom, "obx", 0, 8),
    LEFT_OUT(sync, "no arguments, and all of this machine's files"),
    LEFT_OUT(reboot, "this machine, too"),
    LEFT_OUT(swapon, "this machine's memory"),
    LEFT_OUT(swapoff, "this machine's memory"),
    LEFT_OUT(memory_limit, "not Linux's"),
    {.name = NULL},
};
