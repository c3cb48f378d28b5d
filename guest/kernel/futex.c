/*
 * Who waits on which word. A waiter is listed before it reads the word: who changes the word and
 * then wakes finds it, or the waiter finds the change.
 */
#include "guest/include/futex.h"
#include "guest/include/errno.h"
#include "guest/include/mm.h"
#include "guest/include/pgtable.h"
#include "guest/include/sched.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define BUCKETS 64

/* On the waiter's stack; all but the queue under futex_lock. */
struct futex_waiter {
	struct list link; /* in its key's bucket, until it is woken */
	struct futex_key key;
	u32 bits;
	bool woken;
	struct wait_queue queue;
};

static struct spinlock futex_lock; /* before the locks of the waiters' queues */
static struct list buckets[BUCKETS];

static struct list *bucket_of(const struct futex_key *key)
{
	u64 hash = ((u64)key->space >> 6) + (key->at >> 2) + (key->at >> 12);
	struct list *bucket = &buckets[hash % BUCKETS];

	if (!bucket->next)
		list_init(bucket);
	return bucket;
}

static bool same_key(const struct futex_key *a, const struct futex_key *b)
{
	return a->space == b->space && a->at == b->at;
}

int futex_key(u64 addr, bool private, struct futex_key *key)
{
	struct mm *mm = current->mm;
	const struct vma *vma;
	int err = 0;

	if (addr % sizeof(u32))
		return -EINVAL;
	if (addr >= USER_END)
		return -EFAULT;
	*key = (struct futex_key){mm, addr};
	if (private)
		return 0;
	down_read(&mm->lock);
	vma = find_vma(mm, addr);
	if (!vma || vma->start > addr)
		err = -EFAULT;
	else if (vma->flags & VM_SHARED)
		*key =
		    (struct futex_key){vma->inode, (vma->pgoff << PAGE_SHIFT) + addr - vma->start};
	up_read(&mm->lock);
	return err;
}

static void enlist(struct futex_waiter *w)
{
	spin_lock(&futex_lock);
	list_add_tail(&w->link, bucket_of(&w->key));
	spin_unlock(&futex_lock);
}

/* Whether it was woken; from then on nobody knows of it. */
static bool delist(struct futex_waiter *w)
{
	bool woken;

	spin_lock(&futex_lock);
	list_del(&w->link);
	woken = w->woken;
	spin_unlock(&futex_lock);
	return woken;
}

s64 futex_wait(u64 addr, const struct futex_key *key, u32 value, u32 bits, u64 deadline)
{
	struct futex_waiter w = {.key = *key, .bits = bits};
	s64 ret = 0;
	u32 now;

	wait_queue_init(&w.queue);
	enlist(&w);
	if (copy_from_user(&now, addr, sizeof(now)))
		ret = -EFAULT;
	else if (now != value)
		ret = -EAGAIN;
	else
		wait_event_until(w.queue, READ_ONCE(w.woken) || signal_pending(), deadline);
	/* A wake-up that was counted is not lost, whatever else there is to say. */
	if (delist(&w))
		return 0;
	return ret ? ret : signal_pending() ? -ERESTARTSYS : -ETIMEDOUT;
}

static void wake_waiter(struct futex_waiter *w)
{
	list_del(&w->link);
	WRITE_ONCE(w->woken, true);
	wake_up(&w->queue);
}

s64 futex_wake(const struct futex_key *key, u64 count, u32 bits)
{
	struct futex_waiter *w, *next;
	struct list *bucket;
	u64 woken = 0;

	spin_lock(&futex_lock);
	bucket = bucket_of(key);
	list_for_each_safe(w, next, bucket, link)
	{
		if (woken == count)
			break;
		if (!same_key(&w->key, key) || !(w->bits & bits))
			continue;
		wake_waiter(w);
		woken++;
	}
	spin_unlock(&futex_lock);
	return (s64)woken;
}

s64 futex_requeue(const struct futex_key *from, const struct futex_key *to, u64 wake, u64 move)
{
	struct futex_waiter *w, *next;
	struct list moved, *bucket;
	u64 done = 0;

	list_init(&moved);
	spin_lock(&futex_lock);
	bucket = bucket_of(from);
	list_for_each_safe(w, next, bucket, link)
	{
		if (done == wake + move)
			break;
		if (!same_key(&w->key, from))
			continue;
		if (done++ < wake) {
			wake_waiter(w);
			continue;
		}
		w->key = *to;
		list_del(&w->link);
		list_add_tail(&w->link, &moved);
	}
	while (!list_empty(&moved)) {
		w = list_entry(moved.next, struct futex_waiter, link);
		list_del(&w->link);
		list_add_tail(&w->link, bucket_of(to));
	}
	spin_unlock(&futex_lock);
	return (s64)done;
}
