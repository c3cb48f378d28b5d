/*
 * Tracepoints that one thread passes, in the order in which it did (perf_event_open(2)). One
 * thread a ring. Private to vmm/.
 */
#ifndef FOAL_VMM_PERF_RING_H
#define FOAL_VMM_PERF_RING_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PERF_RING_EVENTS 4U

struct perf_ring {
	int fds[PERF_RING_EVENTS]; /* the first has the ring */
	unsigned nr;
	void *map;
	uint64_t lost; /* samples that found no room */
	uint64_t tail;
	unsigned char sample[1024];
};

struct perf_sample {
	uint64_t at;	 /* CLOCK_MONOTONIC, ns */
	const void *raw; /* until the next call */
	size_t len;	 /* bytes of it */
};

/* Watch @tid at the tracepoints @ids. A negative errno; perf_ring_close() in any case. */
int perf_ring_open(struct perf_ring *ring, pid_t tid, const uint64_t *ids, unsigned nr);
/* 1 and the next sample, or 0: there is none now. */
int perf_ring_next(struct perf_ring *ring, struct perf_sample *out);
void perf_ring_close(struct perf_ring *ring);

#endif
