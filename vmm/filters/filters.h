/* The compiled filters, written by make_filters.c when foal is built. */
#ifndef FOAL_VMM_FILTERS_FILTERS_H
#define FOAL_VMM_FILTERS_FILTERS_H

#include <linux/filter.h>
#include <stddef.h>

#include "vmm/thread_kinds.h"

/*
 * Stands for this process's id, which is put in its place before a filter is
 * installed. No process has it: ids end at 4,194,304.
 */
#define FILTER_OWN_PID 0x7f0a10f0U

struct thread_filter {
	const struct sock_filter *code;
	unsigned short length; /* instructions */
};

extern const struct thread_filter thread_filters[NR_THREAD_KINDS];

/* None is longer; making a longer one fails. */
#define THREAD_FILTER_MAX 512

/* Names by number, for messages; some are NULL. */
extern const char *const system_call_names[];
extern const size_t nr_system_call_names;

#endif
