/*
 * Traces without a VM: there and back, files that are cut short, changed or lie, and what the
 * other forms say of the same records.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/trace_out.h"

#define RECORDS	     (TRACE_BLOCK_MAX + 1000)
#define LOST	     17
#define SAMPLES_LOST 19
#define CPUS	     3
#define MAIN_NS	     5000000000LL

static const char *const origins[] = {"vcpu", "kvm", "device", "loader"};
static const char *areas[] = {"ram", "kernel:rx", "a,\"b\" c"};
static const char *cases[] = {"anon_read", "anon_write", "file_read", "transit"};

#define COUNT(list) (sizeof(list) / sizeof(*(list)))

static uint32_t next_random(void)
{
	static uint32_t x = 2463534242;

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

static json_t *names(const char *const *list, size_t n)
{
	json_t *json = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(json, json_string(list[i]));
	return json;
}

static json_t *meta_json(void)
{
	json_t *all = json_array();

	for (size_t i = 0; i < COUNT(areas); i++)
		json_array_append_new(all, json_pack("{s:s, s:I, s:I, s:s}", "name", areas[i],
						     "gpa", (json_int_t)i << 20, "size",
						     (json_int_t)1 << 20, "file", i ? "/f" : ""));
	return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:i}", "vm", "web", "areas", all,
			 "cases", names(cases, COUNT(cases)), "origins",
			 names(origins, COUNT(origins)), "main_ns", (json_int_t)MAIN_NS,
			 "first_run_ns", (json_int_t)MAIN_NS + 1000, "memory", (json_int_t)3 << 20,
			 "cpus", CPUS);
}

static void meta_of(struct trace_meta *meta)
{
	const char *why;

	ck_assert_int_eq(trace_meta_take(meta_json(), meta, &why), 0);
}

static void make_record(struct ept_record *r, uint64_t at)
{
	uint32_t read = next_random() % 1000, put = read + 1 + next_random() % 1000;

	*r = (struct ept_record){
	    .at = at,
	    .gpa = (uint64_t)(next_random() % 768) << EPT_PAGE_SHIFT,
	    .read_ns = read,
	    .put_ns = put,
	    .done_ns = put + next_random() % 3000,
	    .installed = next_random() % 512,
	    .around = next_random() % 16,
	    .bytes_read = read ? 4096 : 0,
	    .area = (uint16_t)(next_random() % (COUNT(areas) + 1)),
	    .kase = (uint8_t)(next_random() % COUNT(cases)),
	    .origin = (uint8_t)(next_random() % COUNT(origins)),
	    .access = (uint8_t)(next_random() % 2),
	    .flags = read ? EPT_RECORD_MAJOR | EPT_RECORD_EVENT : EPT_RECORD_EVENT,
	};
	r->vcpu = r->origin ? EPT_RECORD_NONE : (uint16_t)(next_random() % CPUS);
	if (r->area == COUNT(areas))
		r->area = EPT_RECORD_NONE;
}

static struct ept_record all[RECORDS];

static void make_records(void)
{
	uint64_t at = MAIN_NS;

	for (unsigned i = 0; i < RECORDS; i++) {
		at += next_random() % 2000;
		make_record(&all[i], at);
	}
}

/* The first @n records in @form as a scratch file; its path. */
static const char *written(const struct trace_form *form, const char *name, unsigned n)
{
	const char *path = scratch("%s", name);
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;

	meta_of(&meta);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = form->begin(out, &meta);
	ck_assert_ptr_nonnull(state);
	for (unsigned i = 0; i < n; i++)
		form->record(state, &all[i]);
	form->end(state, (struct trace_lost){LOST, SAMPLES_LOST});
	ck_assert_msg(trace_out_close(out, true, &err) == 0, "%s", err.text);
	trace_meta_free(&meta);
	return path;
}

static char *contents(const char *path, size_t *len)
{
	FILE *file = fopen(path, "re");
	char *text;
	struct stat st;

	ck_assert_msg(file && fstat(fileno(file), &st) == 0, "%s", path);
	text = malloc((size_t)st.st_size + 1);
	*len = fread(text, 1, (size_t)st.st_size, file);
	ck_assert_uint_eq(*len, (size_t)st.st_size);
	text[*len] = 0;
	fclose(file);
	return text;
}

static void put_file(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

/*
 * Read it through; every record that is given must be the one that was written, in its place.
 * How many; *@status: 0 if all was well.
 */
static unsigned look(const char *path, int *status, struct foal_error *err)
{
	struct trace_reader reader;
	struct ept_record record;
	unsigned n = 0;
	int r = trace_open_file(&reader, path, err);

	while (r == 0 && (r = trace_next(&reader, &record, err)) == 1) {
		ck_assert_uint_lt(n, RECORDS);
		ck_assert_mem_eq(&record, &all[n], sizeof(record));
		n++;
		r = 0;
	}
	ck_assert_int_eq(r != 0, err->status == FOAL_EXIT_TRACE);
	ck_assert_msg(r == 0 || (err->text[0] && !strchr(err->text, '\n')), "%s", err->text);
	if (r == 0) {
		ck_assert_uint_eq(reader.lost.records, LOST);
		ck_assert_uint_eq(reader.lost.samples, SAMPLES_LOST);
	}
	trace_close(&reader);
	*status = err->status;
	return n;
}

/* --- the binary form ------------------------------------------------------------------- */

START_TEST(there_and_back)
{
	static const unsigned counts[] = {0, 1, TRACE_BLOCK_MAX, RECORDS};
	struct trace_reader reader;
	struct foal_error err = {0};
	int status;

	make_records();
	const char *path = written(&trace_binary, "t.trace", counts[_i]);
	ck_assert_uint_eq(look(path, &status, &err), counts[_i]);
	ck_assert_msg(status == 0, "%s", err.text);
	ck_assert_int_eq(trace_open_file(&reader, path, &err), 0);
	json_t *meta = meta_json();
	ck_assert(json_equal(reader.meta.json, meta));
	ck_assert_str_eq(reader.meta.vm, "web");
	ck_assert_str_eq(reader.meta.areas[2].name, areas[2]);
	ck_assert_uint_eq(reader.meta.areas[2].gpa, 2 << 20);
	ck_assert_uint_eq(reader.meta.cpus, CPUS);
	json_decref(meta);
	trace_close(&reader);
}
END_TEST

/* Cut at any byte: what is whole is given, and one line says the rest. */
START_TEST(cut_short)
{
	enum { WHOLE = 200 };
	struct foal_error err;
	size_t len;
	int status;

	make_records();
	char *bytes = contents(written(&trace_binary, "t.trace", WHOLE), &len);
	const char *cut = scratch("cut.trace");
	for (size_t n = 0; n < len; n++) {
		put_file(cut, bytes, n);
		err = (struct foal_error){0};
		unsigned given = look(cut, &status, &err);
		ck_assert_msg(status == FOAL_EXIT_TRACE, "cut at %zu: not seen", n);
		ck_assert_msg(given == 0 || given == WHOLE, "cut at %zu: %u", n, given);
		ck_assert_msg(strstr(err.text, "cut short") || strstr(err.text, "no trace"),
			      "cut at %zu: %s", n, err.text);
		ck_assert(given == WHOLE || n < len - 32);
	}
	free(bytes);
}
END_TEST

/* Several blocks, cut in the second: the first is given. */
START_TEST(first_block_is_whole)
{
	struct foal_error err = {0};
	size_t len;
	int status;

	make_records();
	char *bytes = contents(written(&trace_binary, "t.trace", RECORDS), &len);
	const char *cut = scratch("cut.trace");
	put_file(cut, bytes, len - 500 * sizeof(struct ept_record));
	ck_assert_uint_eq(look(cut, &status, &err), TRACE_BLOCK_MAX);
	ck_assert_msg(strstr(err.text, "cut short; the 4096 records before"), "%s", err.text);
	free(bytes);
}
END_TEST

START_TEST(flipped_bits)
{
	enum { FLIPS = 10000 };
	struct foal_error err;
	size_t len;
	int status;

	make_records();
	char *bytes = contents(written(&trace_binary, "t.trace", 300), &len);
	ck_assert_uint_gt(len, 64);
	const char *path = scratch("flip.trace");
	for (unsigned i = 0; i < FLIPS; i++) {
		size_t at = i < len ? i : next_random() % len;
		int bit = 1 << next_random() % 8;
		bytes[at] = (char)(bytes[at] ^ bit);
		put_file(path, bytes, len);
		err = (struct foal_error){0};
		look(path, &status, &err);
		ck_assert_msg(status == FOAL_EXIT_TRACE, "byte %zu: not seen", at);
		bytes[at] = (char)(bytes[at] ^ bit);
	}
	free(bytes);
}
END_TEST

/* A block of one trace in the place of another's, or twice, each with its own right sum. */
START_TEST(blocks_of_others)
{
	const size_t block = 16 + TRACE_BLOCK_MAX * sizeof(struct ept_record);
	struct foal_error err = {0};
	size_t len;
	int status;

	make_records();
	char *bytes = contents(written(&trace_binary, "t.trace", RECORDS), &len);
	size_t rest = 16 + (RECORDS - TRACE_BLOCK_MAX) * sizeof(struct ept_record);
	size_t first = len - 32 - rest - block;
	char *twice = malloc(len + block);
	memcpy(twice, bytes, first + block);
	memcpy(twice + first + block, bytes + first, len - first);
	put_file(scratch("twice.trace"), twice, len + block);
	ck_assert_uint_eq(look(scratch("twice.trace"), &status, &err), TRACE_BLOCK_MAX);
	ck_assert_msg(strstr(err.text, "a checksum is wrong"), "%s", err.text);
	/* The end, and once more. */
	err = (struct foal_error){0};
	memcpy(twice, bytes, len);
	memcpy(twice + len, bytes + len - 32, 32);
	put_file(scratch("more.trace"), twice, len + 32);
	ck_assert_uint_eq(look(scratch("more.trace"), &status, &err), RECORDS);
	ck_assert_msg(strstr(err.text, "follows its end"), "%s", err.text);
	free(twice);
	free(bytes);
}
END_TEST

/* --- heads that lie, with right checksums ------------------------------------------------ */

static void write_head(const char *path, const char *text, uint32_t version)
{
	struct {
		char magic[8];
		uint32_t version, len;
		XXH128_canonical_t sum;
	} head = {.magic = "foalFALT", .version = version, .len = (uint32_t)strlen(text)};
	char *whole = malloc(16 + head.len);
	FILE *file = fopen(path, "we");

	memcpy(whole, &head, 16);
	memcpy(whole + 16, text, head.len);
	XXH128_canonicalFromHash(&head.sum, XXH3_128bits(whole, 16 + head.len));
	fwrite(&head, sizeof(head), 1, file);
	fwrite(text, 1, head.len, file);
	fclose(file);
	free(whole);
}

static const struct {
	const char *key, *json, *words;
} lies[] = {
    {"vm", "7", "the VM's name"},
    {"vm", "\"\"", "the VM's name"},
    {"vm", "\"\\u001b[31m\"", "the VM's name"},
    {"cpus", "-1", "a number"},
    {"cpus", "4097", "a number"},
    {"cpus", "\"1\"", "a number"},
    {"main_ns", "1.5", "a number"},
    {"memory", "null", "a number"},
    {"cases", "[]", "list of cases"},
    {"cases", "{}", "list of cases"},
    {"cases", "[\"a\", \"\"]", "list of cases"},
    {"cases", "[\"a\\nb\"]", "list of cases"},
    {"origins", "[\"\\u009b1m\"]", "list of cases or origins"},
    {"areas", "7", "list of areas"},
    {"areas", "[7]", "list of areas"},
    {"areas", "[{\"name\": \"ram\", \"gpa\": 0, \"size\": 4096}]", "list of areas"},
    {"areas", "[{\"name\": \"ram\", \"gpa\": -1, \"size\": 4096, \"file\": \"\"}]",
     "list of areas"},
    {"areas", "[{\"name\": \"ram\", \"gpa\": 281474976710656, \"size\": 1, \"file\": \"\"}]",
     "list of areas"},
};

START_TEST(lying_heads)
{
	struct foal_error err = {0};
	json_t *meta = meta_json();
	int status;

	json_object_set_new(meta, lies[_i].key, json_loads(lies[_i].json, JSON_DECODE_ANY, NULL));
	char *text = json_dumps(meta, 0);
	write_head(scratch("lie.trace"), text, TRACE_VERSION);
	ck_assert_uint_eq(look(scratch("lie.trace"), &status, &err), 0);
	ck_assert_msg(strstr(err.text, lies[_i].words), "%s: %s", lies[_i].json, err.text);
	free(text);
	json_decref(meta);
}
END_TEST

START_TEST(other_files)
{
	struct foal_error err = {0};
	int status;

	write_head(scratch("v.trace"), "{}", TRACE_VERSION + 1);
	look(scratch("v.trace"), &status, &err);
	ck_assert_msg(strstr(err.text, "version 5 is not known, this foal reads up to 4"), "%s",
		      err.text);
	err = (struct foal_error){0};
	write_head(scratch("n.trace"), "hello", TRACE_VERSION);
	look(scratch("n.trace"), &status, &err);
	ck_assert_msg(strstr(err.text, "the VM's name"), "%s", err.text);
	static const char *const paths[] = {"/dev/zero", "/nowhere", "/", "/etc/passwd"};
	for (size_t i = 0; i < COUNT(paths); i++) {
		err = (struct foal_error){0};
		look(paths[i], &status, &err);
		ck_assert_msg(strstr(err.text, paths[i]), "%s", err.text);
	}
	/* A pipe that nobody writes is not waited for. */
	ck_assert_int_eq(mkfifo(scratch("pipe"), 0600), 0);
	err = (struct foal_error){0};
	look(scratch("pipe"), &status, &err);
	ck_assert_msg(strstr(err.text, "not a regular file"), "%s", err.text);
}
END_TEST

/* A record that names what there is not, under a right checksum. */
START_TEST(wrong_records)
{
	struct foal_error err = {0};
	int status;

	make_records();
	switch (_i) {
	case 0:
		all[7].kase = COUNT(cases);
		break;
	case 1:
		all[7].origin = COUNT(origins);
		break;
	case 2:
		all[7].area = COUNT(areas);
		break;
	case 3:
		all[7].vcpu = CPUS;
		break;
	case 4:
		all[7].access = 2;
		break;
	case 5:
		all[7].flags = 16;
		break;
	case 6:
		all[7].unused = 1;
		break;
	default:
		all[7].at = 1ULL << 63;
		break;
	}
	ck_assert_uint_eq(look(written(&trace_binary, "t.trace", 10), &status, &err), 0);
	ck_assert_msg(strstr(err.text, "values that there are not"), "%s", err.text);
}
END_TEST

/* --- the other forms -------------------------------------------------------------------- */

struct slice {
	int tid;
	double from, dur, until;
};

static int by_place(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;

	if (x->tid != y->tid)
		return x->tid < y->tid ? -1 : 1;
	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return x->until > y->until ? -1 : x->until < y->until;
}

/* On a thread they lie in each other or apart, as the viewers need it, which allow for nothing. */
static void check_nesting(struct slice *slices, size_t n)
{
	double open[8];
	unsigned depth = 0;

	qsort(slices, n, sizeof(*slices), by_place);
	for (size_t i = 0; i < n; i++) {
		if (i && slices[i].tid != slices[i - 1].tid)
			depth = 0;
		while (depth && open[depth - 1] <= slices[i].from)
			depth--;
		ck_assert_msg(!depth || slices[i].until <= open[depth - 1],
			      "thread %d: a slice at %f reaches over an end", slices[i].tid,
			      slices[i].from);
		ck_assert_uint_lt(depth, COUNT(open));
		open[depth++] = slices[i].until;
	}
}

/* As a viewer has them that keeps whole nanoseconds, and cuts the rest off. */
static void cut_off(struct slice *slices, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		slices[i].from = (double)(int64_t)(slices[i].from * 1000);
		slices[i].until = slices[i].from + (double)(int64_t)(slices[i].dur * 1000);
	}
}

static double number(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

/* What names a process or a thread, or says where it stands. */
static void check_metadata(const json_t *event, const char *name)
{
	const json_t *args = json_object_get(event, "args");

	if (strcmp(name, "thread_sort_index") == 0)
		ck_assert(json_is_integer(json_object_get(args, "sort_index")));
	else
		ck_assert_msg(strcmp(name, "process_name") == 0 || strcmp(name, "thread_name") == 0,
			      "%s", name);
	if (strcmp(name, "thread_sort_index") != 0)
		ck_assert(json_is_string(json_object_get(args, "name")));
}

/*
 * Each event has what the trace event format asks of its kind, and no kind is there that the
 * viewers need more for; a thread is named before its first event.
 */
static void check_format(const json_t *root)
{
	static bool named[1 << 16];
	const json_t *event;
	size_t i;

	ck_assert_str_eq(json_string_value(json_object_get(root, "displayTimeUnit")), "ns");
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *ph = json_string_value(json_object_get(event, "ph"));
		const char *name = json_string_value(json_object_get(event, "name"));
		const char *scope = json_string_value(json_object_get(event, "s"));
		size_t tid = (size_t)number(event, "tid");
		ck_assert(name && ph && ph[0] && !ph[1] && strchr("MXi", ph[0]));
		ck_assert(json_is_integer(json_object_get(event, "pid")) && tid < COUNT(named));
		if (*ph == 'M') {
			check_metadata(event, name);
			named[tid] |= strcmp(name, "thread_name") == 0;
			continue;
		}
		ck_assert(json_is_integer(json_object_get(event, "tid")) && named[tid]);
		ck_assert(json_is_number(json_object_get(event, "ts")));
		ck_assert(json_is_string(json_object_get(event, "cat")));
		ck_assert(!json_object_get(event, "args") ||
			  json_is_object(json_object_get(event, "args")));
		ck_assert(*ph != 'X' || (json_is_number(json_object_get(event, "dur")) &&
					 number(event, "dur") >= 0));
		ck_assert(*ph != 'i' || (scope && scope[0] && strchr("tpg", scope[0])));
	}
}

START_TEST(chrome)
{
	static uint64_t by_case[COUNT(cases)], installed, counted[COUNT(cases)], counted_installed;
	struct slice *slices = calloc(4 * RECORDS, sizeof(*slices));
	size_t i, n = 0;
	json_t *event;

	make_records();
	/* One that is told late. */
	struct ept_record late = all[10];
	memmove(&all[10], &all[11], 500 * sizeof(late));
	all[510] = late;
	json_t *root = json_load_file(written(&trace_chrome, "t.json", RECORDS), 0, NULL);
	ck_assert_ptr_nonnull(root);
	for (unsigned k = 0; k < RECORDS; k++) {
		by_case[all[k].kase]++;
		installed += all[k].installed;
	}
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *ph = json_string_value(json_object_get(event, "ph"));
		const char *name = json_string_value(json_object_get(event, "name"));
		const char *cat = json_string_value(json_object_get(event, "cat"));
		if (strcmp(ph, "M") == 0)
			continue;
		ck_assert_str_eq(ph, "X");
		double ts = number(event, "ts"), dur = number(event, "dur");
		slices[n++] = (struct slice){(int)number(event, "tid"), ts, dur, ts + dur};
		for (size_t c = 0; strcmp(cat, "stage") != 0 && c < COUNT(cases); c++)
			counted[c] += strcmp(name, cases[c]) == 0;
		counted_installed += (uint64_t)number(json_object_get(event, "args"), "installed");
	}
	for (size_t c = 0; c < COUNT(cases); c++)
		ck_assert_uint_eq(counted[c], by_case[c]);
	ck_assert_uint_eq(counted_installed, installed);
	ck_assert_uint_gt(n, 2 * RECORDS);
	check_nesting(slices, n);
	cut_off(slices, n);
	check_nesting(slices, n);
	check_format(root);
	json_t *other = json_object_get(root, "otherData");
	ck_assert_int_eq((int)number(other, "records"), RECORDS);
	ck_assert_int_eq((int)number(other, "lost"), LOST);
	ck_assert_int_eq((int)number(other, "samples_lost"), SAMPLES_LOST);
	ck_assert_int_eq((int)number(json_object_get(other, "cases"), cases[1]), (int)by_case[1]);
	json_decref(root);
	free(slices);
}
END_TEST

/* More at once than there are lanes: an instant each, none is left out. */
START_TEST(crowded_chrome)
{
	unsigned instants = 0, slices = 0;
	size_t i;
	json_t *event;

	make_records();
	for (unsigned k = 0; k < 100; k++) {
		all[k] = (struct ept_record){.at = MAIN_NS - 5 + k,
					     .done_ns = 1000000,
					     .vcpu = EPT_RECORD_NONE,
					     .origin = EPT_ORIGIN_KVM};
	}
	json_t *root = json_load_file(written(&trace_chrome, "t.json", 100), 0, NULL);
	ck_assert_ptr_nonnull(root);
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *ph = json_string_value(json_object_get(event, "ph"));
		instants += *ph == 'i';
		slices += *ph == 'X';
	}
	ck_assert_uint_eq(slices, 64);
	ck_assert_uint_eq(instants, 36);
	check_format(root);
	json_decref(root);
}
END_TEST

/* As long as a name may be, of what takes two characters in JSON and in CSV. */
START_TEST(long_names)
{
	static char name[256];
	size_t i, said = 0;
	json_t *event;

	memset(name, '"', 255);
	areas[0] = cases[0] = name;
	make_records();
	all[0].area = all[0].kase = 0;
	json_t *root = json_load_file(written(&trace_chrome, "t.json", 1), 0, NULL);
	ck_assert_ptr_nonnull(root);
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *cat = json_string_value(json_object_get(event, "cat"));
		said += cat && strcmp(cat, name) == 0 &&
			strcmp(json_string_value(json_object_get(event, "name")), name) == 0;
	}
	ck_assert_uint_eq(said, 1);
	json_decref(root);
	written(&trace_csv, "t.csv", 1);
	written(&trace_summary, "t.table", 1);
}
END_TEST

START_TEST(csv)
{
	unsigned lines = 0, quoted = 0, quoted_written = 0, commas = 0;
	bool in = false;
	size_t len;

	make_records();
	char *text = contents(written(&trace_csv, "t.csv", RECORDS), &len);
	for (char *at = text; *at; at++) {
		if (*at == '"')
			in = !in;
		commas += *at == ',' && !in;
		lines += *at == '\n';
		ck_assert(*at != '\n' || at[-1] == '\r');
	}
	ck_assert_uint_eq(lines, RECORDS + 1);
	ck_assert_uint_eq(commas, lines * 18);
	for (char *at = text; (at = strstr(at, "\"a,\"\"b\"\" c\"")); at++)
		quoted++;
	for (unsigned i = 0; i < RECORDS; i++)
		quoted_written += all[i].area == 2;
	ck_assert_uint_eq(quoted, quoted_written);
	ck_assert_ptr_eq(strstr(text, "at_ns,origin,vcpu,gpa,access,area,case,"), text);
	free(text);
}
END_TEST

START_TEST(summary)
{
	uint64_t faults = 0, bytes = 0, written_bytes = 0;
	size_t i, len;
	json_t *one;

	make_records();
	json_t *sums = json_load_file(written(&trace_summary_json, "t.sums", RECORDS), 0, NULL);
	json_array_foreach(json_object_get(sums, "cases"), i, one)
	{
		faults += (uint64_t)number(one, "faults");
		bytes += (uint64_t)number(one, "bytes_read");
	}
	for (unsigned k = 0; k < RECORDS; k++)
		written_bytes += all[k].bytes_read;
	ck_assert_uint_eq(faults, RECORDS);
	ck_assert_uint_eq(bytes, written_bytes);
	ck_assert_int_eq((int)number(sums, "lost"), LOST);
	ck_assert_uint_eq((uint64_t)number(sums, "last_ns"), all[RECORDS - 1].at);
	json_decref(sums);
	char *table = contents(written(&trace_summary, "t.table", RECORDS), &len);
	ck_assert_msg(strstr(table, "web: 5096 records of ") && strstr(table, ", 17 lost\n"), "%s",
		      table);
	free(table);
}
END_TEST

START_TEST(forms_by_name)
{
	ck_assert_ptr_eq(trace_form_of("a/b.json"), &trace_chrome);
	ck_assert_ptr_eq(trace_form_of("b.csv"), &trace_csv);
	ck_assert_ptr_eq(trace_form_of("b.json.trace"), &trace_binary);
	ck_assert_ptr_eq(trace_form_of(".json"), &trace_binary);
	ck_assert_ptr_eq(trace_form_of(""), &trace_binary);
	ck_assert_ptr_eq(trace_form_named("csv"), &trace_csv);
	ck_assert_ptr_null(trace_form_named("table"));
}
END_TEST

/* --- where it goes ---------------------------------------------------------------------- */

static unsigned files_here(void)
{
	char command[300];
	unsigned n = 0;

	snprintf(command, sizeof(command), "ls -A %s", scratch("."));
	FILE *list = popen(command, "re");
	for (int c; (c = fgetc(list)) != EOF;)
		n += c == '\n';
	pclose(list);
	return n;
}

/* Nothing has the name until all is there; what had it before stays if that fails. */
START_TEST(whole_or_not)
{
	const char *path = scratch("t.trace");
	struct foal_error err = {0};
	struct trace_out *out;
	struct stat st;
	size_t len;

	put_file(path, "old", 3);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	trace_out_text(out, "new");
	ck_assert_int_eq(trace_out_close(out, false, &err), 0);
	char *text = contents(path, &len);
	ck_assert_str_eq(text, "old");
	free(text);
	ck_assert_uint_eq(files_here(), 1);
	ck_assert_int_eq(symlink("t.trace", scratch("link")), 0);
	umask(027);
	ck_assert_int_eq(trace_out_open(scratch("link"), -1, &out, &err), 0);
	trace_out_text(out, "new");
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	text = contents(path, &len);
	ck_assert_str_eq(text, "new");
	free(text);
	ck_assert_int_eq(lstat(scratch("link"), &st), 0);
	ck_assert(S_ISLNK(st.st_mode));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0640);
	ck_assert_uint_eq(files_here(), 2);
}
END_TEST

START_TEST(full_disk)
{
	struct rlimit limit = {100000, 100000};
	const char *path = scratch("t.trace");
	struct foal_error err = {0};
	struct trace_out *out;

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	for (int i = 0; i < 200000; i++)
		trace_out_text(out, "line\n");
	ck_assert_int_eq(trace_out_error(out), -EFBIG);
	ck_assert_int_eq(trace_out_close(out, true, &err), -EFBIG);
	ck_assert_int_eq(err.status, FOAL_EXIT_TRACE);
	ck_assert_msg(strstr(err.text, path), "%s", err.text);
	ck_assert_uint_eq(files_here(), 0);
	/* A device says so, too. */
	err = (struct foal_error){0};
	ck_assert_int_eq(trace_out_open("/dev/full", -1, &out, &err), 0);
	trace_out_text(out, "line\n");
	ck_assert_int_eq(trace_out_close(out, true, &err), -ENOSPC);
	ck_assert_msg(strstr(err.text, "/dev/full"), "%s", err.text);
}
END_TEST

START_TEST(nowhere_to_write)
{
	struct foal_error err = {0};
	struct trace_out *out;

	ck_assert_int_eq(trace_out_open("/nowhere/t", -1, &out, &err), -ENOENT);
	ck_assert_int_eq(err.status, FOAL_EXIT_TRACE);
	ck_assert_ptr_null(out);
	err = (struct foal_error){0};
	ck_assert_int_eq(trace_out_open("/tmp", -1, &out, &err), -EISDIR);
	ck_assert_msg(strstr(err.text, "/tmp"), "%s", err.text);
}
END_TEST

/* Whoever reads a pipe stops: gone, or there and silent, until a signal ends it. */
START_TEST(reader_that_stops)
{
	const char *path = scratch("pipe");
	struct foal_error err = {0};
	struct trace_out *out;
	int signals[2];

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	ck_assert_int_eq(pipe(signals), 0);
	int reader = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ck_assert_int_eq(trace_out_open(path, signals[0], &out, &err), 0);
	if (_i)
		close(reader);
	else
		ck_assert_int_eq(write(signals[1], "x", 1), 1);
	for (int i = 0; i < 100000; i++)
		trace_out_text(out, "line\n");
	ck_assert_int_eq(trace_out_close(out, true, &err), _i ? -EPIPE : -EINTR);
	ck_assert_msg(strstr(err.text, _i ? "Broken pipe" : "nobody reads it"), "%s", err.text);
}
END_TEST

Suite *trace_suite(void)
{
	Suite *suite = suite_create("trace");
	TCase *tc = tcase_create("trace");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, there_and_back, 0, 4);
	tcase_add_test(tc, cut_short);
	tcase_add_test(tc, first_block_is_whole);
	tcase_add_test(tc, flipped_bits);
	tcase_add_test(tc, blocks_of_others);
	tcase_add_loop_test(tc, lying_heads, 0, (int)COUNT(lies));
	tcase_add_test(tc, other_files);
	tcase_add_loop_test(tc, wrong_records, 0, 8);
	tcase_add_test(tc, chrome);
	tcase_add_test(tc, crowded_chrome);
	tcase_add_test(tc, long_names);
	tcase_add_test(tc, csv);
	tcase_add_test(tc, summary);
	tcase_add_test(tc, forms_by_name);
	tcase_add_test(tc, whole_or_not);
	tcase_add_test(tc, full_disk);
	tcase_add_test(tc, nowhere_to_write);
	tcase_add_loop_test(tc, reader_that_stops, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
