/*
 * The kernel lock: system calls, signals and the ends of tasks are one CPU's at a time, as if there
 * were no other. Who sleeps gives it up meanwhile. Interrupt handlers do without. It is taken
 * before every spinlock and nests; with one CPU it is nothing.
 */
#ifndef GUEST_SMP_LOCK_H
#define GUEST_SMP_LOCK_H

#include "guest/include/task.h"

void lock_kernel(void);
void unlock_kernel(void);

/* schedule()'s: gives it up however deep it is, and takes it again. */
void release_kernel_lock(const struct task *t);
void reacquire_kernel_lock(const struct task *t);

#endif
