#include "ept/trace.h"

#include "ept/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

int ept_trace_open(struct ept_space *space)
{
	if (!space->config.trace_fd)
		return 0;
	space->trace_fd = fcntl(space->config.trace_fd, F_DUPFD_CLOEXEC, 3);
	return space->trace_fd < 0 ? -errno : 0;
}

void ept_trace_close(struct ept_space *space)
{
	if (space->trace_fd >= 0)
		close(space->trace_fd);
	space->trace_fd = -1;
}

/* In one write where it fits, appended: lines of several threads stay whole. An errno, or 0. */
static int put(int fd, const char *line, size_t len)
{
	while (len) {
		ssize_t n = write(fd, line, len);

		if (n < 0 && errno != EINTR)
			return errno;
		if (n == 0)
			return ENOSPC;
		if (n > 0) {
			line += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

void ept_trace(struct ept_space *space, const struct ept_area *area, const struct ept_request *req,
	       const struct ept_resolution *res, uint64_t ns)
{
	char line[400];
	int len, err;

	if (space->trace_fd < 0 || __atomic_load_n(&space->trace_error, __ATOMIC_RELAXED))
		return;
	len =
	    snprintf(line, sizeof(line),
		     "{\"at_ns\":%" PRIu64 ",\"case\":\"%s\",\"area\":\"%.100s\","
		     "\"gpa\":\"0x%" PRIx64 "\",\"access\":\"%s\",\"origin\":\"%s\","
		     "\"took_ns\":%" PRIu64 ",\"error\":%d,\"major\":%s,\"installed\":%" PRIu64
		     ",\"bytes_read\":%" PRIu64 "}\n",
		     ept_now(), ept_case_name(res->kase), area ? area->name : "", req->gpa.v,
		     req->access == EPT_WRITE ? "write" : "read", ept_origin_name(req->origin), ns,
		     -res->error, res->major ? "true" : "false", res->installed, res->bytes_read);
	err = put(space->trace_fd, line, (size_t)len);
	if (err)
		__atomic_store_n(&space->trace_error, err, __ATOMIC_RELAXED);
}

int ept_space_trace_error(const struct ept_space *space)
{
	return -__atomic_load_n(&space->trace_error, __ATOMIC_RELAXED);
}
