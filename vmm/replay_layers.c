/*
 * What stands for the snapshot that a VM was restored from. A trace has not what lay in it, but it
 * says of each page that was asked for whether it came from there: those are written here, by a
 * space that has nothing else, and the order in which they were asked for is the working set that
 * a restore would have recorded.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ept/mirror.h"
#include "ept/object.h"
#include "vmm/replay.h"

static const uint8_t id[16] = "foal-replay-snap";

struct files {
	int memory, index, set;
};

static bool is_case(const struct replay_trace *trace, const struct ept_record *record,
		    enum ept_case kase)
{
	return trace->kase[record->kase] == (int)kase;
}

/*
 * Of an area that lies over a file a page of that file has the same case. It is read by itself,
 * where of the snapshot an extent is; an extent of a single page is taken for the file's.
 */
static bool is_of_origin(const struct replay_trace *trace, const struct ept_record *record)
{
	return trace->meta->areas[record->area].origin &&
	       record->bytes_read == (record->around + 1) * EPT_PAGE_SIZE;
}

/* By 2 MiB it is a file's case where all else would be anonymous memory. */
static bool came_from_layers(const struct replay_trace *trace, const struct ept_record *record)
{
	return !is_of_origin(trace, record) && (is_case(trace, record, EPT_CASE_SNAP_READ) ||
						is_case(trace, record, EPT_CASE_SNAP_WRITE) ||
						is_case(trace, record, EPT_CASE_FILE_HUGE));
}

/* --- areas --------------------------------------------------------------------------------- */

static int add_area(const struct replay_trace *trace, size_t i, struct ept_space *space,
		    struct foal_error *err)
{
	const struct trace_area *area = &trace->meta->areas[i];
	struct ept_object *obj = NULL;
	int r = 0;

	if (trace->areas[i].left_out)
		return 0;
	if (replay_has_file(area))
		r = replay_file(trace, i, &obj);
	if (r == 0)
		r = ept_area_add(space, area->name, GPA(area->gpa), area->size, obj, NULL);
	ept_object_put(obj);
	return r ? error_set(err, FOAL_EXIT_TRACE, r, "%s: its area %s of %llu bytes cannot be: %s",
			     trace->reader.path, area->name, (unsigned long long)area->size,
			     strerror(-r))
		 : 0;
}

int replay_add_areas(const struct replay_trace *trace, struct ept_space *space,
		     struct foal_error *err)
{
	int r = 0;

	for (size_t i = 0; i < trace->meta->nr_areas && r == 0; i++)
		r = add_area(trace, i, space, err);
	return r;
}

/* --- written once ---------------------------------------------------------------------------- */

/* @fn of each page that a record says came from there, and of those that came with it. */
static int each_page(const struct replay_trace *trace, struct ept_space *space,
		     int (*fn)(struct ept_space *space, gpa_t page))
{
	for (size_t i = 0; i < trace->count; i++) {
		const struct ept_record *record = &trace->records[i];
		uint64_t end, gpa = record->gpa & EPT_PAGE_MASK;

		if (record->area == EPT_RECORD_NONE || replay_leaves_out(trace, record) ||
		    !came_from_layers(trace, record))
			continue;
		end = gpa + ((uint64_t)record->around + 1) * EPT_PAGE_SIZE;
		end = end < ept_leaf_end(gpa, UINT64_MAX) ? end : ept_leaf_end(gpa, UINT64_MAX);
		for (; gpa < end; gpa += EPT_PAGE_SIZE) {
			int r = fn(space, GPA(gpa));

			if (r < 0 && r != -EFAULT) /* behind its area */
				return r;
		}
	}
	return 0;
}

/* Zeros would be nothing that a snapshot has to keep. */
static int write_page(struct ept_space *space, gpa_t page)
{
	const uint64_t something = ~page.v;

	return (int)ept_write(space, page, &something, sizeof(something), EPT_ORIGIN_DEVICE);
}

static int read_page(struct ept_space *space, gpa_t page)
{
	struct iovec iov;

	return (int)ept_map(space, page, EPT_PAGE_SIZE, EPT_READ, EPT_ORIGIN_DEVICE, &iov, 1);
}

/* Nothing comes with a page, nor is copied ahead of who writes it. */
static int make_space(const struct replay_trace *trace, struct ept_space **space,
		      struct foal_error *err)
{
	const struct ept_config config = {.vm_name = "replay",
					  .engine = EPT_ENGINE_HANDLER,
					  .vcpus = 1,
					  .fault_around = 1,
					  .huge = EPT_HUGE_NEVER};
	int r = ept_space_create(&config, space);

	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "replay: memory of a snapshot: %s",
				 strerror(-r));
	return replay_add_areas(trace, *space, err);
}

static int cannot(const struct replay_trace *trace, int r, const char *why, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_HOST, r, "%s: the snapshot that it tells of: %s",
			 trace->reader.path, *why ? why : strerror(-r));
}

/* Nobody else knows of the space, and its threads have nothing to do: nobody need be stopped. */
static int write_snapshot(const struct replay_trace *trace, const struct files *files,
			  struct foal_error *err)
{
	struct ept_snapshot_options options = {.memory_fd = files->memory,
					       .index_fd = files->index};
	struct ept_snapshot_info info;
	struct ept_space *space = NULL;
	char why[300] = "";
	int r = make_space(trace, &space, err);

	memcpy(options.id, id, sizeof(id));
	if (r == 0) {
		r = ept_space_start(space);
		if (r == 0)
			r = each_page(trace, space, write_page);
		if (r == 0)
			r = ept_snapshot_write(space, &options, &info, why, sizeof(why));
		if (r)
			cannot(trace, r, why, err);
	}
	ept_space_destroy(space);
	return r;
}

/* As a restore records it; nobody asked for any page: there is none. */
static int record_set(const struct replay_trace *trace, struct replay_layers *layers,
		      const struct files *files, struct foal_error *err)
{
	struct ept_space *space = NULL;
	ssize_t pages = 0;
	int r = make_space(trace, &space, err);

	if (r == 0)
		r = replay_layers_under(layers, EPT_PREFETCH_RECORD, space, err);
	if (r == 0) {
		r = ept_space_start(space);
		if (r == 0)
			r = each_page(trace, space, read_page);
		if (r == 0)
			pages = ept_working_set_save(space, id, files->set);
		if (r == 0 && pages < 0)
			r = (int)pages;
		if (r == 0 && pages)
			r = ept_working_set_open(files->set, id, &layers->set);
		if (r)
			cannot(trace, r, "", err);
	}
	ept_space_destroy(space);
	return r;
}

int replay_layers_make(const struct replay_trace *trace, struct replay_layers *out,
		       struct foal_error *err)
{
	struct files files = {.memory = memfd_create("replay-memory", MFD_CLOEXEC),
			      .index = memfd_create("replay-index", MFD_CLOEXEC),
			      .set = memfd_create("replay-set", MFD_CLOEXEC)};
	char why[300] = "";
	int r = 0;

	*out = (struct replay_layers){0};
	if (files.memory < 0 || files.index < 0 || files.set < 0)
		r = cannot(trace, -errno, "", err);
	if (r == 0)
		r = write_snapshot(trace, &files, err);
	if (r == 0) {
		r = ept_snapshot_open(files.memory, files.index, "the replayed snapshot",
				      &out->snapshot, why, sizeof(why));
		if (r)
			cannot(trace, r, why, err);
	}
	if (r == 0)
		r = record_set(trace, out, &files, err);
	if (files.memory >= 0)
		close(files.memory);
	if (files.index >= 0)
		close(files.index);
	if (files.set >= 0)
		close(files.set);
	return r;
}

void replay_layers_free(struct replay_layers *layers)
{
	ept_working_set_close(layers->set);
	ept_snapshot_close(layers->snapshot);
	*layers = (struct replay_layers){0};
}

/* --- used ------------------------------------------------------------------------------------- */

int replay_layers_under(const struct replay_layers *layers, enum ept_prefetch_how how,
			struct ept_space *space, struct foal_error *err)
{
	struct ept_snapshot *snapshot = layers->snapshot;
	char why[300] = "";
	int r = ept_space_restore(space, &snapshot, 1, why, sizeof(why));

	if (r == 0 && how == EPT_PREFETCH_ALL)
		r = ept_space_prefetch_all(space);
	else if (r == 0 && how == EPT_PREFETCH_SET && layers->set)
		r = ept_space_prefetch(space, layers->set);
	else if (r == 0 && how == EPT_PREFETCH_RECORD)
		r = ept_space_record(space);
	else if (r == 0)
		r = ept_space_prefetch_rest(space);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "replay: its restored memory: %s",
			     *why ? why : strerror(-r))
		 : 0;
}
