/*
 * The last of what the guest wrote to its consoles, for who attaches later. Written by
 * the threads of devices, read by the control thread. Private to vmm/.
 */
#ifndef FOAL_VMM_CONSOLE_LOG_H
#define FOAL_VMM_CONSOLE_LOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_LOG_SIZE 65536u

struct console_log {
	pthread_mutex_t lock; /* innermost */
	uint64_t total;	      /* bytes ever written; the last CONSOLE_LOG_SIZE are there */
	int wake_fd;	      /* an eventfd, written when there is news for who follows; borrowed */
	atomic_bool followed; /* somebody wants to hear of news */
	unsigned char ring[CONSOLE_LOG_SIZE];
};

void console_log_init(struct console_log *log, int wake_fd);
void console_log_destroy(struct console_log *log);

/* Never waits for a reader. */
void console_log_add(struct console_log *log, const void *data, size_t len);

/* Where the oldest byte that is kept is; *@kept: how many are. */
uint64_t console_log_start(struct console_log *log, uint64_t *kept);

/*
 * Copy at most @max bytes from place *@at, which moves on; how many. *@lost: what was
 * overwritten before it was read. With 0 bytes the log is followed from then on: one
 * wake for the next news.
 */
size_t console_log_read(struct console_log *log, uint64_t *at, void *buf, size_t max,
			uint64_t *lost);

#endif
