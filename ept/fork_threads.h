/* Threads of a process that was forked by one of several. */
#ifndef FOAL_EPT_FORK_THREADS_H
#define FOAL_EPT_FORK_THREADS_H

#include <pthread.h>

/*
 * ThreadSanitizer takes a thread on the stack of one that the fork left behind for that
 * one: larger stacks are new ones. In the child, before its first thread.
 */
static inline void ept_use_other_stacks(void)
{
#ifdef __SANITIZE_THREAD__
	pthread_attr_t attr;
	size_t size;

	pthread_getattr_default_np(&attr);
	pthread_attr_getstacksize(&attr, &size);
	pthread_attr_setstacksize(&attr, size + (1UL << 20));
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
#endif
}

#endif
