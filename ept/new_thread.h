/*
 * pthread_create(), and the thread begins at once. Linux often leaves a new thread on the CPU of
 * who made it, behind it, though others are idle: it begins when its maker sleeps (docs/bench.md).
 * All of it is here, for every room.
 */
#ifndef FOAL_EPT_NEW_THREAD_H
#define FOAL_EPT_NEW_THREAD_H

#include <pthread.h>
#include <sched.h>
#include <string.h>

/*
 * The thread may run where its maker may. Linux notes a set that was asked for, and that stays when
 * the cgroup gets more CPUs: so all there are is asked for, unless the maker has fewer than that
 * gives.
 */
static inline void ept_allow_all(pthread_t thread, const cpu_set_t *makers)
{
	cpu_set_t any, given;

	memset(&any, 0xff, sizeof(any));
	if (pthread_setaffinity_np(thread, sizeof(any), &any) ||
	    pthread_getaffinity_np(thread, sizeof(given), &given) || !CPU_EQUAL(&given, makers))
		pthread_setaffinity_np(thread, sizeof(*makers), makers);
}

/* To any CPU but this one, and then to all again. What is refused costs speed only. */
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
	ept_allow_all(thread, &all);
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
