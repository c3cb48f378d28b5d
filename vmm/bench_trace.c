/* The fault log of a sample's space, as foal trace would write it. */
#include <errno.h>
#include <string.h>

#include "vmm/bench.h"
#include "vmm/trace_out.h"
#include "vmm/vm.h"

static void put_all(struct trace_out *out, const struct trace_meta *meta,
		    struct ept_records *records)
{
	void *state = trace_binary.begin(out, meta);
	struct ept_record record;

	while (state && ept_records_next(records, &record) == 1)
		trace_binary.record(state, &record);
	if (state)
		trace_binary.end(state, (struct trace_lost){.records = ept_records_lost(records)});
}

int bench_trace_write(const struct ept_space *space, const struct run_options *opt,
		      const char *path, struct foal_error *err)
{
	json_t *json = trace_meta_of(space, opt, now_ns(), now_ns());
	struct ept_records *records = NULL;
	struct trace_out *out = NULL;
	struct trace_meta meta;
	const char *why = NULL;

	json_object_set_new(json, "vm", json_string("bench"));
	int r = trace_meta_take(json, &meta, &why);
	if (r == 0)
		r = ept_records_open(ept_space_records_fd(space), false, &records);
	if (r)
		error_set(err, FOAL_EXIT_INTERNAL, r, "bench: its fault log: %s",
			  why ? why : strerror(-r));
	if (r == 0)
		r = trace_out_open(path, -1, &out, err);
	if (r == 0) {
		put_all(out, &meta, records);
		r = trace_out_close(out, true, err);
	}
	ept_records_close(records);
	trace_meta_free(&meta);
	return r;
}
