/*
 * Interval timers of real time (setitimer(2), alarm(2)): one a process. Its end sends SIGALRM; if
 * it is to come again it is armed when that is taken, as Linux does it.
 */
#ifndef GUEST_ITIMER_H
#define GUEST_ITIMER_H

struct process;

void itimer_init(struct process *p);
/* The current process took its SIGALRM. */
void itimer_taken(void);
/* The process has ended. */
void itimer_end(struct process *p);

#endif
