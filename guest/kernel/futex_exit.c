/*
 * What the end of a thread means to who waits in user memory: locks that it held are marked, its
 * number is taken back. All of it is the program's memory, and its word counts for nothing.
 */
#include "guest/include/futex.h"
#include "guest/include/mm.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define FUTEX_WAITERS	 0x80000000U
#define FUTEX_OWNER_DIED 0x40000000U
#define FUTEX_TID_MASK	 0x3fffffffU
#define LOCKS_MAX	 2048 /* as Linux: a list may be a ring */

/* As set_robust_list(2) has it: a ring of such words, its head among them, at each lock. */
struct robust_list_head {
	u64 next;
	s64 futex_offset; /* from a lock's place in the list to its word */
	u64 pending;	  /* one that was just being taken or given up; 0: none */
};

static void wake_one(u64 addr)
{
	struct futex_key key;

	if (!futex_key(addr, false, &key))
		(void)futex_wake(&key, 1, FUTEX_ANY_BIT);
}

/* pending: it may have been given up, and who is to have it not been told. */
static bool owner_died(u64 addr, bool pending)
{
	u32 word;

	if (addr % sizeof(word) || copy_from_user(&word, addr, sizeof(word)))
		return false;
	if (pending && !word)
		wake_one(addr);
	if ((word & FUTEX_TID_MASK) != (u32)current->pid)
		return true;
	/* A waiter that adds its bit just now waits after this, and finds another value. */
	word = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
	if (copy_to_user(addr, &word, sizeof(word)))
		return false;
	if (word & FUTEX_WAITERS)
		wake_one(addr);
	return true;
}

static void give_up_locks(u64 user_head)
{
	struct robust_list_head head;
	u64 at;

	if (copy_from_user(&head, user_head, sizeof(head)))
		return;
	at = head.next;
	/* The lowest bit says what kind of lock: none here. */
	for (unsigned i = 0; i < LOCKS_MAX && (at & ~1UL) != user_head; i++) {
		u64 next;

		/* Read first: whoever gets the lock may write there. */
		if (copy_from_user(&next, at & ~1UL, sizeof(next)))
			return;
		if (at != head.pending && !owner_died((at & ~1UL) + (u64)head.futex_offset, false))
			return;
		at = next;
	}
	if (head.pending)
		(void)owner_died((head.pending & ~1UL) + (u64)head.futex_offset, true);
}

void futex_task_ends(void)
{
	const s32 none = 0;

	if (!current->mm)
		return;
	if (current->robust_list)
		give_up_locks(current->robust_list);
	/* As Linux: only where somebody is left to see it. */
	if (current->clear_tid && READ_ONCE(current->mm->users) > 1 &&
	    !copy_to_user(current->clear_tid, &none, sizeof(none)))
		wake_one(current->clear_tid);
	current->robust_list = current->clear_tid = 0;
}
