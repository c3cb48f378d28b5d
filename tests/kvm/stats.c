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

static bool is_one_of(const char *kase, const char *const *kases)
{
	for (; *kases; kases++)
		if (strcmp(kase, *kases) == 0)
			return true;
	return false;
}

/* Faults of @origin in @cases, but for the cases @without. */
static uint64_t told(const json_t *cases, const char *origin, const char *const *without)
{
	uint64_t sum = 0;
	size_t i;
	json_t *c;

	json_array_foreach(cases, i, c)
	{
		if (!is_one_of(string(c, "case"), without))
			sum += number(json_object_get(c, "by_origin"), origin);
	}
	return sum;
}

/* The same over all areas and what lies outside of them. */
static uint64_t told_in_all(const struct run *run, const char *origin, const char *const *without)
{
	uint64_t sum = told(need(run, "no_area"), origin, without);
	size_t i;
	json_t *a;

	json_array_foreach(need(run, "areas"), i, a)
	{
		sum += told(json_object_get(a, "cases"), origin, without);
	}
	return sum;
}

/* Each fault of a vCPU that got its page is one of that vCPU's. */
static void check_vcpus(const struct run *run)
{
	static const char *const failed[] = {"no_area",	  "ro_write", "io_error", "io_poison",
					     "no_memory", "dying",    NULL};
	uint64_t sum = 0;
	size_t i;
	json_t *v;

	json_array_foreach(need(run, "vcpus"), i, v) sum +=
	    number(v, "minor") + number(v, "major") + number(v, "raced");
	ck_assert_uint_eq(i, json_integer_value(need(run, "cpus")));
	ck_assert_uint_eq(sum, told_in_all(run, "vcpu", failed));
}

static int64_t amount(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	ck_assert_msg(json_is_integer(value), "no number \"%s\" in the reconciliation", name);
	return json_integer_value(value);
}

/* Part 3: the rest is what is left, and may be less than nothing. */
static void check_pf(const json_t *pf)
{
	if (json_is_null(pf))
		return;
	ck_assert_str_eq(string(pf, "source"), "KVM statistics");
	ck_assert_int_eq(amount(pf, "pf_taken"),
			 amount(pf, "fixed") + amount(pf, "emulated") + amount(pf, "spurious") +
			     amount(pf, "fast") + amount(pf, "guest") -
			     amount(pf, "counted_twice") + amount(pf, "remainder"));
	ck_assert_int_eq(amount(pf, "counted_twice"), amount(pf, "fast"));
	/* What is left over is not made of faults that were never taken. */
	ck_assert_int_le(amount(pf, "remainder"), amount(pf, "pf_taken"));
}

uint64_t check_reconciliation(const json_t *stats)
{
	static const char *const origins[] = {"vcpu", "kvm"};
	const json_t *whole = json_object_get(stats, "reconciliation");
	const json_t *cases = json_object_get(whole, "cases"), *by_case;
	const json_t *by_origin = json_object_get(whole, "origins");
	int64_t events = 0, in_flight = 0, counted = 0;
	const char *name;
	json_t *n;

	ck_assert_msg(cases && by_origin, "no reconciliation in the statistics");
	ck_assert_str_eq(string(cases, "source"), "userfaultfd");
	ck_assert_str_eq(string(by_origin, "source"), "userfaultfd");
	ck_assert(json_is_true(json_object_get(whole, "settled")));
	for (int o = 0; o < 2; o++) {
		const json_t *row = json_object_get(by_origin, origins[o]);

		ck_assert_int_eq(amount(row, "events"),
				 amount(row, "in_flight") + amount(row, "counted"));
		ck_assert_int_eq(amount(row, "open"), 0);
		events += amount(row, "events");
		in_flight += amount(row, "in_flight");
		counted += amount(row, "counted");
	}
	ck_assert_int_eq(amount(cases, "events"), events);
	ck_assert_int_eq(amount(cases, "in_flight"), in_flight);
	ck_assert_int_eq(amount(cases, "counted"), counted);
	ck_assert_int_eq(amount(cases, "open"), 0);
	by_case = json_object_get(cases, "by_case");
	json_object_foreach((json_t *)(uintptr_t)by_case, name, n) counted -= json_integer_value(n);
	ck_assert_int_eq(counted, 0);
	check_pf(json_object_get(whole, "kvm"));
	return (uint64_t)in_flight;
}

void check_events(const struct run *run)
{
	static const char *const origins[] = {"vcpu", "kvm"};
	/* These come as exits, not as events. */
	static const char *const exits[] = {"no_area", "ro_write", NULL};

	for (int o = 0; o < 2; o++) {
		ck_assert_uint_eq(told_in_all(run, origins[o], exits),
				  number(need(run, "events"), origins[o]));
		ck_assert_uint_eq(told_in_all(run, origins[o], exits),
				  told(need(run, "cases"), origins[o], exits));
	}
	/* None is left under way, and the parts are the cases' own sums. */
	ck_assert_uint_eq(check_reconciliation(run->stats), 0);
	ck_assert_uint_eq(told_in_all(run, "vcpu", exits) + told_in_all(run, "kvm", exits),
			  number(json_object_get(need(run, "reconciliation"), "cases"), "counted"));
	check_vcpus(run);
}
