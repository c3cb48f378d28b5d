/* Tasks: one thread of control with its address space and files. */
#ifndef GUEST_TASK_H
#define GUEST_TASK_H

#include "guest/include/cpu.h"
#include "guest/include/list.h"
#include "guest/include/rlimit.h"
#include "guest/include/sched.h"
#include "guest/include/signal.h"
#include "guest/include/types.h"

#define TASK_NAME_LEN 16
#define TASK_STACK    16384

enum task_state {
	TASK_RUNNING, /* on the run queue or on the CPU */
	TASK_SLEEPING,
	TASK_NEW,    /* not complete: nothing wakes it but wake_up_new_task() */
	TASK_ZOMBIE, /* ended; waits for its parent to ask */
};

/* A change of state that its parent may ask for and has not yet. */
enum task_report { REPORT_NOTHING, REPORT_STOPPED, REPORT_CONTINUED };

struct files;
struct mm;

struct task {
	u64 kernel_rsp; /* while another task runs */
	u8 *stack;	/* TASK_STACK bytes, or the boot stack */
	enum task_state state;
	int pid;
	char name[TASK_NAME_LEN];
	struct cpu *on_cpu; /* where it runs; NULL: nowhere, its stack is at rest */
	u32 lock_depth;	    /* of the kernel lock; 0: it does not have it */
	struct list run;    /* in the run queue */
	struct list all;    /* in the list of all tasks but idle */

	struct task *parent; /* NULL: kernel's own, and init */
	struct list children, sibling;
	struct wait_queue child_exit;
	int exit_status; /* as wait4 reports it */
	bool dying;	 /* ends with exit_status before it runs in user mode again */
	int stopped;	 /* by this signal, until SIGCONT; 0: it is not */
	enum task_report report;
	int pgid, sid; /* process group, session */
	struct task *vforked,
	    *vforked_by; /* a child that has this one's memory, and the other way */
	struct signals signals;

	u64 wake_at;	   /* ktime of the sleep's end; 0: none */
	struct list timer; /* in the list of sleepers */

	struct mm *mm;	     /* NULL: kernel task */
	struct files *files; /* NULL: kernel task */
	struct rlimit rlimits[RLIM_NLIMITS];
	u64 fs_base, gs_base;
	u64 minor_faults, major_faults;
	u64 minor_faults_children, major_faults_children; /* of those waited for */
	struct cpu *fpu_cpu;				  /* whose FPU had its state last */
	bool memory_lost; /* a copy of user memory met a machine check */
	u64 segv_lines;	  /* printed so far */
	u8 fpu[512] __attribute__((aligned(16)));
};

#define current get_current()

/* Before the look at what is waited for: who makes it true sees the one, or this the other. */
static inline void set_current_state(enum task_state state)
{
	__atomic_exchange_n(&current->state, state, __ATOMIC_SEQ_CST);
}

/* The boot flow becomes the idle task. */
void sched_init(void);
/* On another CPU, its boot flow the task that idle_create made. */
void sched_init_secondary(struct task *idle);
struct task *idle_create(void);
/* entry.S: the first thing a new task does. */
void task_main(void (*fn)(void *), void *arg);
/* Runs when nobody else can. */
void idle_loop(void) __attribute__((noreturn));
/* Timer interrupt: wakes sleepers, ends slices. */
void sched_tick(void);

/* A task that starts at fn(arg) in the kernel, not yet running; NULL without memory. */
struct task *task_create(const char *name, void (*fn)(void *), void *arg);
void task_free(struct task *t);
/* It is complete, and runs. */
void wake_up_new_task(struct task *t);
/* Puts it on the run queue. Any context. */
void task_wake(struct task *t);

/* The current task ends; status as wait4 gives it. */
void task_exit(int status) __attribute__((noreturn));
/* Makes another task end: as soon as what it does in the kernel is done. */
void task_end(struct task *t, int status);
static inline void task_kill(int sig) __attribute__((noreturn));
static inline void task_kill(int sig)
{
	task_exit(sig);
}

struct regs;

/* The frame on t's kernel stack from which it goes to user mode. */
struct regs *task_regs(const struct task *t);

/* clone(2)'s flags; below them the signal of the child's end. */
#define CLONE_VM	     0x00000100U
#define CLONE_VFORK	     0x00004000U
#define CLONE_SETTLS	     0x00080000U
#define CLONE_PARENT_SETTID  0x00100000U
#define CLONE_CHILD_CLEARTID 0x00200000U
#define CLONE_CHILD_SETTID   0x01000000U

/* How a copy differs from its original; all 0: as by fork(2). */
struct fork_request {
	u32 flags;
	u64 stack; /* 0: the same */
	u64 child_tid;
	u64 tls;
};

/* A copy of the current task, which returns 0 where the parent gets the child's pid. */
s64 do_fork(const struct regs *regs, const struct fork_request *how);
/* The current task no longer uses what its parent lent it by vfork. */
void vfork_is_over(void);

#define WNOHANG	   1
#define WUNTRACED  2
#define WCONTINUED 8

/* Does pid mean t, as in kill(2) and wait4(2): its own, -1 any, 0 the caller's group, -N group N?
 */
bool task_matches(const struct task *t, int pid);
/* Is there such a process group in the caller's session? */
bool task_is_group(int pgid);
/* NULL: there is none. One that ended is there until its parent has asked. */
struct task *task_find(int pid);
/* The list of all, for who adds, removes, or walks in an interrupt handler: before signals' locks.
 */
extern struct spinlock tasklist_lock;
/* The task behind t in the list of all, NULL first and last. Those that ended are among them. */
struct task *task_next(struct task *t);

/* What an ended child used. */
struct task_usage {
	u64 minor_faults, major_faults; /* its own and those of children it waited for */
};

/*
 * Waits for a child that pid means to end and frees it, or, if the options ask for that, to stop or
 * go on: its pid and *status, 0 if there is none yet with WNOHANG, or -ECHILD.
 */
s64 do_wait4(int pid, int *status, int options, struct task_usage *usage);

/* For /proc: valid until the caller sleeps; NULL if there is none. */
struct task *task_by_pid(int pid);
/* The next larger pid, or 0. */
int task_next_pid(int pid);
int task_count(void);

/* Ends the run: all other tasks end, then init, whose status it is. */
void tasks_end_run(int status);
/* The task, init not among them, with the highest score; NULL: all have 0. */
struct task *task_worst(u64 (*score)(const struct task *t));
/* Waits until all other tasks have ended, and frees what is left of them. */
void tasks_end_others(void);

/* The run is over: report, sync, exit with init's status. */
void kernel_shutdown(int status) __attribute__((noreturn));
/* A fresh FPU for a fresh program. */
void fpu_reset(void);
/* What the child starts with. */
void fpu_fork(struct task *child);
void fpu_forget(struct task *t);
/* Interrupts off: the CPU goes from one to the other. */
void fpu_switch(struct task *prev, struct task *next);
/* What the FPU has for the current task goes to its fpu, or comes from area. */
void fpu_sync(void);
void fpu_load(const u8 area[512]);

#endif
