#include "vmm/perf_ring.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* With a page in front what an unprivileged user may lock (perf_event_mlock_kb). */
#define RING_BYTES (512UL << 10)

struct sample_head {
	struct perf_event_header header;
	uint64_t time;
	uint32_t raw_len;
} __attribute__((packed));

struct lost_record {
	struct perf_event_header header;
	uint64_t id, lost;
};

static size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static int open_event(pid_t tid, uint64_t id)
{
	struct perf_event_attr attr = {
	    .type = PERF_TYPE_TRACEPOINT,
	    .size = sizeof(attr),
	    .config = id,
	    .sample_period = 1,
	    .sample_type = PERF_SAMPLE_TIME | PERF_SAMPLE_RAW,
	    .disabled = 1,
	    .use_clockid = 1, /* so that its times are those of the fault log */
	    .clockid = CLOCK_MONOTONIC,
	};
	long fd = syscall(SYS_perf_event_open, &attr, tid, -1, -1, PERF_FLAG_FD_CLOEXEC);

	return fd < 0 ? -errno : (int)fd;
}

static int add_event(struct perf_ring *ring, pid_t tid, uint64_t id)
{
	int fd = open_event(tid, id);

	if (fd < 0)
		return fd;
	ring->fds[ring->nr++] = fd;
	if (ring->nr > 1)
		return ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, ring->fds[0]) ? -errno : 0;
	ring->map = mmap(NULL, page_size() + RING_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return ring->map == MAP_FAILED ? -errno : 0;
}

int perf_ring_open(struct perf_ring *ring, pid_t tid, const uint64_t *ids, unsigned nr)
{
	int r = 0;

	*ring = (struct perf_ring){.map = MAP_FAILED};
	for (unsigned i = 0; r == 0 && i < nr; i++)
		r = add_event(ring, tid, ids[i]);
	for (unsigned i = 0; r == 0 && i < nr; i++)
		r = ioctl(ring->fds[i], PERF_EVENT_IOC_ENABLE, 0) ? -errno : 0;
	return r;
}

/* @len bytes from @at on, which may go round its end. */
static void copy_out(const struct perf_ring *ring, uint64_t at, void *to, size_t len)
{
	const char *data = (const char *)ring->map + page_size();
	size_t from = at % RING_BYTES;
	size_t first = len < RING_BYTES - from ? len : RING_BYTES - from;

	memcpy(to, data + from, first);
	memcpy((char *)to + first, data, len - first);
}

/* The record of @len bytes that was copied; 1: it is a sample. */
static int take(struct perf_ring *ring, size_t len, struct perf_sample *out)
{
	struct sample_head head = {0};
	struct lost_record lost = {0};

	memcpy(&head, ring->sample, len < sizeof(head) ? len : sizeof(head));
	if (head.header.type == PERF_RECORD_LOST) {
		memcpy(&lost, ring->sample, len < sizeof(lost) ? len : sizeof(lost));
		ring->lost += lost.lost;
	}
	if (head.header.type != PERF_RECORD_SAMPLE || len < sizeof(head) ||
	    head.raw_len > len - sizeof(head))
		return 0;
	*out = (struct perf_sample){head.time, ring->sample + sizeof(head), head.raw_len};
	return 1;
}

int perf_ring_next(struct perf_ring *ring, struct perf_sample *out)
{
	struct perf_event_mmap_page *page = ring->map;
	uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
	int found = 0;

	while (!found && ring->tail != head) {
		struct perf_event_header header;
		copy_out(ring, ring->tail, &header, sizeof(header));
		size_t len =
		    header.size < sizeof(ring->sample) ? header.size : sizeof(ring->sample);
		copy_out(ring, ring->tail, ring->sample, len);
		/* A record of no size would keep us here for ever. */
		ring->tail = header.size ? ring->tail + header.size : head;
		found = take(ring, len, out);
		__atomic_store_n(&page->data_tail, ring->tail, __ATOMIC_RELEASE);
	}
	return found;
}

void perf_ring_close(struct perf_ring *ring)
{
	if (ring->map != MAP_FAILED)
		munmap(ring->map, page_size() + RING_BYTES);
	for (unsigned i = 0; i < ring->nr; i++)
		close(ring->fds[i]);
	*ring = (struct perf_ring){.map = MAP_FAILED};
}
