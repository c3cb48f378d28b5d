/*
 * pthread_create(), and the thread begins at once. Linux often leaves a new thread on the CPU of
 * who made it, behind it, though others are idle: it begins when its maker sleeps (docs/bench.md).
 */
#ifndef FOAL_EPT_NEW_THREAD_H
#define FOAL_EPT_NEW_THREAD_H

#include <pthread.h>

/* A positive errno, as pthread_create(). It may run where its maker may. */
int ept_new_thread(pthread_t *thread, void *(*body)(void *), void *arg);

#endif
