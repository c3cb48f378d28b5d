/*
 * Processes: what threads have in common but memory and files. A process is there until its parent
 * has asked how it ended, its threads only as long as they run.
 *
 * All but what says otherwise changes under the kernel lock.
 */
#ifndef GUEST_PROCESS_H
#define GUEST_PROCESS_H

#include "guest/include/cputimer.h"
#include "guest/include/ktimer.h"
#include "guest/include/list.h"
#include "guest/include/rlimit.h"
#include "guest/include/sched.h"
#include "guest/include/signal.h"
#include "guest/include/task.h"
#include "guest/include/types.h"

/* A change of state that its parent may ask for and has not yet. */
enum process_report { REPORT_NOTHING, REPORT_STOPPED, REPORT_CONTINUED };

struct process {
	int pid; /* its first thread's */
	char name[TASK_NAME_LEN];
	struct list all;     /* in the list of all; process_lock */
	struct list threads; /* signals_lock */
	unsigned nr_threads; /* 0: it has ended, and waits for its parent to ask */
	struct wait_queue thread_ended;

	struct process *parent; /* NULL: init has none */
	struct list children, sibling;
	struct wait_queue child_news;
	int exit_status; /* as wait4 reports it */
	bool ending;	 /* all of its threads, with exit_status */
	int stopped;	 /* by this signal, until SIGCONT; 0: it is not */
	enum process_report report;
	int pgid, sid; /* process group, session */

	struct sigaction action[NR_SIGNALS];
	struct sigpending pending; /* for any thread; signals_lock */
	struct interval itimer;	   /* timers_lock */
	struct cputimers cputimers;
	struct list timers; /* struct posix_timer */
	int next_timer;
	struct rlimit rlimits[RLIM_NLIMITS];
	struct fault_sums ended_faults;	   /* of threads that ended */
	struct fault_sums children_faults; /* of children waited for */
};

/* Guards the list of all, which the terminal's interrupt walks; before signals_lock. */
extern struct spinlock process_lock;

/* Without a thread; of the current one, if it has a program, a copy. NULL without memory. */
struct process *process_create(void);
/* It has no thread, and no parent asks. */
void process_free(struct process *p);
/* The thread is its own from now on; the first one gives it its number. */
void process_add_thread(struct process *p, struct task *t);
/* One that never ran: it is no thread any more, and was the process's only one or is not missed. */
void process_forget_thread(struct task *t);
/* Its parent hears of its end. */
void process_set_parent(struct process *p, struct process *parent);

/* The current thread ends with that status; the last one ends the process. Then it has none. */
void process_thread_ends(int status);
/* All threads end, as soon as what they do in the kernel is done. */
void process_end(struct process *p, int status);
/* The current one, at once for this thread. */
static inline void process_exit(int status) __attribute__((noreturn));
static inline void process_exit(int status)
{
	process_end(current->process, status);
	task_exit(status);
}
/* The current thread is the only one, and has the process's number; false: it is to end, too. */
bool process_be_alone(void);

/* Does pid mean p, as in kill(2) and wait4(2): its own, -1 any, 0 the caller's group, -N group N?
 */
bool process_matches(const struct process *p, int pid);
/* Is there such a process group in the caller's session? */
bool process_is_group(int pgid);
/* NULL: there is none. One that ended is there until its parent has asked. */
struct process *process_find(int pid);
/* The process behind p in the list of all, NULL first and last. Those that ended are among them. */
struct process *process_next(struct process *p);
/* For /proc: the next larger number, or 0; how many. */
int process_next_pid(int pid);
int process_count(void);
/* One of its threads, valid until the caller sleeps; NULL: it has ended. */
struct task *process_thread(const struct process *p);
/* What its threads used, with those that ended. */
struct fault_sums process_faults(const struct process *p);

#define INIT_PID   1

#define WNOHANG	   1
#define WUNTRACED  2
#define WCONTINUED 8

/*
 * Waits for a child that pid means to end and frees it, or, if the options ask for that, to stop or
 * go on: its pid and *status, 0 if there is none yet with WNOHANG, or -ECHILD.
 */
s64 do_wait4(int pid, int *status, int options, struct fault_sums *usage);

/* Ends the run: all others end, then init, whose status it is. */
void processes_end_run(int status);
/* Waits until all other processes have ended, and frees what is left of them. */
void processes_end_others(void);

#endif
