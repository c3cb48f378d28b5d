/* What a trace says of its VM; of a file or of a VM's answer, and so hostile. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/run_dir.h"
#include "vmm/trace_file.h"

const char *const trace_modes[] = {
    [EPT_FILE_RO] = "ro", [EPT_FILE_COW] = "cow", [EPT_FILE_SHARED] = "shared", NULL};
const char *const trace_huges[] = {
    [EPT_HUGE_AUTO] = "auto", [EPT_HUGE_ALWAYS] = "always", [EPT_HUGE_NEVER] = "never", NULL};
const char *const trace_prefetches[] = {
    [EPT_PREFETCH_NONE] = "none", [EPT_PREFETCH_OFF] = "off",	    [EPT_PREFETCH_SET] = "set",
    [EPT_PREFETCH_ALL] = "all",	  [EPT_PREFETCH_RECORD] = "record", NULL};

#define NAME_MAX_LEN   255
#define HOST_AHEAD_MAX (1ULL << 32) /* pages */

/* Short, and of what can be printed anywhere. */
static const char *name_in(const json_t *value)
{
	const char *text = json_string_value(value);

	if (!text || !*text || json_string_length(value) > NAME_MAX_LEN)
		return NULL;
	for (const char *at = text; *at; at++)
		if (*at < ' ' || *at > '~')
			return NULL;
	return text;
}

static bool number_in(const json_t *object, const char *key, uint64_t *out)
{
	const json_t *value = json_object_get(object, key);

	if (!json_is_integer(value) || json_integer_value(value) < 0)
		return false;
	*out = (uint64_t)json_integer_value(value);
	return true;
}

/* 0: it is no list of 1 to @most names. */
static unsigned take_names(const json_t *list, const char **out, unsigned most)
{
	size_t n = json_array_size(list);

	if (n > most)
		return 0;
	for (size_t i = 0; i < n; i++) {
		out[i] = name_in(json_array_get(list, i));
		if (!out[i])
			return 0;
	}
	return (unsigned)n;
}

/* The place of @value in @words; -1: it is none of them. */
static int word_in(const json_t *value, const char *const *words)
{
	const char *text = json_string_value(value);

	for (int i = 0; text && words[i]; i++)
		if (strcmp(text, words[i]) == 0)
			return i;
	return -1;
}

/* Who serves it and how its file is used are not said by an older foal. */
static bool take_use(const json_t *json, struct trace_area *out)
{
	static const char *const engines[] = {"handler", "kernel", NULL};
	const json_t *engine = json_object_get(json, "engine"),
		     *mode = json_object_get(json, "mode");
	int is = engine ? word_in(engine, engines) : 0, how = mode ? word_in(mode, trace_modes) : 0;

	out->layers = json_is_true(json_object_get(json, "layers"));
	out->origin = out->layers ? json_string_value(json_object_get(json, "origin")) : NULL;
	out->host = is == 1;
	out->has_mode = mode;
	out->mode = (enum ept_file_mode)how;
	if (json_object_get(json, "host_ahead") &&
	    (!number_in(json, "host_ahead", &out->host_ahead) || out->host_ahead > HOST_AHEAD_MAX))
		return false;
	return is >= 0 && how >= 0;
}

static bool take_area(const json_t *json, struct trace_area *out)
{
	out->name = name_in(json_object_get(json, "name"));
	out->file = json_string_value(json_object_get(json, "file"));
	return out->name && out->file && take_use(json, out) && number_in(json, "gpa", &out->gpa) &&
	       number_in(json, "size", &out->size) && out->gpa < 1ULL << EPT_GPA_BITS &&
	       out->size <= 1ULL << EPT_GPA_BITS;
}

static int take_areas(const json_t *list, struct trace_meta *out, const char **why)
{
	size_t n = json_array_size(list);

	*why = "its list of areas";
	if (!json_is_array(list) || n >= EPT_RECORD_NONE)
		return -EINVAL;
	out->areas = calloc(n + 1, sizeof(*out->areas));
	if (!out->areas)
		return -ENOMEM;
	for (out->nr_areas = 0; out->nr_areas < n; out->nr_areas++)
		if (!take_area(json_array_get(list, out->nr_areas), &out->areas[out->nr_areas]))
			return -EINVAL;
	return 0;
}

/* Said of what was restored alone, and not by an older foal. */
static bool take_prefetch(const json_t *json, struct trace_settings *out)
{
	int how = json ? word_in(json, trace_prefetches) : EPT_PREFETCH_NONE;

	out->prefetch = (enum ept_prefetch_how)how;
	return how >= 0 && (how != EPT_PREFETCH_ALL || !out->memory_limit);
}

static bool take_settings(const json_t *json, struct trace_meta *out)
{
	struct trace_settings *s = &out->settings;
	uint64_t around = 0;
	int huge = word_in(json_object_get(json, "huge"), trace_huges);

	out->has_settings = json;
	if (!json)
		return true;
	if (huge < 0 || !number_in(json, "fault_around", &around) ||
	    !number_in(json, "memory_limit", &s->memory_limit))
		return false;
	s->huge = (enum ept_huge)huge;
	s->fault_around = (unsigned)around;
	if (s->memory_limit && (s->memory_limit < EPT_LIMIT_FLOOR || s->huge == EPT_HUGE_ALWAYS))
		return false;
	if (!take_prefetch(json_object_get(json, "prefetch"), s))
		return false;
	return around >= 1 && around <= TRACE_AROUND_MAX && !(around & (around - 1));
}

/* Not said by an older foal. */
static bool take_sampling(const json_t *json, struct trace_meta *out)
{
	uint64_t every = 0;

	if (json_object_get(json, "rip_sample") &&
	    (!number_in(json, "rip_sample", &every) || every > UINT32_MAX))
		return false;
	out->rip_sample = (unsigned)every;
	return true;
}

int trace_meta_take(json_t *json, struct trace_meta *out, const char **why)
{
	uint64_t cpus;

	*out = (struct trace_meta){.json = json};
	out->vm = json_string_value(json_object_get(json, "vm"));
	*why = "its size";
	if (json_dumpb(json, NULL, 0, JSON_COMPACT) > TRACE_META_MAX)
		return -EINVAL;
	*why = "the VM's name";
	if (!out->vm || json_string_length(json_object_get(json, "vm")) >= VM_NAME_SIZE ||
	    vm_name_fault(out->vm))
		return -EINVAL;
	*why = "a number";
	if (!number_in(json, "cpus", &cpus) || cpus > EPT_MAX_VCPUS ||
	    !number_in(json, "memory", &out->memory) ||
	    !number_in(json, "main_ns", &out->main_ns) ||
	    !number_in(json, "first_run_ns", &out->first_run_ns) || !take_sampling(json, out))
		return -EINVAL;
	out->cpus = (unsigned)cpus;
	*why = "its settings";
	if (!take_settings(json_object_get(json, "settings"), out))
		return -EINVAL;
	*why = "its list of cases or origins";
	out->nr_cases = take_names(json_object_get(json, "cases"), out->cases, TRACE_CASES_MAX);
	out->nr_origins =
	    take_names(json_object_get(json, "origins"), out->origins, TRACE_ORIGINS_MAX);
	if (!out->nr_cases || !out->nr_origins)
		return -EINVAL;
	return take_areas(json_object_get(json, "areas"), out, why);
}

void trace_meta_free(struct trace_meta *meta)
{
	free(meta->areas);
	json_decref(meta->json);
	*meta = (struct trace_meta){0};
}

bool trace_record_is_valid(const struct trace_meta *meta, const struct ept_record *record)
{
	const unsigned flags =
	    EPT_RECORD_MAJOR | EPT_RECORD_FALLBACK | EPT_RECORD_EVENT | EPT_RECORD_PROTECT;

	return record->kase < meta->nr_cases && record->origin < meta->nr_origins &&
	       (record->area < meta->nr_areas || record->area == EPT_RECORD_NONE) &&
	       (record->vcpu < meta->cpus || record->vcpu == EPT_RECORD_NONE) &&
	       record->access <= EPT_WRITE && !(record->flags & ~flags) && !record->unused &&
	       record->at <= INT64_MAX;
}

bool trace_sample_is_valid(const struct trace_meta *meta, const struct ept_sample *sample)
{
	return ept_sample_is_valid(sample) && sample->vcpu < meta->cpus;
}
