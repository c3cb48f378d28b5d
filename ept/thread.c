#include "ept/thread.h"

#include <signal.h>

int ept_thread_create(pthread_t *thread, void *(*main)(void *arg), void *arg)
{
	sigset_t all, old;
	int err;

	sigfillset(&all);	  /* a new thread inherits the mask: signals are not for it, */
	sigdelset(&all, SIGSEGV); /* but a crash's handler has to run in any thread */
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = pthread_create(thread, NULL, main, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}
