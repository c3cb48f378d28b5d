/*
 * Signals: numbers, layouts and rules are Linux's for x86-64 (signal(7), sigaction(2)). They are
 * sent to a process, of which any thread takes them that does not block them, or to one thread. A
 * signal is pending once for each, with what was said at the first; of a real-time one each that
 * was sent is.
 */
#ifndef GUEST_SIGNAL_H
#define GUEST_SIGNAL_H

#include "guest/include/list.h"
#include "guest/include/types.h"

#define SIGHUP	      1
#define SIGINT	      2
#define SIGQUIT	      3
#define SIGILL	      4
#define SIGTRAP	      5
#define SIGABRT	      6
#define SIGBUS	      7
#define SIGFPE	      8
#define SIGKILL	      9
#define SIGSEGV	      11
#define SIGPIPE	      13
#define SIGALRM	      14
#define SIGTERM	      15
#define SIGCHLD	      17
#define SIGCONT	      18
#define SIGSTOP	      19
#define SIGTSTP	      20
#define SIGTTIN	      21
#define SIGTTOU	      22
#define SIGURG	      23
#define SIGVTALRM     26
#define SIGPROF	      27
#define SIGWINCH      28
#define SIGRTMIN      32 /* the first of those that are queued */
#define NR_SIGNALS    64

#define SIG_DFL	      0UL
#define SIG_IGN	      1UL

#define SA_NOCLDSTOP  0x00000001UL
#define SA_SIGINFO    0x00000004UL
#define SA_RESTORER   0x04000000UL
#define SA_ONSTACK    0x08000000UL
#define SA_RESTART    0x10000000UL
#define SA_NODEFER    0x40000000UL
#define SA_RESETHAND  0x80000000UL

/* si_code */
#define SI_USER	      0
#define SI_KERNEL     0x80
#define SI_QUEUE      (-1)
#define SI_TIMER      (-2)
#define SI_TKILL      (-6)
#define ILL_ILLOPN    2
#define FPE_INTDIV    1
#define SEGV_MAPERR   1
#define SEGV_ACCERR   2
#define BUS_ADRALN    1
#define BUS_ADRERR    2
#define BUS_MCEERR_AR 4
#define TRAP_BRKPT    1
#define CLD_EXITED    1
#define CLD_KILLED    2
#define CLD_STOPPED   5
#define CLD_CONTINUED 6

/* As rt_sigaction(2) takes it. */
struct sigaction {
	u64 handler, flags, restorer, mask;
};

/* What a handler gets first; the rest of its 128 bytes is 0. */
struct siginfo {
	s32 signo, error, code;
	s32 lasting; /* of one that was just taken: it is a timer's; to a program 0 */
	union {
		u64 raw[4]; /* as whoever queued it said */
		u64 addr;   /* of a fault */
		struct {
			u64 addr;
			u16 lsb; /* how much is lost: its logarithm */
		} memory;	 /* BUS_MCEERR_AR */
		struct {
			s32 pid;
			u32 uid;
			s32 status; /* SIGCHLD */
		} from;
		struct {
			s32 id, overrun;
			u64 value;
		} timer; /* SI_TIMER */
	};
};

#define SIGINFO_USER 128 /* bytes of it in a program's memory */

/* Where SA_ONSTACK's handlers run; size 0: nowhere. As sigaltstack(2) takes it. */
struct sigstack {
	u64 sp;
	s32 flags, pad;
	u64 size;
};

#define SS_ONSTACK 1
#define SS_DISABLE 2

static inline u64 signal_bit(int sig)
{
	return 1UL << (sig - 1);
}

/* Nobody can block, ignore or catch these. */
#define SIGNALS_HARD (signal_bit(SIGKILL) | signal_bit(SIGSTOP))

struct process;
struct task;
struct regs;

/* Guards what is pending, and processes' lists of threads. Before the run queue's lock. */
extern struct spinlock signals_lock;

/* One in a list of what is pending. */
struct sigqueued {
	struct list link;
	struct siginfo info;
	bool lasting;		 /* a timer's: its record, which is used over and over */
	struct sigpending *from; /* where that is pending; NULL: nowhere */
};

/* What was sent and not yet taken. */
struct sigpending {
	u64 set;
	u64 first; /* what of it is in info: it came before all of its number in more */
	struct siginfo info[NR_SIGNALS];
	struct list more; /* struct sigqueued, in order */
};

/* A thread's; its process has the actions and what was sent to any. */
struct signals {
	struct sigpending pending; /* signals_lock */
	u64 blocked;
	u64 waited;    /* what sigtimedwait waits for; signals_lock */
	u64 suspended; /* blocked, before sigsuspend; goes into the frame, or back */
	bool suspends;
	struct sigstack stack;
	u64 cr2, error, trap; /* of its last fault, for the handler's context */
};

/*
 * Sends it to the process, or to that thread of one, unless it is ignored. -EAGAIN: of those of
 * real time too many are queued (RLIMIT_SIGPENDING), or there is no memory. Any context.
 */
s64 signal_send(struct process *p, const struct siginfo *info);
s64 signal_send_thread(struct task *t, const struct siginfo *info);
/*
 * A timer's, to the process or to its thread @tid, unless it is pending still. False: it is
 * ignored, or there is no such thread. Any context.
 */
bool signal_send_lasting(struct process *p, int tid, struct sigqueued *q);
/* It is not pending any more. */
void signal_withdraw(struct sigqueued *q);
/* Room for one that lasts, as long as its timer does; false: too many are queued. */
bool signal_reserve(const struct process *p);
void signal_unreserve(void);
/* As the current process sends it. */
struct siginfo signal_from(int sig, int code);
/* To the current thread. */
void signal_send_self(int sig, int code);
/* The current task faulted: who blocks or ignores that is ended. */
void signal_force(int sig, int code, u64 addr);
/* Of @set what was sent to the current task or its process, no longer pending; 0: nothing. */
int signal_take(u64 set, struct siginfo *info);
/* The same; if there is nothing the task is woken when some comes, blocked or not. */
int signal_take_or_wait(u64 set, struct siginfo *info);
/* What it would wait for is over. */
void signal_wait_ends(void);
/* What is pending for the process goes, if it ignores that now. */
void signal_ignored_now(struct process *p, int sig);
/* What is sent to the current task or its process. */
u64 signals_pending(void);
/* What of it is blocked. */
u64 signals_waiting(void);
/* Has the current task a signal that it does not block, or is it to end? */
bool signal_pending(void);
/* Would it end if it were sent this now? Nobody hears of it else. */
bool signal_unhandled(int sig);

/* The user's set is what is blocked until the call is over, or a handler has begun. */
s64 signals_suspend(u64 user_set, u64 size);

/* The thread, or the process, is to have no signals any more. */
void signals_end(struct sigpending *p);
/* thread: of the same process; it has no stack for handlers. */
void signals_fork(struct task *child, bool thread);
/* Handlers were the old program's. */
void signals_exec(void);

/* The last step before user mode, interrupts on: a handler's frame, or the end. */
void signals_deliver(struct regs *regs);

/* --- kernel/sigpending.c; signals_lock held ------------------------------------------------- */

void sigpending_init(struct sigpending *p);
/*
 * limit: how many may be queued. *spare, a record without a place or NULL, is NULL if it was used.
 * -EAGAIN as signal_send().
 */
s64 sigpending_add(struct sigpending *to, const struct siginfo *info, u64 limit,
		   struct sigqueued **spare);
/* Counts one more; false: that would be more than the limit. */
bool sigpending_reserve(u64 limit);
void sigpending_unreserve(void);
/* A timer's record, which is not pending anywhere. */
void sigpending_add_lasting(struct sigpending *to, struct sigqueued *q);
/* A fault's: in place of one that others may have sent. */
void sigpending_force(struct sigpending *to, const struct siginfo *info);
/* The lowest of @set, of its number the first that came; 0: there is none. */
int sigpending_take(struct sigpending *from, u64 set, struct siginfo *info);
void sigpending_forget(struct sigpending *p, u64 set);
/* A timer's record: wherever it is pending, it no longer is. */
void sigpending_withdraw(struct sigqueued *q);

/* --- kernel/signalfd.c --------------------------------------------------------------------- */

/* A signal was sent: who reads them may have one. Any context. */
void signalfd_notify(void);

/* --- arch/signal_frame.c ------------------------------------------------------------------- */

/* The user's next instruction is the handler's first. False: there is no room for its frame. */
bool signal_frame_push(struct regs *regs, const struct sigaction *action,
		       const struct siginfo *info, u64 blocked);
/* Back to where that came from; what rt_sigreturn returns. */
s64 signal_frame_pop(struct regs *regs);
/* How sigaltstack(2) shows the current task's. */
struct sigstack signal_stack_now(u64 sp);

#endif
