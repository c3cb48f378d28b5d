#include "vmm/console_log.h"

#include <string.h>
#include <sys/eventfd.h>

void console_log_init(struct console_log *log, int wake_fd)
{
	pthread_mutex_init(&log->lock, NULL);
	log->wake_fd = wake_fd;
}

void console_log_destroy(struct console_log *log)
{
	pthread_mutex_destroy(&log->lock);
}

/* Both copy @len bytes, from place @at on; no more than the ring has. */
static void copy_in(struct console_log *log, uint64_t at, const unsigned char *buf, size_t len)
{
	size_t first = CONSOLE_LOG_SIZE - at % CONSOLE_LOG_SIZE;

	if (first > len)
		first = len;
	memcpy(log->ring + at % CONSOLE_LOG_SIZE, buf, first);
	memcpy(log->ring, buf + first, len - first);
}

static void copy_out(const struct console_log *log, uint64_t at, unsigned char *buf, size_t len)
{
	size_t first = CONSOLE_LOG_SIZE - at % CONSOLE_LOG_SIZE;

	if (first > len)
		first = len;
	memcpy(buf, log->ring + at % CONSOLE_LOG_SIZE, first);
	memcpy(buf + first, log->ring, len - first);
}

void console_log_add(struct console_log *log, const void *data, size_t len)
{
	const unsigned char *bytes = data;
	size_t skip = len > CONSOLE_LOG_SIZE ? len - CONSOLE_LOG_SIZE : 0;

	pthread_mutex_lock(&log->lock);
	copy_in(log, log->total + skip, bytes + skip, len - skip);
	log->total += len;
	pthread_mutex_unlock(&log->lock);
	if (atomic_exchange(&log->followed, false))
		eventfd_write(log->wake_fd, 1);
}

static uint64_t start(const struct console_log *log)
{
	return log->total > CONSOLE_LOG_SIZE ? log->total - CONSOLE_LOG_SIZE : 0;
}

uint64_t console_log_start(struct console_log *log, uint64_t *kept)
{
	pthread_mutex_lock(&log->lock);
	uint64_t at = start(log);
	*kept = log->total - at;
	pthread_mutex_unlock(&log->lock);
	return at;
}

size_t console_log_read(struct console_log *log, uint64_t *at, void *buf, size_t max,
			uint64_t *lost)
{
	pthread_mutex_lock(&log->lock);
	*lost = start(log) > *at ? start(log) - *at : 0;
	*at += *lost;
	size_t len = log->total - *at < max ? (size_t)(log->total - *at) : max;
	copy_out(log, *at, buf, len);
	*at += len;
	if (len == 0)
		atomic_store(&log->followed, true);
	pthread_mutex_unlock(&log->lock);
	return len;
}
