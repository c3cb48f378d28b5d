/* The list of what is to happen at a time, and intervals on top of it. */
#include "guest/include/ktimer.h"
#include "guest/include/sched.h"

struct spinlock timers_lock;
static struct list timers = {&timers, &timers}; /* by expires */
static u64 first = ~0UL;			/* the first one's, for who has no lock */

void ktimer_init(struct ktimer *t, void (*fire)(struct ktimer *t))
{
	list_init(&t->armed);
	t->expires = 0;
	t->fire = fire;
}

static void note_first(void)
{
	u64 next =
	    list_empty(&timers) ? ~0UL : list_entry(timers.next, struct ktimer, armed)->expires;

	__atomic_store_n(&first, next, __ATOMIC_RELAXED);
}

void ktimer_disarm(struct ktimer *t)
{
	list_del(&t->armed);
	t->expires = 0;
	note_first();
}

void ktimer_arm(struct ktimer *t, u64 expires)
{
	struct list *pos;

	list_del(&t->armed);
	t->expires = expires ? expires : 1;
	for (pos = timers.next; pos != &timers; pos = pos->next)
		if (list_entry(pos, struct ktimer, armed)->expires > expires)
			break;
	list_add_tail(&t->armed, pos);
	note_first();
}

u64 ktimers_first(void)
{
	return READ_ONCE(first);
}

void ktimers_expire(u64 now)
{
	u64 irq;

	if (now < ktimers_first())
		return;
	irq = spin_lock_irqsave(&timers_lock);
	while (ktimers_first() <= now) {
		struct ktimer *t = list_entry(timers.next, struct ktimer, armed);

		list_del(&t->armed);
		note_first();
		t->fire(t);
	}
	spin_unlock_irqrestore(&timers_lock, irq);
}

/* --- intervals -------------------------------------------------------------------------------- */

void interval_set(struct interval *it, u64 expires, u64 period)
{
	it->period = expires ? period : 0;
	it->last = 0;
	if (expires)
		ktimer_arm(&it->timer, expires);
	else
		ktimer_disarm(&it->timer);
}

void interval_ended(struct interval *it, u64 expired)
{
	it->timer.expires = 0;
	it->last = it->period ? expired : 0;
}

u64 interval_again(struct interval *it, u64 now)
{
	u64 periods;

	if (!it->last)
		return 0;
	periods = (now - it->last) / it->period + 1;
	ktimer_arm(&it->timer, it->last + periods * it->period);
	it->last = 0;
	return periods - 1;
}

u64 interval_left(const struct interval *it, u64 now)
{
	if (!it->timer.expires)
		return 0;
	return it->timer.expires > now ? it->timer.expires - now : 1;
}

u64 interval_left_going_on(const struct interval *it, u64 now)
{
	return it->last ? it->period - (now - it->last) % it->period : interval_left(it, now);
}
