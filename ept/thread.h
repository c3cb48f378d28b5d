/* Threads of ept/: they take no signal of the process. */
#ifndef FOAL_EPT_THREAD_H
#define FOAL_EPT_THREAD_H

#include <pthread.h>

/* 0 or -errno. */
int ept_thread_create(pthread_t *thread, void *(*main)(void *arg), void *arg);

#endif
