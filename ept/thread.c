#include "ept/thread.h"

#include <signal.h>

#include "ept/new_thread.h"

int ept_thread_create(const struct ept_config *config, pthread_t *thread, void *(*body)(void *),
		      void *arg)
{
	sigset_t all, old;
	int err;

	if (config->thread_expected)
		config->thread_expected(config->thread_ctx);
	sigfillset(&all);	  /* a new thread inherits the mask: signals are not for it, */
	sigdelset(&all, SIGSEGV); /* but a crash's handler has to run in any thread */
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGSYS);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	err = ept_new_thread(thread, body, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -err;
}

void ept_thread_begins(const struct ept_config *config, const char *name, const char *kind)
{
	pthread_setname_np(pthread_self(), name);
	if (config->thread_begins)
		config->thread_begins(config->thread_ctx, kind);
}
