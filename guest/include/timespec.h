/* Times as system calls take them: seconds and nanoseconds. */
#ifndef GUEST_TIMESPEC_H
#define GUEST_TIMESPEC_H

#include "guest/include/errno.h"
#include "guest/include/types.h"
#include "guest/include/uaccess.h"

#define NSEC_PER_SEC 1000000000UL
#define SECONDS_MAX  (1UL << 32) /* more is for ever, to who waits */

struct timespec {
	s64 sec, nsec;
};

/* As timer_settime(2) and timerfd_settime(2) take it. */
struct itimerspec {
	struct timespec interval, value;
};

static inline bool timespec_valid(struct timespec t)
{
	return t.sec >= 0 && t.nsec >= 0 && t.nsec < (s64)NSEC_PER_SEC;
}

static inline u64 timespec_ns(struct timespec t)
{
	return MIN((u64)t.sec, SECONDS_MAX) * NSEC_PER_SEC + (u64)t.nsec;
}

static inline struct timespec timespec_from_ns(u64 ns)
{
	return (struct timespec){(s64)(ns / NSEC_PER_SEC), (s64)(ns % NSEC_PER_SEC)};
}

/* The user's, in nanoseconds; -EFAULT, -EINVAL. */
static inline s64 timespec_read(u64 user, u64 *ns)
{
	struct timespec t;

	if (copy_from_user(&t, user, sizeof(t)))
		return -EFAULT;
	if (!timespec_valid(t))
		return -EINVAL;
	*ns = timespec_ns(t);
	return 0;
}

#endif
