/*
 * What stands for a file of the VM. No file that a trace names is opened: it is memory, as long as
 * the file was, and has pages where the guest touched it and could be read ahead, since to read
 * them takes about as long as to read a file out of the host's page cache.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ept/mirror.h"
#include "ept/object.h"
#include "vmm/replay.h"

#define AHEAD 2U /* pieces of 2 MiB that are there behind the one that is touched */

/* The pieces of @area that its records touch, a byte each. */
static int fill(const struct replay_trace *trace, size_t i, int fd)
{
	const struct trace_area *area = &trace->meta->areas[i];
	uint64_t pieces = (area->size + EPT_LEAF_BYTES - 1) / EPT_LEAF_BYTES;
	char *there = calloc(pieces, 1);
	int r = there ? 0 : -ENOMEM;

	for (size_t n = 0; n < trace->count && r == 0; n++) {
		const struct ept_record *record = &trace->records[n];
		uint64_t at = (record->gpa - area->gpa) / EPT_LEAF_BYTES;

		if (record->area != i || record->gpa < area->gpa)
			continue;
		for (uint64_t end = at + AHEAD; at <= end && at < pieces && r == 0; at++) {
			uint64_t start = at * EPT_LEAF_BYTES;
			uint64_t left = ept_leaf_end(start, area->size) - start;

			if (!there[at] && fallocate(fd, 0, (off_t)start, (off_t)left))
				r = -errno;
			there[at] = 1;
		}
	}
	free(there);
	return r;
}

int replay_file(const struct replay_trace *trace, size_t i, struct ept_object **out)
{
	const struct trace_area *area = &trace->meta->areas[i];
	int fd = memfd_create("replay", MFD_CLOEXEC), r = fd < 0 ? -errno : 0;

	if (r == 0 && ftruncate(fd, (off_t)area->size))
		r = -errno;
	if (r == 0)
		r = fill(trace, i, fd);
	if (r == 0)
		r = ept_object_file(fd, area->file, 0, area->size, trace->areas[i].mode, out);
	if (r == 0)
		(*out)->host_ahead = area->host_ahead;
	if (fd >= 0)
		close(fd);
	return r;
}
