/*
 * Interval timers of real time (setitimer(2), alarm(2)): one a process. Its end sends SIGALRM; if
 * it is to come again it is armed when that is taken, as Linux does it, so that no interval is too
 * short for the program to go on.
 */
#ifndef GUEST_ITIMER_H
#define GUEST_ITIMER_H

#include "guest/include/types.h"

struct itimer {
	u64 expires;  /* ktime; 0: not armed */
	u64 last;     /* when it expired last */
	u64 interval; /* 0: once */
};

/* When the first of all ends (ktime); ~0: none is armed. Any context. */
u64 itimers_first(void);
/* Timer interrupt: sends what is due. No lock held. */
void itimers_expire(u64 now);
/* The current process took its SIGALRM. */
void itimer_taken(void);

#endif
