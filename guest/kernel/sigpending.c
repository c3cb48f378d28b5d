/*
 * What was sent and not yet taken. The first of each number has a place of its own, so that none
 * is ever lost for want of memory; the others of a real-time number, and what timers send, are in
 * a list in the order they came. All under signals_lock.
 */
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/process.h"
#include "guest/include/signal.h"

static u64 queued; /* by everyone, who is one user */

void sigpending_init(struct sigpending *p)
{
	p->set = p->first = 0;
	list_init(&p->more);
}

s64 sigpending_add(struct sigpending *to, const struct siginfo *info, u64 limit,
		   struct sigqueued **spare)
{
	u64 bit = signal_bit(info->signo);
	bool real_time = info->signo >= SIGRTMIN, full = queued >= limit;
	/* kill(2) sends one that it has no room to describe, if it is the only one. */
	s64 err = info->code == SI_USER ? 0 : -EAGAIN;

	if (real_time && full && err)
		return err;
	if (!(to->set & bit)) {
		to->info[info->signo - 1] = *info;
		to->first |= bit;
	} else if (!real_time) {
		return 0;
	} else if (full || !*spare) {
		return err;
	} else {
		(*spare)->info = *info;
		(*spare)->lasting = false;
		list_add_tail(&(*spare)->link, &to->more);
		*spare = NULL;
	}
	to->set |= bit;
	queued++;
	return 0;
}

bool sigpending_reserve(u64 limit)
{
	if (queued >= limit)
		return false;
	queued++;
	return true;
}

void sigpending_unreserve(void)
{
	queued--;
}

void sigpending_add_lasting(struct sigpending *to, struct sigqueued *q)
{
	q->lasting = true;
	q->from = to;
	list_add_tail(&q->link, &to->more);
	to->set |= signal_bit(q->info.signo);
}

static struct sigqueued *find_more(const struct sigpending *p, int sig)
{
	struct sigqueued *q;

	list_for_each(q, &p->more, link)
	{
		if (q->info.signo == sig)
			return q;
	}
	return NULL;
}

/* Nothing of that number is left: it is not pending any more. */
static void settle(struct sigpending *p, int sig)
{
	u64 bit = signal_bit(sig);

	if (!(p->first & bit) && !find_more(p, sig))
		p->set &= ~bit;
}

static void drop(struct sigqueued *q)
{
	list_del(&q->link);
	if (q->lasting) {
		q->from = NULL;
		return;
	}
	queued--;
	kfree(q);
}

int sigpending_take(struct sigpending *from, u64 set, struct siginfo *info)
{
	struct sigqueued *q;
	int sig;

	set &= from->set;
	if (!set)
		return 0;
	sig = __builtin_ctzl(set) + 1;
	if (from->first & signal_bit(sig)) {
		*info = from->info[sig - 1];
		from->first &= ~signal_bit(sig);
		queued--;
	} else {
		q = find_more(from, sig);
		*info = q->info;
		info->lasting = q->lasting;
		drop(q);
	}
	settle(from, sig);
	return sig;
}

void sigpending_force(struct sigpending *to, const struct siginfo *info)
{
	u64 bit = signal_bit(info->signo);

	to->info[info->signo - 1] = *info;
	queued += !(to->first & bit);
	to->first |= bit;
	to->set |= bit;
}

void sigpending_forget(struct sigpending *p, u64 set)
{
	struct sigqueued *q, *next;

	for (u64 left = p->first & set; left; left &= left - 1)
		queued--;
	p->first &= ~set;
	p->set &= ~set;
	list_for_each_safe(q, next, &p->more, link)
	{
		if (signal_bit(q->info.signo) & set)
			drop(q);
	}
}

void sigpending_withdraw(struct sigqueued *q)
{
	struct sigpending *from = q->from;

	if (!from)
		return;
	drop(q);
	settle(from, q->info.signo);
}
