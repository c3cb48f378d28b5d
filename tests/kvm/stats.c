/* Reading the JSON that a run left. */
#include <string.h>

#include "tests/kvm/runner.h"

static uint64_t number(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	ck_assert_msg(json_is_integer(value), "no number \"%s\" in the statistics", name);
	return (uint64_t)json_integer_value(value);
}

static const char *string(const json_t *object, const char *name)
{
	const char *value = json_string_value(json_object_get(object, name));

	ck_assert_msg(value != NULL, "no string \"%s\" in the statistics", name);
	return value;
}

static json_t *need(const struct run *run, const char *name)
{
	ck_assert_msg(run->stats != NULL, "no statistics; stderr: %s", run->err_text);
	json_t *value = json_object_get(run->stats, name);
	ck_assert_msg(value != NULL, "no \"%s\" in the statistics", name);
	return value;
}

static uint64_t sum_cases(const json_t *cases, const char *kase, const char *counter)
{
	uint64_t sum = 0;
	size_t i;
	json_t *c;

	json_array_foreach(cases, i, c)
	{
		if (!kase || strcmp(string(c, "case"), kase) == 0)
			sum += number(c, counter);
	}
	return sum;
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

uint64_t count_of(const struct run *run, const char *area, const char *kase, const char *counter)
{
	uint64_t sum = 0;
	size_t i;
	json_t *a;

	json_array_foreach(need(run, "areas"), i, a)
	{
		if (!area || starts(string(a, "name"), area))
			sum += sum_cases(json_object_get(a, "cases"), kase, counter);
	}
	if (!area)
		sum += sum_cases(need(run, "no_area"), kase, counter);
	return sum;
}

uint64_t stats_number(const struct run *run, const char *object, const char *name)
{
	return number(need(run, object), name);
}

static json_t *find_area(const struct run *run, const char *area)
{
	size_t i;
	json_t *a;

	json_array_foreach(need(run, "areas"), i, a)
	{
		if (starts(string(a, "name"), area))
			return a;
	}
	ck_abort_msg("no area \"%s\" in the statistics", area);
}

uint64_t area_number(const struct run *run, const char *area, const char *name)
{
	return number(find_area(run, area), name);
}

const char *area_string(const struct run *run, const char *area, const char *name)
{
	return string(find_area(run, area), name);
}

uint64_t led_of(const struct run *run, const char *area, const char *counter)
{
	return number(json_object_get(find_area(run, area), "led"), counter);
}

uint64_t ahead_of(const struct run *run, const char *area, const char *counter)
{
	return number(json_object_get(find_area(run, area), "ahead"), counter);
}

static uint64_t file_number(const struct run *run, const char *use, const char *name)
{
	size_t i;
	json_t *f;

	json_array_foreach(need(run, "files"), i, f)
	{
		if (strcmp(string(f, "use"), use) == 0)
			return number(f, name);
	}
	ck_abort_msg("no file used as \"%s\" in the statistics", use);
}

uint64_t file_read(const struct run *run, const char *use)
{
	return file_number(run, use, "read");
}

uint64_t file_size(const struct run *run, const char *use)
{
	return file_number(run, use, "size");
}

/* Faults of @origin over all cases that userfaultfd told of. */
static uint64_t told(const json_t *cases, const char *origin)
{
	uint64_t sum = 0;
	size_t i;
	json_t *c;

	json_array_foreach(cases, i, c)
	{
		/* These come as exits, not as events. */
		if (strcmp(string(c, "case"), "no_area") != 0 &&
		    strcmp(string(c, "case"), "ro_write") != 0)
			sum += number(json_object_get(c, "by_origin"), origin);
	}
	return sum;
}

/* Those of all vCPUs are theirs; of what failed, none. */
static void check_vcpus(const struct run *run)
{
	uint64_t sum = 0, most = number(need(run, "events"), "vcpu");
	size_t i;
	json_t *v;

	json_array_foreach(need(run, "vcpus"), i, v) sum +=
	    number(v, "minor") + number(v, "major") + number(v, "raced");
	ck_assert_uint_eq(i, json_integer_value(need(run, "cpus")));
	if (run->status == 0)
		ck_assert_uint_eq(sum, most);
	else
		ck_assert_uint_le(sum, most);
}

void check_events(const struct run *run)
{
	static const char *const origins[] = {"vcpu", "kvm"};

	for (int o = 0; o < 2; o++) {
		uint64_t sum = told(need(run, "no_area"), origins[o]);
		size_t i;
		json_t *a;
		json_array_foreach(need(run, "areas"), i, a) sum +=
		    told(json_object_get(a, "cases"), origins[o]);
		ck_assert_uint_eq(sum, number(need(run, "events"), origins[o]));
	}
	check_vcpus(run);
}
