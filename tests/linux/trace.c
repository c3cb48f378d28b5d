#include "tests/linux/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvm/runner.h"

#define TRACING	   "/sys/kernel/tracing/"
#define ENABLE	   TRACING "events/kvm/kvm_page_fault/enable"

/* For each CPU; an entry has some 50 bytes. */
#define BUFFER_KIB "8192"

/* Whether @text could be written. */
static bool control(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	bool done;

	if (!f)
		return false;
	done = fputs(text, f) >= 0;
	return fclose(f) == 0 && done;
}

void trace_start(void)
{
	if (!control(TRACING "buffer_size_kb", BUFFER_KIB) || !control(TRACING "trace", "") ||
	    !control(ENABLE, "1"))
		skip("no trace of KVM's faults here: tracefs is not mounted, or not ours");
}

/* "# entries-in-buffer/entries-written: 26/26   #P:2": both are the same, or some were lost. */
static void check_lost(const char *line)
{
	unsigned long kept, written;

	if (sscanf(line, "# entries-in-buffer/entries-written: %lu/%lu", &kept, &written) == 2)
		ck_assert_uint_eq(kept, written);
}

struct trace_fault *trace_stop(size_t *count)
{
	struct trace_fault *faults = NULL, fault;
	size_t room = 0;
	char line[512];
	FILE *f;

	ck_assert(control(ENABLE, "0"));
	f = fopen(TRACING "trace", "r");
	ck_assert_msg(f != NULL, "%strace: %s", TRACING, strerror(errno));
	*count = 0;
	while (fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, "kvm_page_fault: ");
		check_lost(line);
		at = at ? strstr(at, "address ") : NULL;
		if (!at || sscanf(at, "address %" SCNx64 " error_code %" SCNx64, &fault.gpa,
				  &fault.error) != 2)
			continue;
		if (*count == room) {
			room = room ? 2 * room : 1024;
			struct trace_fault *more = realloc(faults, room * sizeof(*faults));
			ck_assert_ptr_nonnull(more);
			faults = more;
		}
		faults[(*count)++] = fault;
	}
	fclose(f);
	return faults;
}
