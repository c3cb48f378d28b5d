/* Tasks come and go: created, forked, ended, freed. */
#include "guest/include/task.h"
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/futex.h"
#include "guest/include/mm.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
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

static struct list all_tasks = {&all_tasks, &all_tasks};
static struct list dead_tasks = {&dead_tasks, &dead_tasks};
static struct wait_queue vfork_ends = WAIT_QUEUE_INIT(vfork_ends);
static int last_pid;
static u64 nr_tasks;

struct regs *task_regs(const struct task *t)
{
	return (struct regs *)(t->stack + TASK_STACK) - 1;
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
	list_init(&t->timer);
	sigpending_init(&t->signals.pending);
	return t;
}

struct task *idle_create(void)
{
	return task_alloc("idle");
}

struct task *task_create(const char *name, void (*fn)(void *), void *arg, struct process *p)
{
	struct task *t = task_alloc(name);
	struct first_switch *sw;

	if (!t)
		return NULL;
	t->pid = ++last_pid;
	t->state = TASK_NEW;
	list_add_tail(&t->all, &all_tasks);
	nr_tasks++;
	process_add_thread(p, t);

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

static void task_free(struct task *t)
{
	list_del(&t->all);
	nr_tasks--;
	/* One that has just ended is still on its stack, elsewhere. */
	while (__atomic_load_n(&t->on_cpu, __ATOMIC_ACQUIRE))
		smp_poll();
	put_page(virt_to_page(t->stack));
	kfree(t);
}

void tasks_reap(void)
{
	struct task *t, *next;

	list_for_each_safe(t, next, &dead_tasks, in_process)
	{
		list_del(&t->in_process);
		task_free(t);
	}
}

/* The child's way to user mode: its copy of the parent's frame is all else that it needs. */
static void fork_return(void *arg)
{
	u64 tid_goes_to = (u64)arg;

	if (tid_goes_to && copy_to_user(tid_goes_to, &current->pid, sizeof(current->pid)))
		signal_force(SIGSEGV, SEGV_MAPERR, tid_goes_to);
}

static int share_or_copy(struct task *child, u32 flags)
{
	if (flags & CLONE_FILES) {
		files_share(child, current);
	} else {
		int err = files_fork(child, current);

		if (err)
			return err;
	}
	if (!(flags & CLONE_VM))
		return mm_fork(current->mm, &child->mm);
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

/* It has never run. */
static void give_up(struct task *child)
{
	if (child->mm)
		mm_put(child->mm);
	files_release(child);
	process_forget_thread(child);
	task_free(child);
}

/* A thread of this process, or of a new one: with no memory or files yet. */
static struct task *create_child(const struct fork_request *how)
{
	u64 child_tid = how->flags & CLONE_CHILD_SETTID ? how->child_tid : 0;
	bool thread = how->flags & CLONE_THREAD;
	struct process *p = thread ? current->process : process_create();
	struct task *child = NULL;

	if (p)
		child = task_create(current->name, fork_return, (void *)child_tid, p);
	if (p && !child && !thread)
		process_free(p);
	return child;
}

/* All else that is its own. */
static void set_up_child(struct task *child, const struct regs *regs,
			 const struct fork_request *how)
{
	*task_regs(child) = *regs;
	task_regs(child)->rax = 0;
	if (how->stack)
		task_regs(child)->rsp = how->stack;
	child->fs_base = how->flags & CLONE_SETTLS ? how->tls : current->fs_base;
	child->clear_tid = how->flags & CLONE_CHILD_CLEARTID ? how->child_tid : 0;
	fpu_fork(child);
	signals_fork(child, how->flags & CLONE_THREAD);
	if (!(how->flags & CLONE_THREAD))
		process_set_parent(child->process, current->process);
}

s64 do_fork(const struct regs *regs, const struct fork_request *how)
{
	struct task *child;
	int err, pid;

	if (too_many_tasks())
		return -EAGAIN;
	reclaim_if_low();
	tasks_reap();
	child = create_child(how);
	if (!child)
		return -ENOMEM;
	pid = child->pid;
	err = share_or_copy(child, how->flags);
	if (!err && how->flags & CLONE_PARENT_SETTID) /* as Linux: no error */
		(void)copy_to_user(how->parent_tid, &pid, sizeof(pid));
	/* Who ends all of them has been here already, and would never hear of this one. */
	if (!err && task_dying())
		err = -EINTR;
	if (err) {
		give_up(child);
		return err;
	}
	set_up_child(child, regs, how);
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

bool task_dying(void)
{
	return current->dying;
}

void task_end(struct task *t)
{
	t->dying = true;
	/* From whatever it waits for; what it must wait for, it goes back to. */
	task_wake(t);
}

void task_exit(int status)
{
	struct task *t = current;

	lock_kernel();
	tasks_reap();
	futex_task_ends();
	release_resources(t);
	vfork_is_over();
	process_thread_ends(status);
	local_irq_disable();
	t->state = TASK_DEAD;
	list_add_tail(&t->in_process, &dead_tasks);
	schedule();
	panic("a task that ended runs");
}

struct task *task_worst(u64 (*score)(const struct task *t))
{
	struct task *t, *worst = NULL;
	u64 highest = 0;

	list_for_each(t, &all_tasks, all)
	{
		u64 s = t->process->pid == INIT_PID ? 0 : score(t);

		if (s > highest) {
			highest = s;
			worst = t;
		}
	}
	return worst;
}
