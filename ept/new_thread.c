#include "ept/new_thread.h"

#include <sched.h>

/* To any CPU but this one, and then it may run on all again. What is refused costs speed only. */
static void send_away(pthread_t thread)
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

int ept_new_thread(pthread_t *thread, void *(*body)(void *), void *arg)
{
	int error = pthread_create(thread, NULL, body, arg);

	if (error == 0)
		send_away(*thread);
	return error;
}
