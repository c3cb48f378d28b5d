#include "vmm/filters/rules.h"

#include <asm/termbits.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "ept/uffd_compat.h"
#include "vmm/filters/filters.h"

#ifndef UFFDIO_MOVE /* Linux 6.8's, which Debian 12's header lacks */
#	define UFFDIO_MOVE _IOC(_IOC_READ | _IOC_WRITE, UFFDIO, 5, 40)
#endif

#define M	  (1U << THREAD_MAIN)
#define V	  (1U << THREAD_VCPU)
#define F	  (1U << THREAD_FAULT)
#define R	  (1U << THREAD_READ)
#define D	  (1U << THREAD_DEVICE)
#define C	  (1U << THREAD_CONTROL)
#define ALL	  (M | V | F | R | D | C)
/* Who touches guest memory, and so puts pages in. */
#define TOUCHES	  (M | V | F | D | C)
/* Not in Debian 12's headers: Linux 6.5. */
#define CACHESTAT 451

/* clang-format off */
#define CALL(kinds, name)                   {kinds, SCMP_SYS(name), #name, NULL, 0, {{0}}}
#define OWN(kinds, name)                    {kinds, SCMP_SYS(name), #name, "of this process", 1, \
	                                     {{0, SCMP_CMP_EQ, FILTER_OWN_PID, 0}}}
#define CALL_NO_EXEC(name)                  {ALL, SCMP_SYS(name), #name, "without PROT_EXEC", 1, \
	                                     {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}}
#define IOCTL(kinds, request)               {kinds, SCMP_SYS(ioctl), "ioctl", #request, 1, \
	                                     {{1, SCMP_CMP_EQ, request, 0}}}
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
    {ALL, CACHESTAT, "cachestat", NULL, 0, {{0}}},
    /* Not newfstatat, by which libc does it: with AT_EMPTY_PATH, too, that takes a path. */
    CALL(ALL, fstat),
    /* The terminal is put back by whichever thread crashes. */
    IOCTL(ALL, TCGETS),
    {ALL,
     SCMP_SYS(ioctl),
     "ioctl",
     "TCSETS on standard input",
     2,
     {{0, SCMP_CMP_EQ, 0, 0}, {1, SCMP_CMP_EQ, TCSETS, 0}}},
    IOCTL(TOUCHES, UFFDIO_COPY),
    IOCTL(TOUCHES, UFFDIO_MOVE),
    IOCTL(TOUCHES, UFFDIO_ZEROPAGE),
    IOCTL(TOUCHES, UFFDIO_CONTINUE),
    IOCTL(TOUCHES, UFFDIO_WRITEPROTECT),
    IOCTL(TOUCHES, UFFDIO_POISON),
    IOCTL(TOUCHES, UFFDIO_WAKE),
    IOCTL(M, UFFDIO_UNREGISTER),
    IOCTL(ALL, BLKGETSIZE64),
    /* Only the fault thread moves, to its vCPU's CPU. */
    {F, SCMP_SYS(sched_setaffinity), "sched_setaffinity", "of itself", 1, {{0, SCMP_CMP_EQ, 0, 0}}},
    /* Reading ahead, on a ring that can do nothing but read. */
    CALL(R, io_uring_enter),
    /* Reading ahead of files that the host maps. */
    CALL(F, fadvise64),
    /* What the governor looks at, and how it waits. */
    CALL(TOUCHES, mincore),
    CALL(F, getrusage),
    CALL(F, ppoll),
    CALL(F, timer_delete),
    /* A working set is sorted, by libc with a look at how much memory there is. */
    CALL(F, sysinfo),
    /* Interrupts. */
    IOCTL(V | D | M | C, KVM_SIGNAL_MSI),
    IOCTL(V, KVM_SET_GSI_ROUTING),
    /* Where a PCI function is notified, the guest may move. */
    IOCTL(V, KVM_IOEVENTFD),
    /* The guest. */
    IOCTL(V, KVM_RUN),
    IOCTL(V, KVM_KVMCLOCK_CTRL),
    IOCTL(V | M | C, KVM_GET_REGS),
    IOCTL(V | M | C, KVM_GET_SREGS),
    IOCTL(V | C, KVM_GET_MSRS),
    IOCTL(V, KVM_X86_SET_MCE),
    IOCTL(M | C, KVM_GET_STATS_FD),
    /* The first write to a copy-on-write disk makes its overlay. */
    CALL(D, memfd_create),
    CALL(D | C, ftruncate),
    /* Queues of devices. */
    CALL(D, readv),
    CALL(D, writev),
    CALL(D | C, getrandom),
    CALL(D | C, recvfrom),
    CALL(D | C, sendto),
    CALL(D, sendmsg),
    IOCTL(D, TUNSETOFFLOAD),
    /* Sockets of vsock, which come from the listener or from the connector; and control's. */
    CALL(D | C, accept4),
    CALL(D | C, recvmsg),
    CALL(C, getsockopt),
    CALL(D, shutdown),
    CALL(D, epoll_ctl),
    CALL(D, epoll_wait),
    /* Helpers that end, and the child that writes a snapshot: what fork() does, and no more. */
    CALL(M | C, waitid),
    {C,
     SCMP_SYS(clone),
     "clone",
     "as fork() does",
     1,
     {{0, SCMP_CMP_EQ, CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | SIGCHLD, 0}}},
    CALL(C, set_robust_list),
    /* What a vCPU remembers. */
    IOCTL(C, KVM_CHECK_EXTENSION),
    IOCTL(C, KVM_GET_MSR_INDEX_LIST),
    IOCTL(C, KVM_GET_CLOCK),
    IOCTL(C, KVM_GET_SREGS2),
    IOCTL(C, KVM_GET_XCRS),
    IOCTL(C, KVM_GET_XSAVE),
    IOCTL(C, KVM_GET_XSAVE2),
    IOCTL(C, KVM_GET_DEBUGREGS),
    IOCTL(C, KVM_GET_TSC_KHZ),
    IOCTL(C, KVM_GET_DEVICE_ATTR),
    IOCTL(C, KVM_GET_LAPIC),
    IOCTL(C, KVM_GET_NESTED_STATE),
    IOCTL(C, KVM_GET_MP_STATE),
    IOCTL(C, KVM_GET_VCPU_EVENTS),
};

const size_t nr_rules = sizeof(rules) / sizeof(rules[0]);
