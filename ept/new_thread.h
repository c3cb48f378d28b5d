/*
 * pthread_create(), and the thread begins at once. Linux often leaves a new thread on the CPU of
 * who made it, behind it, though others are idle: it begins when its maker sleeps (docs/bench.md).
 * All of it is here, for every room.
 */
#ifndef FOAL_EPT_NEW_THREAD_H
#define FOAL_EPT_NEW_THREAD_H

#include <pthread.h>
#include <sched.h>

/* To any CPU but this one, and then it may run on all again. What is refused costs speed only. */
static inline void ept_send_away(pthread_t thread)
{
	int here = sched_getcpu();
	cpu_set_t all, others;

	if (here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof(all), &all))
		return;
	others = all;
	CPU_CLR(here, &others);
	if (CPU_COUNT(&others) == 0)
		return;
	pthread_setaffinity_np(thread, sizeof(others), &others);
	pthread_setaffinity_np(thread, sizeof(all), &all);
}

/* A positive errno, as pthread_create(). It may run where its maker may. */
static inline int ept_new_thread(pthread_t *thread, void *(*body)(void *), void *arg)
{
	int error = pthread_create(thread, NULL, body, arg);

	if (error == 0)
		ept_send_away(*thread);
	return error;
}

#endif
