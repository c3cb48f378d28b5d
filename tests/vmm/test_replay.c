/*
 * foal replay without a VM: traces that are made up, so that it is known what has to come out of
 * them, and traces that lie. Where userfaultfd may not be used, what needs it is left out.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/replay.h"
#include "vmm/trace_out.h"

#define MIB	 (1ULL << 20)
#define START_NS 1000000000ULL
#define FILE_GPA (64 * MIB)
#define TOOK_NS	 10000 /* each fault made up, */
#define EVERY_NS 40000 /* from one to the next */
#define WAY_NS	 (EVERY_NS - TOOK_NS)

enum { RAM, DISK, AREAS };

static json_t *area(const char *name, uint64_t gpa, uint64_t size, const char *file)
{
	return json_pack("{s:s, s:I, s:I, s:s}", "name", name, "gpa", (json_int_t)gpa, "size",
			 (json_int_t)size, "file", file);
}

static json_t *names(unsigned n, const char *(*name)(unsigned i))
{
	json_t *list = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(list, json_string(name(i)));
	return list;
}

static const char *case_name(unsigned i)
{
	return ept_case_name((enum ept_case)i);
}

static const char *origin_name(unsigned i)
{
	return ept_origin_name((enum ept_origin)i);
}

/* Of 64 MiB of each; recorded with a page a fault. */
static json_t *head(void)
{
	json_t *areas = json_array();

	json_array_append_new(areas, area("ram", 0, 64 * MIB, ""));
	json_array_append_new(areas, area("pmem0", FILE_GPA, 64 * MIB, "/a/file"));
	return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:i, s:{s:i, s:s, s:i}}", "vm", "web",
			 "areas", areas, "cases", names(EPT_NR_CASES, case_name), "origins",
			 names(EPT_NR_ORIGINS, origin_name), "main_ns", (json_int_t)START_NS,
			 "first_run_ns", (json_int_t)START_NS, "memory", (json_int_t)(64 * MIB),
			 "cpus", 1, "settings", "fault_around", 1, "huge", "never", "memory_limit",
			 0);
}

static struct ept_record fault(unsigned i, unsigned where, enum ept_case kase, uint64_t page)
{
	return (struct ept_record){.at = START_NS + (uint64_t)i * EVERY_NS,
				   .gpa = (where == DISK ? FILE_GPA : 0) + page * EPT_PAGE_SIZE,
				   .put_ns = TOOK_NS,
				   .done_ns = TOOK_NS + WAY_NS / 2, /* the guest runs already */
				   .installed = 1,
				   .area = (uint16_t)where,
				   .kase = (uint8_t)kase,
				   .access = kase == EPT_CASE_ANON_WRITE ? EPT_WRITE : EPT_READ,
				   .flags = EPT_RECORD_EVENT};
}

/* A trace of @count records; its path. */
static const char *written(json_t *json, const struct ept_record *records, size_t count,
			   uint64_t lost)
{
	const char *path = scratch("made-up.trace"), *why = NULL;
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;

	ck_assert_msg(trace_meta_take(json, &meta, &why) == 0, "%s", why);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = trace_binary.begin(out, &meta);
	for (size_t i = 0; i < count; i++)
		trace_binary.record(state, &records[i]);
	trace_binary.end(state, (struct trace_lost){.records = lost});
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	trace_meta_free(&meta);
	return path;
}

#define PAGES 2048

/* @pages of the file read one behind the other. */
static const char *sequential(json_t *json, uint64_t lost)
{
	static struct ept_record records[PAGES];

	for (unsigned i = 0; i < PAGES; i++)
		records[i] = fault(i, DISK, EPT_CASE_FILE_READ, i);
	return written(json, records, PAGES, lost);
}

/* --- reading one --------------------------------------------------------------------------- */

START_TEST(is_exact)
{
	struct replay_trace trace;
	struct foal_error err = {0};

	ck_assert_int_eq(replay_trace_load(&trace, sequential(head(), _i), &err), 0);
	ck_assert(trace.exact == (_i == 0)); /* what was lost nobody knows */
	ck_assert_uint_eq(trace.count, PAGES);
	ck_assert_uint_eq(trace.left_out, 0);
	ck_assert_uint_eq(trace.areas[DISK].records, PAGES);
	ck_assert_int_eq(trace.areas[DISK].mode, EPT_FILE_COW);
	replay_trace_free(&trace);
}
END_TEST

/* Two records of two areas, the later one first. */
START_TEST(learns_of_areas)
{
	static const struct {
		enum ept_case kase;
		enum ept_file_mode mode;
		bool left_out;
	} cases[] = {{EPT_CASE_FILE_READ, EPT_FILE_COW, false},
		     {EPT_CASE_SHARED_READ, EPT_FILE_SHARED, false},
		     {EPT_CASE_RO_WRITE, EPT_FILE_RO, false},
		     {EPT_CASE_SNAP_READ, EPT_FILE_COW, true},
		     {EPT_CASE_ANON_READ, EPT_FILE_COW, true}};
	const struct ept_record records[] = {fault(1, DISK, cases[_i].kase, 7),
					     fault(0, RAM, EPT_CASE_ANON_READ, 3)};
	struct replay_trace trace;
	struct foal_error err = {0};

	ck_assert_int_eq(replay_trace_load(&trace, written(head(), records, 2, 0), &err), 0);
	ck_assert_int_eq(trace.areas[DISK].mode, cases[_i].mode);
	ck_assert((trace.areas[DISK].left_out != NULL) == cases[_i].left_out);
	ck_assert_uint_eq(trace.left_out, cases[_i].left_out);
	ck_assert_ptr_null(trace.areas[RAM].left_out);
	ck_assert_uint_eq(trace.records[0].area, RAM);
	replay_trace_free(&trace);
}
END_TEST

/* What the head says of settings is optional, and checked. */
static const struct {
	const char *settings; /* JSON */
	bool taken;
} heads[] = {
    {"{\"fault_around\": 64, \"huge\": \"always\", \"memory_limit\": 0}", true},
    {"{\"fault_around\": 3, \"huge\": \"auto\", \"memory_limit\": 0}", false},
    {"{\"fault_around\": 0, \"huge\": \"auto\", \"memory_limit\": 0}", false},
    {"{\"fault_around\": 1024, \"huge\": \"auto\", \"memory_limit\": 0}", false},
    {"{\"fault_around\": 16, \"huge\": \"some\", \"memory_limit\": 0}", false},
    {"{\"fault_around\": 16, \"huge\": \"auto\", \"memory_limit\": 4096}", false},
    {"{\"fault_around\": 16, \"huge\": \"always\", \"memory_limit\": 67108864}", false},
    {"{\"fault_around\": 16, \"huge\": \"auto\"}", false},
    {"{\"fault_around\": 16, \"huge\": \"auto\", \"memory_limit\": 0, \"prefetch\": \"set\"}",
     true},
    {"{\"fault_around\": 16, \"huge\": \"auto\", \"memory_limit\": 0, \"prefetch\": \"auto\"}",
     false},
    {"{\"fault_around\": 16, \"huge\": \"auto\", \"memory_limit\": 0, \"prefetch\": 1}", false},
    {"{\"fault_around\": 16, \"huge\": \"auto\", \"memory_limit\": 67108864, \"prefetch\": "
     "\"all\"}",
     false},
    {"[]", false},
};

START_TEST(hostile_settings)
{
	json_t *json = head();
	struct trace_meta meta;
	const char *why = NULL;

	json_object_set_new(json, "settings", json_loads(heads[_i].settings, 0, NULL));
	ck_assert_int_eq(trace_meta_take(json, &meta, &why), heads[_i].taken ? 0 : -EINVAL);
	if (!heads[_i].taken)
		ck_assert_str_eq(why, "its settings");
	trace_meta_free(&meta);
}
END_TEST

START_TEST(older_head)
{
	json_t *json = head();
	struct trace_meta meta;
	const char *why = NULL;

	json_object_del(json, "settings");
	ck_assert_int_eq(trace_meta_take(json, &meta, &why), 0);
	ck_assert(!meta.has_settings);
	ck_assert(!meta.areas[DISK].has_mode && !meta.areas[DISK].host);
	trace_meta_free(&meta);
}
END_TEST

/* --- time ------------------------------------------------------------------------------------ */

/*
 * Nothing is replayed here: of 2048 faults one in 16 is left, which take as long as each did. The
 * others' pages are there, and cost 1000 ns each.
 */
START_TEST(time_of_fewer)
{
	struct replay_trace trace;
	struct replay_count recorded, here, fewer;
	struct foal_error err = {0};
	const double page = 1000, left = PAGES / 16.0, gone = PAGES - left;

	ck_assert_int_eq(replay_trace_load(&trace, sequential(head(), 0), &err), 0);
	ck_assert_int_eq(replay_count_init(&recorded, &trace), 0);
	ck_assert_int_eq(replay_count_init(&here, &trace), 0);
	ck_assert_int_eq(replay_count_init(&fewer, &trace), 0);
	replay_count_recorded(&recorded, &trace);
	for (unsigned i = 0; i < PAGES; i++) {
		struct ept_record record = {.put_ns = 4000, .done_ns = 5000};

		replay_count_add(&here, &record, EPT_CASE_FILE_READ, 0);
		if (i % 16 == 0)
			replay_count_add(&fewer, &record, EPT_CASE_FILE_READ, 0);
		fewer.chain[0].quiet += i % 16 != 0;
	}
	const struct replay_given given = {.way_ns = 2 * WAY_NS, .page_ns = page};
	struct replay_pace pace = replay_pace_of(&trace, &recorded, &here, &given);
	struct replay_costs costs = replay_costs_of(&trace, &recorded, &here, &pace);
	ck_assert_double_eq_tol(costs.way, WAY_NS, 1);
	ck_assert_double_eq_tol(costs.rest, TOOK_NS - 4000, 1);
	struct replay_time was = replay_time_recorded(&trace, &recorded, &costs);
	struct replay_time again = replay_time_of(&trace, &recorded, &here, &costs, &here);
	struct replay_time is = replay_time_of(&trace, &recorded, &here, &costs, &fewer);
	ck_assert_double_eq_tol(was.span_ns, (PAGES - 1.0) * EVERY_NS + TOOK_NS, 1);
	ck_assert_double_eq_tol(again.span_ns, was.span_ns, 1);
	ck_assert_double_eq_tol(is.span_ns, was.span_ns - gone * EVERY_NS + gone * page, 1);
	ck_assert_double_eq_tol(is.waited_ns, left * EVERY_NS, 1);
	replay_count_free(&recorded);
	replay_count_free(&here);
	replay_count_free(&fewer);
	replay_trace_free(&trace);
}
END_TEST

/*
 * Faults of a guest that does nothing else come unevenly, and it does nothing else for all that:
 * who is half a way early and then half a way late has done nothing itself. What a guest did is
 * there once.
 */
START_TEST(own_time)
{
	const struct replay_pace pace = {.way = WAY_NS, .slower = 1};
	const double rest = 100.0 * WAY_NS;
	struct replay_guest guest;
	double own = 0;

	replay_guest_begin(&guest, &pace, 0);
	replay_guest_end();
	for (unsigned i = 0; i < PAGES; i++) {
		struct ept_record record = fault(i, DISK, EPT_CASE_FILE_READ, i);

		if (i % 2)
			record.at -= WAY_NS / 2;
		if (i >= PAGES / 2)
			record.at += (uint64_t)rest;
		own += replay_guest_between(&guest, &record);
	}
	ck_assert_double_eq_tol(own, rest, WAY_NS);
}
END_TEST

/* --- all of it ------------------------------------------------------------------------- */

/* False: it may not be used here. */
static bool have_userfaultfd(void)
{
	struct ept_host host;

	ept_host_probe(&host);
	if (!host.usable)
		fprintf(stderr, "skipped: no userfaultfd here\n");
	return host.usable;
}

/* @page_ns: the guest's pace, over pages that are there. */
static int predict_at(double page_ns, struct replay *replay, const char *path, unsigned around,
		      enum ept_huge huge, struct foal_error *err)
{
	*replay = (struct replay){0};
	*err = (struct foal_error){0};
	int r = replay_trace_load(&replay->trace, path, err);

	replay->was = (struct trace_settings){.fault_around = 1, .huge = EPT_HUGE_NEVER};
	replay->to = (struct trace_settings){.fault_around = around, .huge = huge};
	const struct replay_given given = {
	    .way_ns = WAY_NS, .page_ns = page_ns, .file_page_ns = page_ns};
	return r ? r : replay_predict(replay, &given, err);
}

static int predict(struct replay *replay, const char *path, unsigned around, enum ept_huge huge,
		   struct foal_error *err)
{
	return predict_at(REPLAY_PAGE_NS, replay, path, around, huge, err);
}

START_TEST(replayed_as_recorded)
{
	struct foal_error err;
	struct replay replay;

	if (!have_userfaultfd())
		return;
	ck_assert_int_eq(predict(&replay, sequential(head(), 0), 1, EPT_HUGE_NEVER, &err), 0);
	ck_assert_uint_eq(replay.here.count.faults, PAGES);
	ck_assert_uint_eq(replay.least.count.faults, PAGES);
	ck_assert_uint_eq(replay.least.count.cases[EPT_CASE_FILE_READ], PAGES);
	ck_assert_uint_eq(replay.least.count.around, 0);
	ck_assert_uint_eq(replay.least.count.bytes_read, PAGES * EPT_PAGE_SIZE);
	replay_free(&replay);
}
END_TEST

/* Streams grow, so there are fewer faults than windows; each page is there once at the end. */
START_TEST(replayed_with_windows)
{
	struct foal_error err;
	struct replay replay;

	if (!have_userfaultfd())
		return;
	ck_assert_int_eq(predict(&replay, sequential(head(), 0), 16, EPT_HUGE_NEVER, &err), 0);
	ck_assert_uint_gt(replay.least.count.faults, PAGES / 512);
	ck_assert_uint_le(replay.least.count.faults, PAGES / 16);
	ck_assert_uint_ge(replay.least.count.installed, PAGES);
	ck_assert_uint_eq(replay.least.count.faults, replay.most.count.faults);
	ck_assert_uint_eq(replay.recorded.count.faults, PAGES);
	replay_free(&replay);
}
END_TEST

#define WRITTEN 6144 /* pages: half as much again as the least limit */

/*
 * Pages that are written, and once more when all were. With nothing that takes them away there is a
 * fault for each; under a limit the first ones have left by then. Own pages of a file can leave to
 * a swap file alone, and so can those of RAM that hold something.
 */
START_TEST(replayed_with_a_limit)
{
	static const enum ept_case first[AREAS] = {EPT_CASE_ANON_WRITE, EPT_CASE_FILE_COW};
	static struct ept_record records[2 * WRITTEN];
	struct foal_error err = {0};

	if (!have_userfaultfd())
		return;
	for (unsigned i = 0; i < 2 * WRITTEN; i++) {
		enum ept_case kase = i < WRITTEN ? first[_i] : EPT_CASE_SWAP_WRITE;

		records[i] = fault(i, (unsigned)_i, kase, i % WRITTEN);
		records[i].access = EPT_WRITE;
	}
	const char *path = written(head(), records, 2 * WRITTEN, 0);
	for (int limited = 0; limited <= 1; limited++) {
		struct replay replay = {0};
		const struct replay_given given = {.way_ns = WAY_NS};
		const struct replay_count *said = &replay.least.count;

		ck_assert_int_eq(replay_trace_load(&replay.trace, path, &err), 0);
		replay.was = (struct trace_settings){.fault_around = 1, .huge = EPT_HUGE_NEVER};
		replay.to = replay.was;
		replay.to.memory_limit = limited ? EPT_LIMIT_FLOOR : 0;
		ck_assert_msg(replay_predict(&replay, &given, &err) == 0, "%s", err.text);
		ck_assert_uint_eq(replay.here.count.faults, WRITTEN);
		if (limited) {
			ck_assert_uint_gt(said->faults, WRITTEN);
			ck_assert_uint_ge(said->swapped, WRITTEN - EPT_LIMIT_FLOOR / EPT_PAGE_SIZE);
			ck_assert_uint_gt(said->cases[EPT_CASE_SWAP_WRITE], 0);
		} else {
			ck_assert_uint_eq(said->faults, WRITTEN);
			ck_assert_uint_eq(said->swapped, 0);
		}
		replay_free(&replay);
	}
}
END_TEST

/* A restore of both areas, one over a file, that recorded its working set; it began long before. */
static json_t *head_of_a_restore(void)
{
	json_t *json = head(), *settings = json_object_get(json, "settings"), *one;
	size_t i;

	json_object_set_new(settings, "prefetch", json_string("record"));
	json_object_set_new(json, "first_run_ns", json_integer(START_NS / 2));
	json_array_foreach(json_object_get(json, "areas"), i, one)
	{
		json_object_set_new(one, "file", json_string("/a/snapshot/memory"));
		json_object_set_new(one, "layers", json_true());
		if (i == DISK)
			json_object_set_new(one, "origin", json_string("/a/file"));
	}
	return json;
}

/*
 * Every other page of RAM came from the snapshot, the others were zero; of the file the first half
 * had been written before. Without prefetch an extent of 16 comes at once, with it what is asked
 * for is the file's alone.
 */
START_TEST(replayed_restore)
{
	static const enum ept_prefetch_how how[] = {EPT_PREFETCH_RECORD, EPT_PREFETCH_OFF,
						    EPT_PREFETCH_SET, EPT_PREFETCH_ALL};
	static const uint64_t from_layers[] = {3 * PAGES / 2, 2 * PAGES / 16, PAGES / 32,
					       PAGES / 32};
	static struct ept_record records[2 * PAGES];
	struct foal_error err = {0};

	if (!have_userfaultfd())
		return;
	for (unsigned i = 0; i < PAGES; i++) {
		records[i] = fault(i, RAM, i % 2 ? EPT_CASE_ANON_READ : EPT_CASE_SNAP_READ, i);
		records[PAGES + i] = fault(PAGES + i, DISK, EPT_CASE_SNAP_READ, i);
		records[PAGES + i].bytes_read = (i < PAGES / 2 ? 16 : 1) * EPT_PAGE_SIZE;
	}
	const char *path = written(head_of_a_restore(), records, 2 * PAGES, 0);
	for (unsigned i = 0; i < sizeof(how) / sizeof(how[0]); i++) {
		struct replay replay = {0};
		const struct replay_given given = {.way_ns = WAY_NS};
		const struct replay_count *said = &replay.least.count;
		const uint64_t *cases = said->cases;

		ck_assert_int_eq(replay_trace_load(&replay.trace, path, &err), 0);
		ck_assert(replay.trace.exact && !replay.trace.left_out);
		replay.was = replay.to = replay.trace.meta->settings;
		replay.to.prefetch = how[i];
		ck_assert_msg(replay_predict(&replay, &given, &err) == 0, "%s", err.text);
		ck_assert_uint_eq(replay.here.count.faults, 2 * PAGES);
		ck_assert_uint_eq(replay.here.count.cases[EPT_CASE_SNAP_READ], 3 * PAGES / 2);
		ck_assert_uint_eq(cases[EPT_CASE_ANON_READ], PAGES / 2);
		ck_assert_uint_eq(cases[EPT_CASE_SNAP_READ], from_layers[i]);
		ck_assert_uint_eq(said->prefetched, i < 2 ? 0 : PAGES);
		replay_free(&replay);
	}
}
END_TEST

static uint64_t faults_at(double page_ns)
{
	struct foal_error err;
	struct replay replay;

	ck_assert_int_eq(
	    predict_at(page_ns, &replay, sequential(head(), 0), 16, EPT_HUGE_NEVER, &err), 0);
	uint64_t faults = replay.least.count.faults;
	replay_free(&replay);
	return faults;
}

/*
 * A guest that takes an hour for each page finds what is read ahead, and is not waited for: it has
 * a fault for each window and the two before. One that takes no time faults on what is coming,
 * sooner or later.
 */
START_TEST(faster_than_its_file)
{
	uint64_t patient = 0, hasty = 0;

	if (!have_userfaultfd())
		return;
	patient = faults_at(3600e9);
	ck_assert_uint_eq(patient, faults_at(3600e9));
	ck_assert_uint_le(patient, PAGES / 512 + 4);
	for (int i = 0; i < 20 && hasty <= patient; i++)
		hasty = faults_at(1);
	ck_assert_uint_gt(hasty, patient);
}
END_TEST

/* An area that no host could map is refused in one line, and so is one that lies in another. */
START_TEST(hostile_areas)
{
	static const struct {
		uint64_t gpa, size;
	} areas[] = {{FILE_GPA, 1ULL << 47}, {FILE_GPA + 1, MIB}, {FILE_GPA, 0}, {0, MIB + 17}};
	json_t *json = head(), *list = json_object_get(json, "areas");
	struct foal_error err;
	struct replay replay;

	if (!have_userfaultfd()) {
		json_decref(json);
		return;
	}
	json_array_set_new(list, DISK, area("pmem0", areas[_i].gpa, areas[_i].size, "/a/file"));
	ck_assert_int_lt(predict(&replay, sequential(json, 0), 16, EPT_HUGE_NEVER, &err), 0);
	ck_assert(err.status == FOAL_EXIT_TRACE || err.status == FOAL_EXIT_HOST);
	ck_assert_ptr_null(strchr(err.text, '\n'));
	replay_free(&replay);
}
END_TEST

Suite *replay_suite(void)
{
	Suite *suite = suite_create("replay");
	TCase *tc = tcase_create("replay");

	tcase_add_loop_test(tc, is_exact, 0, 2);
	tcase_add_loop_test(tc, learns_of_areas, 0, 5);
	tcase_add_loop_test(tc, hostile_settings, 0, sizeof(heads) / sizeof(heads[0]));
	tcase_add_test(tc, older_head);
	tcase_add_test(tc, time_of_fewer);
	tcase_add_test(tc, own_time);
	tcase_add_test(tc, replayed_as_recorded);
	tcase_add_test(tc, replayed_with_windows);
	tcase_add_loop_test(tc, replayed_with_a_limit, 0, AREAS);
	tcase_add_test(tc, replayed_restore);
	tcase_add_test(tc, faster_than_its_file);
	tcase_add_loop_test(tc, hostile_areas, 0, 4);
	suite_add_tcase(suite, tc);
	return suite;
}
