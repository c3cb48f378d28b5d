/* System calls: numbers and arguments are Linux's for x86-64. */
#ifndef GUEST_SYSCALL_H
#define GUEST_SYSCALL_H

#include "guest/include/trap.h"
#include "guest/include/types.h"

/* Runs the call in regs (number rax; rdi rsi rdx r10 r8 r9); its result. Interrupts on. */
s64 syscall_run(struct regs *regs);

/* From entry.S and below: syscall_run between interrupts on and off, result into rax. */
void syscall_dispatch(struct regs *regs);
/* From entry.S, interrupts off: SYSCALL changes the ring here. */
void syscall_by_instruction(struct regs *regs);

/* If the exception is a system call in the form of hosts that keep it in ring 3, runs it. */
bool syscall_by_exception(struct regs *regs);

/* X(number, name): Linux's numbers for x86-64 */
#define SYSCALLS(X) \
	X(0, read) \
	X(1, write) \
	X(2, open) \
	X(3, close) \
	X(4, stat) \
	X(5, fstat) \
	X(6, lstat) \
	X(7, poll) \
	X(8, lseek) \
	X(9, mmap) \
	X(10, mprotect) \
	X(11, munmap) \
	X(12, brk) \
	X(13, rt_sigaction) \
	X(14, rt_sigprocmask) \
	X(15, rt_sigreturn) \
	X(16, ioctl) \
	X(17, pread64) \
	X(18, pwrite64) \
	X(19, readv) \
	X(20, writev) \
	X(21, access) \
	X(22, pipe) \
	X(23, select) \
	X(24, sched_yield) \
	X(25, mremap) \
	X(26, msync) \
	X(27, mincore) \
	X(28, madvise) \
	X(32, dup) \
	X(33, dup2) \
	X(34, pause) \
	X(35, nanosleep) \
	X(36, getitimer) \
	X(37, alarm) \
	X(38, setitimer) \
	X(39, getpid) \
	X(40, sendfile) \
	X(56, clone) \
	X(57, fork) \
	X(58, vfork) \
	X(59, execve) \
	X(60, exit) \
	X(61, wait4) \
	X(62, kill) \
	X(63, uname) \
	X(72, fcntl) \
	X(74, fsync) \
	X(75, fdatasync) \
	X(76, truncate) \
	X(77, ftruncate) \
	X(79, getcwd) \
	X(80, chdir) \
	X(81, fchdir) \
	X(82, rename) \
	X(83, mkdir) \
	X(84, rmdir) \
	X(85, creat) \
	X(86, link) \
	X(87, unlink) \
	X(88, symlink) \
	X(89, readlink) \
	X(90, chmod) \
	X(91, fchmod) \
	X(92, chown) \
	X(93, fchown) \
	X(94, lchown) \
	X(95, umask) \
	X(96, gettimeofday) \
	X(97, getrlimit) \
	X(98, getrusage) \
	X(99, sysinfo) \
	X(100, times) \
	X(102, getuid) \
	X(104, getgid) \
	X(105, setuid) \
	X(106, setgid) \
	X(107, geteuid) \
	X(108, getegid) \
	X(109, setpgid) \
	X(110, getppid) \
	X(111, getpgrp) \
	X(112, setsid) \
	X(113, setreuid) \
	X(114, setregid) \
	X(115, getgroups) \
	X(116, setgroups) \
	X(117, setresuid) \
	X(118, getresuid) \
	X(119, setresgid) \
	X(120, getresgid) \
	X(121, getpgid) \
	X(122, setfsuid) \
	X(123, setfsgid) \
	X(124, getsid) \
	X(127, rt_sigpending) \
	X(128, rt_sigtimedwait) \
	X(129, rt_sigqueueinfo) \
	X(130, rt_sigsuspend) \
	X(131, sigaltstack) \
	X(133, mknod) \
	X(137, statfs) \
	X(138, fstatfs) \
	X(149, mlock) \
	X(150, munlock) \
	X(151, mlockall) \
	X(152, munlockall) \
	X(157, prctl) \
	X(158, arch_prctl) \
	X(160, setrlimit) \
	X(162, sync) \
	X(167, swapon) \
	X(168, swapoff) \
	X(169, reboot) \
	X(186, gettid) \
	X(200, tkill) \
	X(202, futex) \
	X(203, sched_setaffinity) \
	X(204, sched_getaffinity) \
	X(217, getdents64) \
	X(218, set_tid_address) \
	X(221, fadvise64) \
	X(222, timer_create) \
	X(223, timer_settime) \
	X(224, timer_gettime) \
	X(225, timer_getoverrun) \
	X(226, timer_delete) \
	X(228, clock_gettime) \
	X(229, clock_getres) \
	X(230, clock_nanosleep) \
	X(231, exit_group) \
	X(234, tgkill) \
	X(257, openat) \
	X(258, mkdirat) \
	X(259, mknodat) \
	X(260, fchownat) \
	X(262, newfstatat) \
	X(263, unlinkat) \
	X(264, renameat) \
	X(265, linkat) \
	X(266, symlinkat) \
	X(267, readlinkat) \
	X(268, fchmodat) \
	X(269, faccessat) \
	X(270, pselect6) \
	X(271, ppoll) \
	X(273, set_robust_list) \
	X(274, get_robust_list) \
	X(280, utimensat) \
	X(282, signalfd) \
	X(283, timerfd_create) \
	X(284, eventfd) \
	X(286, timerfd_settime) \
	X(287, timerfd_gettime) \
	X(289, signalfd4) \
	X(290, eventfd2) \
	X(292, dup3) \
	X(293, pipe2) \
	X(295, preadv) \
	X(296, pwritev) \
	X(297, rt_tgsigqueueinfo) \
	X(302, prlimit64) \
	X(309, getcpu) \
	X(316, renameat2) \
	X(318, getrandom) \
	X(325, mlock2) \
	X(332, statx) \
	X(439, faccessat2) \
	X(1000, memory_limit)

/* The calls themselves, in kernel/sys_*.c. */
#define SYSCALL(name) s64 sys_##name(struct regs *regs)

#define X(nr, name)   SYSCALL(name);
SYSCALLS(X)
#undef X

#endif
