/* Processes come and go: made, ended, waited for. */
#include "guest/include/process.h"
#include "guest/include/errno.h"
#include "guest/include/itimer.h"
#include "guest/include/page.h"
#include "guest/include/posix_timer.h"
#include "guest/include/string.h"

struct spinlock process_lock;
static struct list all_processes = {&all_processes, &all_processes};
static struct wait_queue any_exit = WAIT_QUEUE_INIT(any_exit);
static struct process *init_process;

struct process *process_create(void)
{
	struct process *p = kzalloc(sizeof(*p)), *own = current->process;

	if (!p)
		return NULL;
	list_init(&p->threads);
	list_init(&p->children);
	list_init(&p->sibling);
	wait_queue_init(&p->thread_ended);
	wait_queue_init(&p->child_news);
	sigpending_init(&p->pending);
	list_init(&p->timers);
	itimer_init(p);
	if (own) {
		memcpy(p->name, own->name, sizeof(p->name));
		memcpy(p->action, own->action, sizeof(p->action));
		memcpy(p->rlimits, own->rlimits, sizeof(p->rlimits));
		p->pgid = own->pgid;
		p->sid = own->sid;
	}
	u64 irq = spin_lock_irqsave(&process_lock);
	list_add_tail(&p->all, &all_processes);
	spin_unlock_irqrestore(&process_lock, irq);
	if (!init_process)
		init_process = p;
	return p;
}

void process_free(struct process *p)
{
	u64 irq = spin_lock_irqsave(&process_lock);

	list_del(&p->all);
	spin_unlock_irqrestore(&process_lock, irq);
	list_del(&p->sibling);
	signals_end(&p->pending);
	kfree(p);
}

void process_add_thread(struct process *p, struct task *t)
{
	u64 irq;

	if (!p->nr_threads++)
		p->pid = t->pid;
	if (!p->sid)
		p->pgid = p->sid = p->pid;
	t->process = p;
	irq = spin_lock_irqsave(&signals_lock);
	list_add_tail(&t->in_process, &p->threads);
	spin_unlock_irqrestore(&signals_lock, irq);
}

/* How many there are left. */
static unsigned remove_thread(struct process *p, struct task *t)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	list_del(&t->in_process);
	p->nr_threads--;
	spin_unlock_irqrestore(&signals_lock, irq);
	return p->nr_threads;
}

void process_forget_thread(struct task *t)
{
	if (!remove_thread(t->process, t))
		process_free(t->process);
}

void process_set_parent(struct process *p, struct process *parent)
{
	p->parent = parent;
	list_del(&p->sibling);
	list_add_tail(&p->sibling, &parent->children);
}

/* --- what there is ------------------------------------------------------------------------- */

struct process *process_next(struct process *p)
{
	const struct list *next = p ? p->all.next : all_processes.next;

	return next == &all_processes ? NULL : list_entry(next, struct process, all);
}

struct process *process_find(int pid)
{
	struct process *p = process_next(NULL);

	while (p && p->pid != pid)
		p = process_next(p);
	return p;
}

bool process_is_group(int pgid)
{
	for (struct process *p = process_next(NULL); p; p = process_next(p))
		if (p->pgid == pgid && p->sid == current->process->sid)
			return true;
	return false;
}

bool process_matches(const struct process *p, int pid)
{
	return pid == -1 || p->pid == pid || (pid == 0 && p->pgid == current->process->pgid) ||
	       (pid < -1 && p->pgid == -pid);
}

int process_next_pid(int pid)
{
	int next = 0;

	for (struct process *p = process_next(NULL); p; p = process_next(p))
		if (p->pid > pid && (!next || p->pid < next))
			next = p->pid;
	return next;
}

int process_count(void)
{
	int n = 0;

	for (struct process *p = process_next(NULL); p; p = process_next(p))
		n++;
	return n;
}

struct task *process_thread(const struct process *p)
{
	return p->nr_threads ? list_entry(p->threads.next, struct task, in_process) : NULL;
}

static void add_faults(struct fault_sums *sum, struct fault_sums part)
{
	sum->minor += part.minor;
	sum->major += part.major;
}

struct fault_sums process_faults(const struct process *p)
{
	struct fault_sums sum = p->ended_faults;
	const struct task *t;

	list_for_each(t, &p->threads, in_process) add_faults(&sum, t->faults);
	return sum;
}

/* --- ends ------------------------------------------------------------------------------------ */

/* signals_lock held. */
static void end_threads(struct process *p, const struct task *but)
{
	struct task *t;

	list_for_each(t, &p->threads, in_process)
	{
		if (t != but)
			task_end(t);
	}
}

void process_end(struct process *p, int status)
{
	u64 irq = spin_lock_irqsave(&signals_lock);

	if (!p->ending) {
		p->ending = true;
		p->exit_status = status;
		end_threads(p, NULL);
	}
	spin_unlock_irqrestore(&signals_lock, irq);
}

bool process_be_alone(void)
{
	struct process *p = current->process;
	u64 irq = spin_lock_irqsave(&signals_lock);
	bool told = current->dying; /* by another one that wants to be alone, or all are to end */

	if (!told)
		end_threads(p, current);
	spin_unlock_irqrestore(&signals_lock, irq);
	if (told || wait_event_killable(p->thread_ended, p->nr_threads == 1))
		return false;
	current->pid = p->pid;
	return true;
}

static void reparent_children(struct process *p)
{
	while (!list_empty(&p->children)) {
		struct process *c = list_entry(p->children.next, struct process, sibling);

		process_set_parent(c, init_process);
		if (!c->nr_threads)
			wake_up(&init_process->child_news);
	}
}

static void tell_of_end(struct process *p)
{
	int sig = p->exit_status & 0x7f;
	struct siginfo info = {.signo = SIGCHLD, .code = sig ? CLD_KILLED : CLD_EXITED};

	info.from.pid = p->pid;
	info.from.status = sig ? sig : p->exit_status >> 8;
	signal_send(p->parent, &info);
	wake_up(&p->parent->child_news);
}

void process_thread_ends(int status)
{
	struct task *t = current;
	struct process *p = t->process;
	unsigned left;

	/* As on Linux: what its first thread ended with, if nothing ended all of them. */
	if (!p->ending && t->pid == p->pid)
		p->exit_status = status;
	if (p->nr_threads == 1) {
		posix_timers_end(p);
		itimer_end(p);
	}
	if (p->nr_threads == 1 && p == init_process) {
		signals_end(&t->signals.pending);
		signals_end(&p->pending);
		kernel_shutdown(p->exit_status);
	}
	add_faults(&p->ended_faults, t->faults);
	left = remove_thread(p, t);
	signals_end(&t->signals.pending); /* what was sent until now */
	wake_up(&p->thread_ended);
	if (left)
		return;
	p->ending = true;
	reparent_children(p);
	tell_of_end(p);
	wake_up(&any_exit);
}

/* --- waiting for children -------------------------------------------------------------------- */

/* What wait4 tells of a child that is still there; 0: nothing. */
static int news_of(const struct process *c, int options)
{
	if (c->report == REPORT_STOPPED && options & WUNTRACED)
		return c->stopped << 8 | 0x7f;
	if (c->report == REPORT_CONTINUED && options & WCONTINUED)
		return 0xffff;
	return 0;
}

/* The first child that pid means, or the first of them that there is something to tell of. */
static struct process *find_child(int pid, bool news, int options)
{
	struct process *c;

	list_for_each(c, &current->process->children, sibling)
	{
		if (process_matches(c, pid) && (!news || !c->nr_threads || news_of(c, options)))
			return c;
	}
	return NULL;
}

static struct fault_sums bury(struct process *c)
{
	struct fault_sums usage = c->ended_faults;

	add_faults(&usage, c->children_faults);
	add_faults(&current->process->children_faults, usage);
	process_free(c);
	tasks_reap();
	return usage;
}

s64 do_wait4(int pid, int *status, int options, struct fault_sums *usage)
{
	struct process *c;
	int ret;

	if (!find_child(pid, false, options))
		return -ECHILD;
	/* Another thread may have been faster. */
	if (!(options & WNOHANG) && wait_event_interruptible(current->process->child_news,
							     find_child(pid, true, options) ||
								 !find_child(pid, false, options)))
		return -ERESTARTSYS;
	c = find_child(pid, true, options);
	if (!c)
		return find_child(pid, false, options) ? 0 : -ECHILD;
	ret = c->pid;
	if (!c->nr_threads) {
		*status = c->exit_status;
		*usage = bury(c);
	} else {
		*status = news_of(c, options);
		c->report = REPORT_NOTHING;
	}
	return ret;
}

/* --- the end of the run ---------------------------------------------------------------------- */

void processes_end_run(int status)
{
	process_end(init_process, status);
	task_exit(status);
}

static bool all_others_ended(void)
{
	for (struct process *p = process_next(NULL); p; p = process_next(p))
		if (p != current->process && p->nr_threads)
			return false;
	return true;
}

void processes_end_others(void)
{
	struct process *p, *next;

	for (p = process_next(NULL); p; p = process_next(p))
		if (p != current->process)
			process_end(p, SIGKILL);
	wait_event(any_exit, all_others_ended());
	for (p = process_next(NULL); p; p = next) {
		next = process_next(p);
		if (p != current->process)
			process_free(p);
	}
	tasks_reap();
}
