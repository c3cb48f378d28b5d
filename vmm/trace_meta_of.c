/* What the numbers in a VM's records stand for, said by who has the VM (docs/trace.md). */

#include "ept/stats.h"
#include "vmm/options.h"
#include "vmm/trace_file.h"

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* Names and paths may be any bytes; JSON strings are UTF-8. */
static json_t *string(const char *text)
{
	json_t *s = json_string(text ? text : "");

	return s ? s : json_string("(not UTF-8)");
}

static json_t *areas_json(const struct ept_space *space)
{
	json_t *areas = json_array();

	for (size_t i = 0; i < ept_area_count(space); i++) {
		struct ept_area_info info;
		json_t *o = json_object();

		ept_area_info(ept_area_at(space, i), &info);
		json_object_set_new(o, "name", string(info.name));
		json_object_set_new(o, "gpa", integer(info.gpa.v));
		json_object_set_new(o, "size", integer(info.size));
		json_object_set_new(
		    o, "engine", string(info.engine == EPT_ENGINE_HANDLER ? "handler" : "kernel"));
		json_object_set_new(o, "file", string(info.file));
		if (info.file) {
			json_object_set_new(o, "mode", string(trace_modes[info.mode]));
			json_object_set_new(o, "host_ahead", integer(info.host_ahead));
			json_object_set_new(o, "layers", json_boolean(info.layers));
		}
		if (info.origin) {
			json_object_set_new(o, "origin", string(info.origin));
		}
		json_array_append_new(areas, o);
	}
	return areas;
}

static json_t *cases_json(void)
{
	json_t *names = json_array();

	for (int c = 0; c < EPT_NR_CASES; c++)
		json_array_append_new(names, string(ept_case_name((enum ept_case)c)));
	return names;
}

static json_t *origins_json(void)
{
	json_t *names = json_array();

	for (int o = 0; o < EPT_NR_ORIGINS; o++)
		json_array_append_new(names, string(ept_origin_name((enum ept_origin)o)));
	return names;
}

/* As they work: a limit leaves no huge pages (ept_config). */
static json_t *settings_json(const struct ept_space *space, const struct run_options *opt)
{
	enum ept_prefetch_how how = ept_space_prefetch_how(space);
	enum ept_huge huge = opt->limit.bytes ? EPT_HUGE_NEVER : opt->huge;
	unsigned around = opt->fault_around ? opt->fault_around : TRACE_AROUND_DEFAULT;
	json_t *o = json_object();

	json_object_set_new(o, "fault_around", integer(around));
	json_object_set_new(o, "huge", string(trace_huges[huge]));
	json_object_set_new(o, "memory_limit", integer(opt->limit.bytes));
	if (how != EPT_PREFETCH_NONE)
		json_object_set_new(o, "prefetch", string(trace_prefetches[how]));
	return o;
}

json_t *trace_meta_of(const struct ept_space *space, const struct run_options *opt,
		      uint64_t main_ns, uint64_t first_run_ns)
{
	json_t *o = json_object();

	json_object_set_new(o, "main_ns", integer(main_ns));
	json_object_set_new(o, "first_run_ns", integer(first_run_ns));
	json_object_set_new(o, "memory", integer(opt->memory));
	json_object_set_new(o, "cpus", integer(opt->cpus));
	json_object_set_new(o, "rip_sample", integer(opt->rip_sample));
	json_object_set_new(o, "settings", settings_json(space, opt));
	json_object_set_new(o, "areas", areas_json(space));
	json_object_set_new(o, "cases", cases_json());
	json_object_set_new(o, "origins", origins_json());
	return o;
}
