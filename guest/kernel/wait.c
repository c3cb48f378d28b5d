/* Wait queues and the locks that sleep. */
#include "guest/include/sched.h"
#include "guest/include/task.h"

void wait_queue_init(struct wait_queue *q)
{
	q->lock.locked = 0;
	list_init(&q->waiters);
}

void wait_prepare(struct wait_queue *q, struct waiter *w)
{
	u64 irq = spin_lock_irqsave(&q->lock);

	w->task = current;
	list_add_tail(&w->link, &q->waiters);
	set_current_state(TASK_SLEEPING);
	spin_unlock_irqrestore(&q->lock, irq);
}

void wait_finish(struct wait_queue *q, struct waiter *w)
{
	u64 irq = spin_lock_irqsave(&q->lock);

	list_del(&w->link);
	current->state = TASK_RUNNING;
	spin_unlock_irqrestore(&q->lock, irq);
}

void wake_up_waiters(struct wait_queue *q)
{
	struct waiter *w;
	u64 irq;

	irq = spin_lock_irqsave(&q->lock);
	list_for_each(w, &q->waiters, link) task_wake(w->task);
	spin_unlock_irqrestore(&q->lock, irq);
}

void mutex_init(struct mutex *m)
{
	m->owner = NULL;
	wait_queue_init(&m->wait);
}

bool mutex_trylock(struct mutex *m)
{
	struct task *none = NULL;

	return __atomic_compare_exchange_n(&m->owner, &none, current, false, __ATOMIC_ACQUIRE,
					   __ATOMIC_RELAXED);
}

void mutex_lock(struct mutex *m)
{
	wait_event(m->wait, mutex_trylock(m));
}

void mutex_unlock(struct mutex *m)
{
	__atomic_store_n(&m->owner, NULL, __ATOMIC_RELEASE);
	wake_up(&m->wait);
}
