#include "vmm/filters/rules.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "ept/uffd_compat.h"
#include "vmm/filters/filters.h"
#include "vmm/pre_fault.h"

#ifndef UFFDIO_MOVE /* Linux 6.8's, which Debian 12's header lacks */
#	define UFFDIO_MOVE _IOC(_IOC_READ | _IOC_WRITE, UFFDIO, 5, 40)
#endif

#define M	  (1U << THREAD_MAIN)
#define W	  (1U << THREAD_VCPU_STATE)
#define V	  (1U << THREAD_VCPU | W)
#define F	  (1U << THREAD_FAULT)
#define R	  (1U << THREAD_READ)
#define D	  (1U << THREAD_DEVICE)
#define C	  (1U << THREAD_CONTROL)
/* Starts threads of all kinds in the processes that it forks: it may what they may. */
#define K	  (1U << THREAD_FORK)
#define ALL	  (M | V | F | R | D | C)
/* Who touches guest memory, and so puts pages in. */
#define TOUCHES	  (M | V | F | D | C)
/* Not in Debian 12's headers: Linux 6.5. */
#define CACHESTAT 451

/* Of pthread_create(), where clone3() is not there. */
#define THREAD_FLAGS \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* clang-format off */
#define CALL(kinds, name)                   {(kinds) | K, SCMP_SYS(name), #name, NULL, 0, {{0}}, 0}
#define OWN(kinds, name)                    {kinds, SCMP_SYS(name), #name, "of this process", 1, \
	                                     {{0, SCMP_CMP_EQ, FILTER_OWN_PID, 0}}, 0}
#define CALL_NO_EXEC(name)                  {ALL | K, SCMP_SYS(name), #name, "without PROT_EXEC", 1, \
	                                     {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}, 0}
#define IOCTL(kinds, request)               {kinds, SCMP_SYS(ioctl), "ioctl", #request, 1, \
	                                     {{1, SCMP_CMP_EQ, request, 0}}, 0}
/* All requests that begin with the letter @type. */
#define IOCTLS(type, what)                  {K, SCMP_SYS(ioctl), "ioctl", what, 1, \
	                                     {{1, SCMP_CMP_MASKED_EQ, 0xff00, (type) << 8}}, 0}
#define PRCTL(option)                       {K, SCMP_SYS(prctl), "prctl", #option, 1, \
	                                     {{0, SCMP_CMP_EQ, option, 0}}, 0}
/* clang-format on */

const struct rule rules[] = {
    /* Memory. What is mapped stays data. */
    CALL(ALL, brk),
    CALL_NO_EXEC(mmap),
    CALL_NO_EXEC(mprotect),
    CALL(ALL, mremap),
    CALL(ALL, munmap),
    CALL(ALL, madvise),
    /* Locks, ends of threads, signals within this process. */
    CALL(ALL, futex),
    CALL(ALL, sched_yield),
    CALL(ALL, exit),
    CALL(M | C, exit_group),
    CALL(ALL, rt_sigprocmask),
    CALL(ALL, rt_sigreturn),
    CALL(ALL, restart_syscall),
    CALL(ALL, getpid),
    CALL(ALL, gettid),
    OWN(ALL, tgkill),
    CALL(K, tgkill), /* its own id is another one in each process that it forks */
    /* Clocks that the vDSO cannot read, and the end of vm_stop()'s patience. */
    CALL(ALL, clock_gettime),
    CALL(ALL, getcpu),
    CALL(M, clock_nanosleep),
    /* Open files: guest memory's, disks', the console, the report. */
    CALL(ALL, read),
    CALL(ALL, write),
    CALL(ALL, pread64),
    CALL(ALL, pwrite64),
    CALL(V | D | C, preadv),
    CALL(D | C, pwritev),
    CALL(ALL, lseek),
    CALL(ALL, close),
    CALL(ALL, poll),
    CALL(M | F | D | C, fdatasync),
    CALL(F | D, fallocate),
    {ALL | K, CACHESTAT, "cachestat", NULL, 0, {{0}}, 0},
    /* Not newfstatat, by which libc does it: with AT_EMPTY_PATH, too, that takes a path. */
    CALL(ALL, fstat),
    /* The terminal is put back by whichever thread crashes. */
    IOCTL(ALL | K, TCGETS),
    {ALL | K,
     SCMP_SYS(ioctl),
     "ioctl",
     "TCSETS on standard input",
     2,
     {{0, SCMP_CMP_EQ, 0, 0}, {1, SCMP_CMP_EQ, TCSETS, 0}},
     0},
    IOCTL(TOUCHES, UFFDIO_COPY),
    IOCTL(TOUCHES, UFFDIO_MOVE),
    IOCTL(TOUCHES, UFFDIO_ZEROPAGE),
    IOCTL(TOUCHES, UFFDIO_CONTINUE),
    IOCTL(TOUCHES, UFFDIO_WRITEPROTECT),
    IOCTL(TOUCHES, UFFDIO_POISON),
    IOCTL(TOUCHES, UFFDIO_WAKE),
    IOCTL(M, UFFDIO_UNREGISTER),
    IOCTL(ALL | K, BLKGETSIZE64),
    /* The fault thread moves, to its vCPU's CPU. */
    {F,
     SCMP_SYS(sched_setaffinity),
     "sched_setaffinity",
     "of itself",
     1,
     {{0, SCMP_CMP_EQ, 0, 0}},
     0},
    CALL(K, sched_setaffinity), /* ept/new_thread.h */
    /* Reading ahead, on a ring that can do nothing but read. */
    CALL(R, io_uring_enter),
    /* Reading ahead: what will be read, or is mapped. */
    CALL(ALL, fadvise64),
    /* What the governor looks at, and how it waits. */
    CALL(TOUCHES, mincore),
    CALL(F, getrusage),
    CALL(F, ppoll),
    CALL(F, timer_delete),
    /* A working set is sorted, by libc with a look at how much memory there is. */
    CALL(F, sysinfo),
    /* Interrupts. */
    IOCTL(V | D | M | C, KVM_SIGNAL_MSI),
    IOCTL(V | C, KVM_SET_GSI_ROUTING),
    /* Where a PCI function is notified, the guest may move. */
    IOCTL(V | C, KVM_IOEVENTFD),
    /* The guest. */
    IOCTL(V, KVM_RUN),
    IOCTL(V, KVM_KVMCLOCK_CTRL),
    /* What was brought in ahead of the guest. */
    IOCTL(V, KVM_PRE_FAULT_MEMORY),
    IOCTL(V | M | C, KVM_GET_REGS),
    IOCTL(V | M | C, KVM_GET_SREGS),
    /* Which page a vCPU does not get. */
    IOCTL(V, KVM_TRANSLATE),
    IOCTL(V | C, KVM_GET_MSRS),
    IOCTL(V, KVM_X86_SET_MCE),
    IOCTL(M | C, KVM_GET_STATS_FD),
    /* The first write to a copy-on-write disk makes its overlay. */
    CALL(D, memfd_create),
    CALL(D | C, ftruncate),
    /* Queues of devices. */
    CALL(D, readv),
    CALL(D, writev),
    CALL(W | D | C, getrandom),
    CALL(D | C, recvfrom),
    CALL(M | D | C, sendto),
    /* And the fault log's descriptor, to who asks for it. */
    CALL(D | C, sendmsg),
    IOCTL(D | K, TUNSETOFFLOAD),
    /* Is what a client passed a tap interface? */
    IOCTL(K, TUNGETIFF),
    IOCTL(K, TUNGETVNETHDRSZ),
    /* Sockets of vsock, which come from the listener or from the connector; and control's. */
    CALL(D | C, accept4),
    CALL(D | C, recvmsg),
    CALL(C, getsockopt),
    CALL(D, shutdown),
    CALL(V | D | C, epoll_ctl),
    CALL(D, epoll_wait),
    /* Helpers that end, and the child that writes a snapshot: what fork() does, and no more. */
    CALL(M | C, waitid),
    {C | K,
     SCMP_SYS(clone),
     "clone",
     "as fork() does",
     1,
     {{0, SCMP_CMP_EQ, CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD, 0}},
     0},
    CALL(C, set_robust_list),
    CALL(C, pipe2), /* at which the child waits until the VM goes on */
    /* What a vCPU remembers. */
    IOCTL(W | C, KVM_CHECK_EXTENSION),
    IOCTL(W | C, KVM_GET_MSR_INDEX_LIST),
    IOCTL(W | C, KVM_GET_CLOCK),
    IOCTL(W | C, KVM_GET_SREGS2),
    IOCTL(W | C, KVM_GET_XCRS),
    IOCTL(W | C, KVM_GET_XSAVE),
    IOCTL(W | C, KVM_GET_XSAVE2),
    IOCTL(W | C, KVM_GET_DEBUGREGS),
    IOCTL(W | C, KVM_GET_TSC_KHZ),
    IOCTL(W | C, KVM_GET_DEVICE_ATTR),
    IOCTL(W | C, KVM_GET_LAPIC),
    IOCTL(W | C, KVM_GET_NESTED_STATE),
    IOCTL(W | C, KVM_GET_MP_STATE),
    IOCTL(W | C, KVM_GET_VCPU_EVENTS),
    /* A reset point, and going back to it. */
    IOCTL(W | C, KVM_SET_USER_MEMORY_REGION),
    IOCTL(W | C, KVM_GET_DIRTY_LOG),
    IOCTL(W | C, KVM_CLEAR_DIRTY_LOG),
    IOCTL(W | C, KVM_SET_CLOCK),
    IOCTL(W | C, KVM_SET_REGS),
    IOCTL(W | C, KVM_SET_SREGS),
    IOCTL(W | C, KVM_SET_SREGS2),
    IOCTL(W | C, KVM_SET_XCRS),
    IOCTL(W | C, KVM_SET_XSAVE),
    IOCTL(W | C, KVM_SET_DEBUGREGS),
    IOCTL(W | C, KVM_SET_TSC_KHZ),
    IOCTL(W | C, KVM_SET_DEVICE_ATTR),
    IOCTL(W | C, KVM_SET_LAPIC),
    IOCTL(W | C, KVM_SET_MSRS),
    IOCTL(W | C, KVM_SET_NESTED_STATE),
    IOCTL(W | C, KVM_SET_MP_STATE),
    IOCTL(W | C, KVM_SET_VCPU_EVENTS),
    /* A VM begins in a process that was forked: its KVM VM, descriptors, threads, sandboxes. */
    IOCTLS(KVMIO, "of KVM"),
    IOCTLS(UFFDIO, "of userfaultfd"),
    CALL(K, userfaultfd),
    {K,
     SCMP_SYS(openat),
     "openat",
     "to read",
     1,
     {{2, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY}},
     0},
    CALL(K, eventfd2),
    CALL(K, signalfd4),
    CALL(K, epoll_create1),
    CALL(K, socketpair),
    CALL(K, dup2),
    CALL(K, fcntl),
    CALL(K, timer_create),
    CALL(K, timer_settime),
    CALL(K, sched_getaffinity),
    CALL(K, sched_setscheduler),
    PRCTL(PR_SET_NAME),
    PRCTL(PR_GET_NAME),
    PRCTL(PR_SET_NO_NEW_PRIVS),
    CALL(K, seccomp),
    CALL(K, capset),
    CALL(K, landlock_restrict_self),
    CALL(K, setsid),
    CALL(K, getuid),
    CALL(K, rseq),
    {K,
     SCMP_SYS(clone),
     "clone",
     "as pthread_create() does",
     1,
     {{0, SCMP_CMP_EQ, THREAD_FLAGS, 0}},
     0},
    /* What it is asked for lies in memory, where no filter looks: libc takes clone() then. */
    {K, SCMP_SYS(clone3), "clone3", "answered ENOSYS", 0, {{0}}, ENOSYS},
    /* A ring that is not restricted yet makes calls that no filter sees: sockets, too. */
    {K, SCMP_SYS(io_uring_setup), "io_uring_setup", "answered ENOSYS", 0, {{0}}, ENOSYS},
};

const size_t nr_rules = sizeof(rules) / sizeof(rules[0]);
