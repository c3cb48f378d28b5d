/* Waiting on a word of user memory (futex(2)). Process context, no lock held. */
#ifndef GUEST_FUTEX_H
#define GUEST_FUTEX_H

#include "guest/include/types.h"

#define FUTEX_ANY_BIT 0xffffffffU

/* What a word is, whoever looks: an address space and an address, or an object and an offset. */
struct futex_key {
	const void *space; /* compared, never followed: what waits keeps nothing alive */
	u64 at;
};

/* private: only by address space. 0, -EINVAL (not aligned) or -EFAULT. */
int futex_key(u64 addr, bool private, struct futex_key *key);

/*
 * Sleeps if the word is value, until woken for one of bits or the deadline (ktime; ~0: none):
 * 0, -EAGAIN, -EFAULT, -ETIMEDOUT, or -ERESTARTSYS.
 */
s64 futex_wait(u64 addr, const struct futex_key *key, u32 value, u32 bits, u64 deadline);
/* Wakes up to count of those that wait for one of bits; how many. */
s64 futex_wake(const struct futex_key *key, u64 count, u32 bits);
/* Wakes up to wake, moves up to move of the others; how many of both. */
s64 futex_requeue(const struct futex_key *from, const struct futex_key *to, u64 wake, u64 move);

/* The current task ends, with its memory still there: who waits for that, or for its locks, goes
 * on. */
void futex_task_ends(void);

#endif
