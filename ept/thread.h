/* Threads of ept/: they take no signal of the process, and say when they begin. */
#ifndef FOAL_EPT_THREAD_H
#define FOAL_EPT_THREAD_H

#include "ept/ept.h"

#include <pthread.h>

/* Tells config->thread_expected. 0 or -errno. */
int ept_thread_create(const struct ept_config *config, pthread_t *thread, void *(*body)(void *),
		      void *arg);

/* First thing in it. @name: at most 15 characters; @kind: for config->thread_begins. */
void ept_thread_begins(const struct ept_config *config, const char *name, const char *kind);

#endif
