/*
 * Timers that a program makes as many of as it likes (timer_create(2)). The signal of each is
 * pending at most once; what ended before it was taken is counted.
 */
#ifndef GUEST_POSIX_TIMER_H
#define GUEST_POSIX_TIMER_H

struct process;
struct siginfo;

/* A signal of one was taken by the current process: the timer goes on, and says how often it ended.
 */
void posix_timer_taken(struct siginfo *info);
/* All of the process are no more: it has ended, or has another program. */
void posix_timers_end(struct process *p);

#endif
