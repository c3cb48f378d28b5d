/*
 * Tasks: one thread of control each, with its address space and files; process.h has what several
 * of them are together.
 */
#ifndef GUEST_TASK_H
#define GUEST_TASK_H

#include "guest/include/cpu.h"
#include "guest/include/list.h"
#include "guest/include/sched.h"
#include "guest/include/signal.h"
#include "guest/include/types.h"

#define TASK_NAME_LEN 16
#define TASK_STACK    16384

enum task_state {
	TASK_RUNNING, /* on the run queue or on the CPU */
	TASK_SLEEPING,
	TASK_NEW,  /* not complete: nothing wakes it but wake_up_new_task() */
	TASK_DEAD, /* ended; its stack is to be freed */
};

/* Page faults, by whether they had to wait for storage. */
struct fault_sums {
	u64 minor, major;
};

struct process;
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

	struct process *process; /* NULL: idle */
	struct list in_process;	 /* signals_lock */
	bool dying; /* ends with its process's status before it runs in user mode again */
	struct task *vforked,
	    *vforked_by; /* a child that has this one's memory, and the other way */
	struct signals signals;

	u64 wake_at;	   /* ktime of the sleep's end; 0: none */
	struct list timer; /* in the list of sleepers */

	struct mm *mm;	     /* NULL: kernel task */
	struct files *files; /* NULL: kernel task */
	u64 fs_base, gs_base;
	u64 clear_tid;	 /* user memory that is 0 once this one has ended, and woken on; 0: none */
	u64 robust_list; /* user memory: locks that it may hold when it ends; 0: none */
	u64 own_buffer; /* a page of the kernel's that stands for user memory; 0: none (sendfile) */
	struct fault_sums faults;
	struct cpu *fpu_cpu; /* whose FPU had its state last */
	bool memory_lost;    /* a copy of user memory met a machine check */
	u64 segv_lines;	     /* printed so far */
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

/* A thread of p that starts at fn(arg) in the kernel, not yet running; NULL without memory. */
struct task *task_create(const char *name, void (*fn)(void *), void *arg, struct process *p);
/* It is complete, and runs. */
void wake_up_new_task(struct task *t);
/* Puts it on the run queue. Any context. */
void task_wake(struct task *t);

/* The current task ends, and its process if it is the last one; status as wait4 gives it. */
void task_exit(int status) __attribute__((noreturn));
/* It ends as soon as what it does in the kernel is done. */
void task_end(struct task *t);
/* Frees those that have ended, but the current one. */
void tasks_reap(void);

struct regs;

/* The frame on t's kernel stack from which it goes to user mode. */
struct regs *task_regs(const struct task *t);

/* clone(2)'s flags; below them the signal of the child's end. */
#define CLONE_VM	     0x00000100U
#define CLONE_FS	     0x00000200U
#define CLONE_FILES	     0x00000400U
#define CLONE_SIGHAND	     0x00000800U
#define CLONE_VFORK	     0x00004000U
#define CLONE_THREAD	     0x00010000U
#define CLONE_SYSVSEM	     0x00040000U
#define CLONE_SETTLS	     0x00080000U
#define CLONE_PARENT_SETTID  0x00100000U
#define CLONE_CHILD_CLEARTID 0x00200000U
#define CLONE_DETACHED	     0x00400000U
#define CLONE_CHILD_SETTID   0x01000000U

/* How a copy differs from its original; all 0: as by fork(2). */
struct fork_request {
	u32 flags;
	u64 stack;	/* 0: the same */
	u64 parent_tid; /* user memory, each where the flags ask for it */
	u64 child_tid;
	u64 tls;
};

/* A copy of the current task, which returns 0 where the parent gets the child's pid. */
s64 do_fork(const struct regs *regs, const struct fork_request *how);
/* The current task no longer uses what its parent lent it by vfork. */
void vfork_is_over(void);

/* NULL: there is none. */
struct task *task_find(int pid);
/* The task behind t in the list of all, NULL first and last. */
struct task *task_next(struct task *t);
/* The task, init's not among them, with the highest score; NULL: all have 0. */
struct task *task_worst(u64 (*score)(const struct task *t));

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
