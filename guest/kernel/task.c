/* Tasks come and go: created, forked, ended, waited for. */
#include "guest/include/task.h"
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/mm.h"
#include "guest/include/printk.h"
#include "guest/include/smp.h"
#include "guest/include/smp_lock.h"
#include "guest/include/string.h"
#include "guest/include/trap.h"
#include "guest/include/uaccess.h"

#define STACK_ORDER  2
#define TASKS_ALWAYS 20UL

_Static_assert(PAGE_SIZE << STACK_ORDER == TASK_STACK, "a task's stack is one block");

/* What switch_stacks pops for a task that never ran. */
struct first_switch {
	u64 r15, r14, r13, r12, rbx, rbp;
	void *ret;
};

struct spinlock tasklist_lock;
static struct list all_tasks = {&all_tasks, &all_tasks};
static struct wait_queue any_exit = WAIT_QUEUE_INIT(any_exit);
static struct wait_queue vfork_ends = WAIT_QUEUE_INIT(vfork_ends);
static struct task *init_task;
static int last_pid;
static u64 nr_tasks;

struct regs *task_regs(const struct task *t)
{
	return (struct regs *)(t->stack + TASK_STACK) - 1;
}

/* The terminal's interrupt walks the list. */
static void list_task(struct task *t)
{
	u64 irq = spin_lock_irqsave(&tasklist_lock);

	list_add_tail(&t->all, &all_tasks);
	nr_tasks++;
	spin_unlock_irqrestore(&tasklist_lock, irq);
}

/* A task with a stack and nothing more. */
static struct task *task_alloc(const char *name)
{
	struct page *stack = alloc_pages(STACK_ORDER, 0);
	struct task *t = kzalloc(sizeof(*t));

	if (!t || !stack) {
		kfree(t);
		if (stack)
			put_page(stack);
		return NULL;
	}
	t->stack = page_kva(stack);
	memcpy(t->name, name, MIN(strlen(name), sizeof(t->name) - 1));
	list_init(&t->run);
	list_init(&t->children);
	list_init(&t->sibling);
	list_init(&t->timer);
	wait_queue_init(&t->child_exit);
	return t;
}

struct task *idle_create(void)
{
	return task_alloc("idle");
}

struct task *task_create(const char *name, void (*fn)(void *), void *arg)
{
	struct task *t = task_alloc(name);
	struct first_switch *sw;

	if (!t)
		return NULL;
	t->pid = ++last_pid;
	t->state = TASK_NEW;
	list_task(t);
	if (!init_task)
		init_task = t;
	t->pgid = t->sid = t->pid;

	sw = (struct first_switch *)task_regs(t) - 1;
	*sw = (struct first_switch){.rbx = (u64)fn, .r12 = (u64)arg, .ret = task_start};
	t->kernel_rsp = (u64)sw;
	return t;
}

void wake_up_new_task(struct task *t)
{
	t->state = TASK_SLEEPING;
	task_wake(t);
}

void task_free(struct task *t)
{
	u64 irq = spin_lock_irqsave(&tasklist_lock);

	list_del(&t->all);
	nr_tasks--;
	spin_unlock_irqrestore(&tasklist_lock, irq);
	/* One that has just ended is still on its stack, elsewhere. */
	while (__atomic_load_n(&t->on_cpu, __ATOMIC_ACQUIRE))
		smp_poll();
	list_del(&t->sibling);
	put_page(virt_to_page(t->stack));
	kfree(t);
}

/* The child's way to user mode: its copy of the parent's frame is all else that it needs. */
static void fork_return(void *arg)
{
	u64 tid_goes_to = (u64)arg;

	if (tid_goes_to && copy_to_user(tid_goes_to, &current->pid, sizeof(current->pid)))
		signal_force(SIGSEGV, SEGV_MAPERR, tid_goes_to);
}

static int share_mm(struct task *child)
{
	mm_get(current->mm);
	child->mm = current->mm;
	return 0;
}

/* Until the child has a program of its own, or none; who is to end leaves it alone. */
static void wait_for_vfork(struct task *child)
{
	child->vforked_by = current;
	current->vforked = child;
	wake_up_new_task(child);
	(void)wait_event_killable(vfork_ends, !READ_ONCE(current->vforked));
	if (current->vforked)
		current->vforked->vforked_by = NULL;
	current->vforked = NULL;
}

void vfork_is_over(void)
{
	if (!current->vforked_by)
		return;
	current->vforked_by->vforked = NULL;
	current->vforked_by = NULL;
	wake_up(&vfork_ends);
}

/* As on Linux, what all tasks have for themselves is at most an eighth of memory. */
static bool too_many_tasks(void)
{
	return READ_ONCE(nr_tasks) >= MAX(nr_total_pages() >> (3 + STACK_ORDER), TASKS_ALWAYS);
}

s64 do_fork(const struct regs *regs, const struct fork_request *how)
{
	struct task *child;
	int err, pid;

	if (too_many_tasks())
		return -EAGAIN;
	reclaim_if_low();
	child = task_create(current->name, fork_return, (void *)how->child_tid);
	if (!child)
		return -ENOMEM;
	err = files_fork(child, current);
	if (!err)
		err = how->flags & CLONE_VM ? share_mm(child) : mm_fork(current->mm, &child->mm);
	/* Who ends all of them has been here already, and would never hear of this one. */
	if (!err && task_dying())
		err = -EINTR;
	if (err) {
		if (child->mm)
			mm_put(child->mm);
		files_release(child);
		task_free(child);
		return err;
	}
	*task_regs(child) = *regs;
	task_regs(child)->rax = 0;
	if (how->stack)
		task_regs(child)->rsp = how->stack;
	child->fs_base = how->flags & CLONE_SETTLS ? how->tls : current->fs_base;
	fpu_fork(child);
	memcpy(child->rlimits, current->rlimits, sizeof(child->rlimits));
	signals_fork(child);
	child->pgid = current->pgid;
	child->sid = current->sid;
	child->parent = current;
	list_add_tail(&child->sibling, &current->children);
	pid = child->pid;
	if (how->flags & CLONE_VFORK)
		wait_for_vfork(child);
	else
		wake_up_new_task(child);
	return pid;
}

/* Gives up everything but the stack it runs on and the record its parent reads. */
static void release_resources(struct task *t)
{
	struct mm *mm = t->mm;

	files_release(t);
	fpu_forget(t);
	t->mm = NULL;
	if (mm) {
		if (t == current)
			mm_activate(NULL);
		mm_put(mm);
	}
}

static void reparent_children(struct task *t)
{
	while (!list_empty(&t->children)) {
		struct task *c = list_entry(t->children.next, struct task, sibling);

		list_del(&c->sibling);
		list_add_tail(&c->sibling, &init_task->children);
		c->parent = init_task;
		if (c->state == TASK_ZOMBIE)
			wake_up(&init_task->child_exit);
	}
}

struct task *task_next(struct task *t)
{
	const struct list *next = t ? t->all.next : all_tasks.next;

	return next == &all_tasks ? NULL : list_entry(next, struct task, all);
}

struct task *task_find(int pid)
{
	struct task *t = task_next(NULL);

	while (t && t->pid != pid)
		t = task_next(t);
	return t;
}

bool task_is_group(int pgid)
{
	for (struct task *t = task_next(NULL); t; t = task_next(t))
		if (t->pgid == pgid && t->sid == current->sid)
			return true;
	return false;
}

bool task_matches(const struct task *t, int pid)
{
	return pid == -1 || t->pid == pid || (pid == 0 && t->pgid == current->pgid) ||
	       (pid < -1 && t->pgid == -pid);
}

bool task_dying(void)
{
	return current->dying;
}

void task_end(struct task *t, int status)
{
	if (t->state == TASK_ZOMBIE || t->dying)
		return;
	t->exit_status = status;
	t->dying = true;
	/* From whatever it waits for; what it must wait for, it goes back to. */
	task_wake(t);
}

static void tell_of_end(struct task *t)
{
	int sig = t->exit_status & 0x7f;
	struct siginfo info = {.signo = SIGCHLD, .code = sig ? CLD_KILLED : CLD_EXITED};

	info.from.pid = t->pid;
	info.from.status = sig ? sig : t->exit_status >> 8;
	signal_send(t->parent, &info);
	wake_up(&t->parent->child_exit);
}

void task_exit(int status)
{
	struct task *t = current;

	lock_kernel();
	release_resources(t);
	vfork_is_over();
	if (t == init_task)
		kernel_shutdown(status);
	reparent_children(t);
	local_irq_disable();
	t->exit_status = status;
	t->state = TASK_ZOMBIE;
	tell_of_end(t);
	wake_up(&any_exit);
	schedule();
	panic("a task that ended runs");
}

/* What wait4 tells of a child that is still there; 0: nothing. */
static int news_of(const struct task *c, int options)
{
	if (c->report == REPORT_STOPPED && options & WUNTRACED)
		return c->stopped << 8 | 0x7f;
	if (c->report == REPORT_CONTINUED && options & WCONTINUED)
		return 0xffff;
	return 0;
}

/* The first child that pid means, or the first of them that there is something to tell of. */
static struct task *find_child(int pid, bool news, int options)
{
	struct task *c;

	list_for_each(c, &current->children, sibling)
	{
		if (task_matches(c, pid) &&
		    (!news || c->state == TASK_ZOMBIE || news_of(c, options)))
			return c;
	}
	return NULL;
}

static struct task_usage bury(struct task *c)
{
	struct task_usage usage = {c->minor_faults + c->minor_faults_children,
				   c->major_faults + c->major_faults_children};

	current->minor_faults_children += usage.minor_faults;
	current->major_faults_children += usage.major_faults;
	task_free(c);
	return usage;
}

s64 do_wait4(int pid, int *status, int options, struct task_usage *usage)
{
	struct task *c;
	int ret;

	if (!find_child(pid, false, options))
		return -ECHILD;
	if (!(options & WNOHANG) &&
	    wait_event_interruptible(current->child_exit, find_child(pid, true, options)))
		return -ERESTARTSYS;
	c = find_child(pid, true, options);
	if (!c)
		return 0;
	ret = c->pid;
	if (c->state == TASK_ZOMBIE) {
		*status = c->exit_status;
		*usage = bury(c);
	} else {
		*status = news_of(c, options);
		c->report = REPORT_NOTHING;
	}
	return ret;
}

void tasks_end_run(int status)
{
	if (current != init_task)
		task_end(init_task, status);
	task_exit(status);
}

struct task *task_by_pid(int pid)
{
	struct task *t;

	list_for_each(t, &all_tasks, all)
	{
		if (t->pid == pid)
			return t;
	}
	return NULL;
}

int task_next_pid(int pid)
{
	struct task *t;
	int next = 0;

	list_for_each(t, &all_tasks, all)
	{
		if (t->pid > pid && (!next || t->pid < next))
			next = t->pid;
	}
	return next;
}

int task_count(void)
{
	struct task *t;
	int n = 0;

	list_for_each(t, &all_tasks, all) n++;
	return n;
}

struct task *task_worst(u64 (*score)(const struct task *t))
{
	struct task *t, *worst = NULL;
	u64 highest = 0;

	list_for_each(t, &all_tasks, all)
	{
		u64 s = t == init_task ? 0 : score(t);

		if (s > highest) {
			highest = s;
			worst = t;
		}
	}
	return worst;
}

static bool all_others_ended(void)
{
	struct task *t;

	list_for_each(t, &all_tasks, all)
	{
		if (t != current && t->state != TASK_ZOMBIE)
			return false;
	}
	return true;
}

void tasks_end_others(void)
{
	struct task *t, *next;

	list_for_each(t, &all_tasks, all)
	{
		if (t != current)
			task_end(t, SIGKILL);
	}
	wait_event(any_exit, all_others_ended());
	list_for_each_safe(t, next, &all_tasks, all)
	{
		if (t != current)
			task_free(t);
	}
}
