/* The report as JSON; docs/stats.md describes every field. */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

#include "ept/stats.h"
#include "vmm/stats.h"
#include "vmm/trace_file.h"

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

static json_t *gpa_string(gpa_t gpa)
{
	return json_sprintf("0x%llx", (unsigned long long)gpa.v);
}

/* A path may be any bytes; JSON strings are UTF-8. */
static json_t *path_string(const char *path)
{
	json_t *s = path ? json_string(path) : json_null();

	return s ? s : json_string("(path is not UTF-8)");
}

static json_t *by_origin(const uint64_t counts[EPT_NR_ORIGINS])
{
	json_t *o = json_object();

	for (int i = 0; i < EPT_NR_ORIGINS; i++)
		json_object_set_new(o, ept_origin_name(i), integer(counts[i]));
	return o;
}

static json_t *vcpus_json(const struct vm *vm)
{
	json_t *vcpus = json_array();

	for (unsigned i = 0; i < vm->vcpu_count; i++) {
		struct ept_vcpu_stats stats;
		json_t *o = json_object();

		ept_vcpu_stats(vm->space, i, &stats);
#define X(field, name) json_object_set_new(o, name, integer(stats.field));
		EPT_VCPU_COUNTERS(X)
#undef X
		json_array_append_new(vcpus, o);
	}
	return vcpus;
}

/* Null: no fault is sampled. */
static json_t *sampling_json(const struct vm *vm)
{
	struct ept_sampling_stats s;
	json_t *o;

	if (!ept_space_sampling(vm->space, &s))
		return json_null();
	o = json_object();
#define X(field, name) json_object_set_new(o, name, integer(s.field));
	EPT_SAMPLING_COUNTERS(X)
#undef X
	return o;
}

static json_t *case_json(enum ept_case c, const struct ept_case_stats *s)
{
	json_t *o = json_object();

	json_object_set_new(o, "case", json_string(ept_case_name(c)));
#define X(field, name, unit) json_object_set_new(o, name, integer(s->field));
	EPT_COUNTERS(X)
#undef X
	json_object_set_new(o, "by_origin", by_origin(s->by_origin));
	json_object_set_new(o, "latency_ns",
			    json_pack("{s:I,s:I,s:I}", "p50",
				      (json_int_t)ept_hist_percentile(&s->latency, 50), "p99",
				      (json_int_t)ept_hist_percentile(&s->latency, 99), "max",
				      (json_int_t)s->latency.max));
	return o;
}

static json_t *cases_json(const struct report *report, size_t area, struct ept_case_stats *stats)
{
	json_t *cases = json_array();

	for (int c = 0; c < EPT_NR_CASES; c++) {
		if (report_case(report, area, c, stats))
			json_array_append_new(cases, case_json(c, stats));
	}
	return cases;
}

/* Of all areas and of none: times of several areas cannot be made one by who reads them. */
static json_t *all_cases_json(const struct report *report, struct ept_case_stats two[2])
{
	json_t *cases = json_array();

	for (int c = 0; c < EPT_NR_CASES; c++) {
		report_sum_all(report, c, &two[0], &two[1]);
		if (two[0].faults)
			json_array_append_new(cases, case_json(c, &two[0]));
	}
	return cases;
}

/* Null where nothing is read ahead: no file, or the host kernel's. */
static json_t *ahead_json(const struct report *report, const struct ept_area_info *info, size_t i)
{
	struct ept_ahead_stats s;
	json_t *o;

	if (!info->file || info->engine != EPT_ENGINE_HANDLER)
		return json_null();
	ept_area_ahead_stats(ept_area_at(report->vm->space, i), &s);
	o = json_pack("{s:s}", "by", ept_space_reads_by(report->vm->space));
#define X(field, name, unit) json_object_set_new(o, name, integer(s.field));
	EPT_AHEAD_COUNTERS(X)
#undef X
	return o;
}

/* Null but for a file that the host kernel maps. */
static json_t *led_json(const struct report *report, const struct ept_area_info *info, size_t i)
{
	struct ept_lead_stats s;
	json_t *o;

	if (!info->file || info->engine != EPT_ENGINE_KERNEL)
		return json_null();
	ept_area_lead_stats(ept_area_at(report->vm->space, i), &s);
	o = json_object();
#define X(field, name, unit) json_object_set_new(o, name, integer(s.field));
	EPT_LEAD_COUNTERS(X)
#undef X
	return o;
}

static json_t *area_json(const struct report *report, size_t i, struct ept_case_stats *stats)
{
	static const char *const modes[] = {
	    [EPT_FILE_RO] = "ro", [EPT_FILE_COW] = "cow", [EPT_FILE_SHARED] = "shared"};
	struct ept_area_info info;
	json_t *o = json_object();

	ept_area_info(ept_area_at(report->vm->space, i), &info);
	json_object_set_new(o, "name", json_string(info.name));
	json_object_set_new(o, "gpa", gpa_string(info.gpa));
	json_object_set_new(o, "size", integer(info.size));
	json_object_set_new(o, "engine",
			    json_string(info.engine == EPT_ENGINE_HANDLER ? "handler" : "kernel"));
	json_object_set_new(o, "file", path_string(info.file));
	json_object_set_new(o, "mode", info.file ? json_string(modes[info.mode]) : json_null());
	json_object_set_new(o, "file_bytes", integer(info.file_bytes));
	json_object_set_new(o, "file_read", integer(info.file_read));
	json_object_set_new(o, "resident", integer(info.resident));
	json_object_set_new(o, "copied", integer(info.copied));
	json_object_set_new(o, "host_cached", integer(info.host_cached));
	json_object_set_new(o, "huge", integer(info.huge));
	json_object_set_new(o, "dirty", integer(info.dirty));
	json_object_set_new(o, "ahead", ahead_json(report, &info, i));
	json_object_set_new(o, "led", led_json(report, &info, i));
	json_object_set_new(o, "cases", cases_json(report, i, stats));
	return o;
}

static json_t *areas_json(const struct report *report, struct ept_case_stats *stats)
{
	json_t *areas = json_array();
	size_t count = ept_area_count(report->vm->space);

	for (size_t i = 0; i < count; i++)
		json_array_append_new(areas, area_json(report, i, stats));
	return areas;
}

static json_t *files_json(const struct report *report)
{
	json_t *files = json_array();

	for (unsigned i = 0; i < report->file_count; i++) {
		const struct file_report *f = &report->files[i];
		json_t *o = json_object();
		json_object_set_new(o, "path", path_string(f->path));
		json_object_set_new(o, "use", json_string(f->use));
		json_object_set_new(o, "size", integer(f->size));
		json_object_set_new(o, "read", integer(f->read));
		json_array_append_new(files, o);
	}
	return files;
}

static json_t *disks_json(const struct report *report)
{
	const struct vm *vm = report->vm;
	json_t *disks = json_array();

	for (unsigned i = 0; i < vm->opt->disk_count; i++) {
		struct disk_stats s;
		json_t *o = json_object();
		virtio_blk_stats(vm->disks[i].device, &s);
		json_object_set_new(o, "path", path_string(vm->opt->disks[i].path));
#define X(field, name) json_object_set_new(o, name, integer(s.field));
		DISK_COUNTERS(X)
#undef X
		json_array_append_new(disks, o);
	}
	return disks;
}

static json_t *nets_json(const struct vm *vm)
{
	json_t *nets = json_array();

	for (unsigned i = 0; i < vm->opt->net_count; i++) {
		struct net_stats s;
		json_t *o = json_object();
		virtio_net_stats(vm->nets[i].device, &s);
#define X(field, name) json_object_set_new(o, name, integer(s.field));
		NET_COUNTERS(X)
#undef X
		json_array_append_new(nets, o);
	}
	return nets;
}

static json_t *vsock_json(const struct vm *vm)
{
	struct vsock_stats s;
	json_t *o;

	if (!vm->vsock.device)
		return json_null();
	virtio_vsock_stats(vm->vsock.device, &s);
	o = json_object();
#define X(field, name) json_object_set_new(o, name, integer(s.field));
	VSOCK_COUNTERS(X)
#undef X
	return o;
}

/* By the names of virtio 1.2, 5.5.6.4; bytes, but for counts of events. */
static json_t *guest_memory_json(const struct balloon_stats *s)
{
	static const char *const names[BALLOON_GUEST_STATS] = {
	    "swap_in", "swap_out",  "major_faults", "minor_faults",	   "free",
	    "total",   "available", "disk_caches",  "hugetlb_allocations", "hugetlb_failures"};
	json_t *o = json_object();

	for (unsigned i = 0; i < BALLOON_GUEST_STATS; i++) {
		if (s->guest[i] != UINT64_MAX)
			json_object_set_new(o, names[i], integer(s->guest[i]));
	}
	return o;
}

static json_t *balloon_json(const struct vm *vm)
{
	struct balloon_stats s;
	json_t *o;

	if (!vm->balloon)
		return json_null();
	virtio_balloon_stats(vm->balloon, &s);
	o = json_object();
#define X(field, name) json_object_set_new(o, name, integer(s.field));
	BALLOON_COUNTERS(X)
#undef X
	json_object_set_new(o, "target", integer(s.target));
	json_object_set_new(o, "actual", integer(s.actual));
	json_object_set_new(o, "guest", guest_memory_json(&s));
	return o;
}

static json_t *times_json(const struct ept_hist *h)
{
	return json_pack("{s:I,s:I,s:I}", "p50_ns", (json_int_t)ept_hist_percentile(h, 50),
			 "p99_ns", (json_int_t)ept_hist_percentile(h, 99), "max_ns",
			 (json_int_t)h->max);
}

static json_t *reset_json(const struct vm *vm)
{
	const struct vm_reset *reset = &vm->reset;
	json_t *o;

	if (!reset->points)
		return json_null();
	o = json_object();
	json_object_set_new(o, "points", integer(reset->points));
	json_object_set_new(o, "resets", integer(reset->resets));
	json_object_set_new(o, "pages", integer(reset->pages));
	json_object_set_new(o, "kept_bytes", integer(reset->kept));
	json_object_set_new(o, "took", times_json(&reset->took));
	json_object_set_new(o, "gap", times_json(&reset->gap));
	return o;
}

static json_t *reclaim_json(const struct vm *vm)
{
	struct ept_reclaim_stats s;
	json_t *o;

	if (!ept_reclaim_stats(vm->space, &s))
		return json_null();
	o = json_object();
#define X(field, name, unit) json_object_set_new(o, name, integer(s.field));
	EPT_RECLAIM_COUNTERS(X)
#undef X
	return o;
}

static json_t *kvm_json(const struct report *report)
{
	json_t *o = json_object();

	if (!report->kvm_known) {
		json_decref(o);
		return json_null();
	}
	for (unsigned i = 0; i < report->kvm.count; i++)
		json_object_set_new(o, report->kvm.stat[i].name,
				    integer(report->kvm.stat[i].value));
	return o;
}

static json_t *start_json(const struct report *report)
{
	const struct vm *vm = report->vm;
	json_t *o = json_object();

	json_object_set_new(o, "main_ns", integer(vm->main_ns));
	json_object_set_new(o, "first_run_ns", integer(vm->first_run_ns));
	json_object_set_new(o, "end_ns", integer(report->end_ns));
	json_object_set_new(o, "debt", debt_json(report));
	return o;
}

static json_t *huge_json(const struct vm *vm)
{
	struct ept_huge_stats s;
	json_t *o = json_object();

	ept_space_huge_stats(vm->space, &s);
#define X(field, name) json_object_set_new(o, name, integer(s.field));
	EPT_HUGE_COUNTERS(X)
#undef X
	return o;
}

/* Null: its memory is not of a snapshot. */
static json_t *prefetch_json(const struct vm *vm)
{
	enum ept_prefetch_how how = ept_space_prefetch_how(vm->space);

	return how == EPT_PREFETCH_NONE ? json_null() : json_string(trace_prefetches[how]);
}

json_t *stats_json_object(const struct report *report)
{
	const struct vm *vm = report->vm;
	struct ept_case_stats *stats = calloc(2, sizeof(*stats)); /* too large for a stack */

	json_t *root = json_object();
	if (!stats || !root) {
		free(stats);
		json_decref(root);
		return NULL;
	}
	json_object_set_new(root, "vm", json_string(vm->opt->name));
	json_object_set_new(root, "running", json_boolean(report->running));
	if (!report->running) {
		json_object_set_new(root, "status", integer((uint64_t)vm->end.status));
		json_object_set_new(root, "end", path_string(vm->end.error.text));
	}
	json_object_set_new(root, "cpus", integer(vm->opt->cpus));
	json_object_set_new(root, "memory", integer(vm->opt->memory));
	json_object_set_new(root, "start", start_json(report));
	json_object_set_new(root, "resident",
			    json_pack("{s:I,s:I,s:I}", "guest", (json_int_t)report->resident_guest,
				      "huge", (json_int_t)report->resident_huge, "monitor",
				      (json_int_t)report->resident_self));
	json_object_set_new(root, "huge", huge_json(vm));
	json_object_set_new(root, "prefetch", prefetch_json(vm));
	json_object_set_new(root, "reclaim", reclaim_json(vm));
	json_object_set_new(root, "reset", reset_json(vm));
	json_object_set_new(root, "events", by_origin(report->books.events));
	json_object_set_new(root, "reconciliation", reconciliation_json(report));
	json_object_set_new(root, "vcpus", vcpus_json(vm));
	json_object_set_new(root, "rip_samples", sampling_json(vm));
	json_object_set_new(root, "cases", all_cases_json(report, stats));
	json_object_set_new(root, "areas", areas_json(report, stats));
	json_object_set_new(root, "no_area", cases_json(report, ept_area_count(vm->space), stats));
	json_object_set_new(root, "files", files_json(report));
	json_object_set_new(root, "disks", disks_json(report));
	json_object_set_new(root, "nets", nets_json(vm));
	json_object_set_new(root, "vsock", vsock_json(vm));
	json_object_set_new(root, "balloon", balloon_json(vm));
	json_object_set_new(root, "kvm", kvm_json(report));
	free(stats);
	return root;
}

int stats_json(const struct report *report, FILE *out)
{
	json_t *root = stats_json_object(report);
	int r = 0;

	if (!root)
		return -ENOMEM;
	errno = 0;
	if (json_dumpf(root, out, JSON_INDENT(2)) || fputc('\n', out) == EOF)
		r = errno ? -errno : -EIO;
	json_decref(root);
	return r;
}
