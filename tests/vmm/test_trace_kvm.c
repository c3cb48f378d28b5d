/*
 * What KVM told, in a trace's file: there and back, in files that an older foal wrote not at all,
 * and in files that lie under right checksums; and what the other forms make of it.
 */
#include <check.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/trace_kvm.h"
#include "vmm/trace_out.h"

#define SAMPLES_LOST 29
#define MANY	     (TRACE_BLOCK_MAX + 1000)
#define CPUS	     2
#define MAIN_NS	     5000000000ULL
#define RIP	     UINT64_C(0xffffffff81000000)

static const struct trace_kvm_told told = {.counts = {.exits = 11, .entries = 12, .lost = 13},
					   .counted = true,
					   .exits = 14,
					   .taken = 15,
					   .fixed = 16};

static json_t *meta_json(void)
{
	return json_pack("{s:s, s:i, s:i, s:I, s:I, s:[s], s:[s], s:[{s:s, s:i, s:i, s:s}]}", "vm",
			 "web", "cpus", CPUS, "memory", 1 << 20, "main_ns", (json_int_t)MAIN_NS,
			 "first_run_ns", (json_int_t)MAIN_NS, "cases", "anon_read", "origins",
			 "vcpu", "areas", "name", "ram", "gpa", 0, "size", 1 << 20, "file", "");
}

static struct ept_record record(unsigned i)
{
	return (struct ept_record){.at = MAIN_NS + i * 1000ULL, .gpa = i, .done_ns = 500};
}

/* Every third was resolved by the handlers, every third was tried again; every fifth: no memory. */
static struct kvm_fault fault(unsigned i)
{
	return (struct kvm_fault){.at = MAIN_NS + i * 1000ULL,
				  .entry = MAIN_NS + i * 1000ULL + 700,
				  .gpa = i % 5 ? i : UINT64_MAX - i,
				  .error_code = i,
				  .rip = RIP + i,
				  .vcpu = (uint16_t)(i % CPUS),
				  .handled = i % 3 == 0,
				  .again = i % 3 == 1};
}

/* Every fourth is near its access. */
static struct ept_sample sample(unsigned i)
{
	return (struct ept_sample){.at = MAIN_NS + i * 1000ULL,
				   .gpa = (uint64_t)i << 12,
				   .rip = RIP + i % 3,
				   .vcpu = (uint16_t)(i % CPUS),
				   .access = i % 2,
				   .cpl = i % 2 ? 3 : 0,
				   .exact = i % 4 != 0};
}

/* How it ends: as it should; with one more record behind that; before KVM's last word. */
enum end { WHOLE, LATE, CUT };

/* @n of each, in turns, into @path. */
static const char *written(const struct trace_form *form, const char *name, unsigned n,
			   enum end end)
{
	const char *path = scratch("%s", name), *why;
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;
	struct ept_record r;

	ck_assert_int_eq(trace_meta_take(meta_json(), &meta, &why), 0);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = form->begin(out, &meta);
	for (unsigned i = 0; i < n; i++) {
		struct kvm_fault f = fault(i);
		r = record(i);
		form->record(state, &r);
		form->kvm_fault(state, &f);
		struct ept_sample s = sample(i);
		if (form->sample)
			form->sample(state, &s);
	}
	if (form->kvm_end && end != CUT)
		form->kvm_end(state, &told);
	r = record(n);
	if (end == LATE)
		form->record(state, &r);
	form->end(state, (struct trace_lost){.samples = SAMPLES_LOST});
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	trace_meta_free(&meta);
	return path;
}

static void expect_fault(const struct kvm_fault *is, const struct kvm_fault *want)
{
	ck_assert_uint_eq(is->at, want->at);
	ck_assert_uint_eq(is->entry, want->entry);
	ck_assert_uint_eq(is->gpa, want->gpa);
	ck_assert_uint_eq(is->error_code, want->error_code);
	ck_assert_uint_eq(is->rip, want->rip);
	ck_assert_uint_eq(is->vcpu, want->vcpu);
	ck_assert_int_eq(is->again, want->again);
	ck_assert_int_eq(is->handled, want->handled);
}

/* Read it through; how many faults of KVM there were, each in its place. */
static unsigned look(const char *path, struct trace_reader *reader, struct foal_error *err)
{
	unsigned records = 0, faults = 0, samples = 0;
	struct trace_item item;
	int r = trace_open_file(reader, path, err);

	while (r == 0 && (r = trace_next_item(reader, &item, err)) == 1) {
		struct ept_record want = record(records);
		struct kvm_fault told_of = fault(faults);

		struct ept_sample stood = sample(samples);

		if (item.kind == TRACE_KVM_FAULT)
			expect_fault(&item.fault, &told_of);
		else if (item.kind == TRACE_SAMPLE)
			ck_assert_mem_eq(&item.sample, &stood, sizeof(stood));
		else
			ck_assert_mem_eq(&item.record, &want, sizeof(want));
		faults += item.kind == TRACE_KVM_FAULT;
		records += item.kind == TRACE_RECORD;
		samples += item.kind == TRACE_SAMPLE;
		r = 0;
	}
	ck_assert_int_eq(r != 0, err->status == FOAL_EXIT_TRACE);
	ck_assert(r != 0 || reader->version < 3 || samples == faults);
	return faults;
}

START_TEST(there_and_back)
{
	static const unsigned counts[] = {0, 1, TRACE_BLOCK_MAX, MANY};
	struct trace_reader reader;
	struct foal_error err = {0};
	struct ept_record one;
	unsigned records = 0;

	const char *path = written(&trace_binary, "t.trace", counts[_i], WHOLE);
	ck_assert_uint_eq(look(path, &reader, &err), counts[_i]);
	ck_assert(reader.has_told && reader.told.counted);
	ck_assert_ptr_null(reader.told.missing);
	ck_assert_mem_eq(&reader.told.counts, &told.counts, sizeof(told.counts));
	ck_assert_uint_eq(reader.told.exits, told.exits);
	ck_assert_uint_eq(reader.told.taken, told.taken);
	ck_assert_uint_eq(reader.told.fixed, told.fixed);
	ck_assert_uint_eq(reader.lost.samples, SAMPLES_LOST);
	trace_close(&reader);
	/* Who wants records alone is given them. */
	ck_assert_int_eq(trace_open_file(&reader, path, &err), 0);
	while (trace_next(&reader, &one, &err) == 1)
		records++;
	ck_assert_uint_eq(records, counts[_i]);
	trace_close(&reader);
}
END_TEST

/* Of a trace that was cut before KVM's last word its faults are kept. */
START_TEST(faults_alone)
{
	struct trace_reader reader;
	struct foal_error err = {0};

	ck_assert_uint_eq(look(written(&trace_binary, "t.trace", 10, CUT), &reader, &err), 10);
	ck_assert_msg(!err.status, "%s", err.text);
	ck_assert(!reader.has_told);
	trace_close(&reader);
}
END_TEST

/* --- files that are not as they are written --------------------------------------------------- */

struct head {
	char magic[8];
	uint32_t version, len;
	XXH128_canonical_t sum;
};

struct block {
	uint32_t tag, count;
	uint64_t sum;
};

static size_t body_of(const struct block *block, uint32_t version)
{
	if (memcmp(&block->tag, "RECS", 4) == 0 || memcmp(&block->tag, "SAMP", 4) == 0)
		return block->count * sizeof(struct ept_record);
	if (memcmp(&block->tag, "KVMF", 4) == 0)
		return block->count * 48UL;
	if (memcmp(&block->tag, "KVMT", 4) == 0)
		return 536;
	return version < 4 ? 16 : 24;
}

/* Every checksum anew, as docs/formats.md has them. */
static void seal(char *bytes, size_t len)
{
	struct head *head = (struct head *)bytes;
	char *text = malloc(16 + head->len);
	uint64_t number = 0;

	memcpy(text, bytes, 16);
	memcpy(text + 16, bytes + sizeof(*head), head->len);
	XXH128_hash_t sum = XXH3_128bits(text, 16 + head->len);
	XXH128_canonicalFromHash(&head->sum, sum);
	free(text);
	for (size_t at = sizeof(*head) + head->len; at < len;) {
		struct block block;

		memcpy(&block, bytes + at, sizeof(block));
		size_t body = body_of(&block, head->version);
		block.sum = XXH3_64bits_withSeed(&block, 8, sum.low64 | 1) + number++;
		block.sum = XXH3_64bits_withSeed(bytes + at + sizeof(block), body, block.sum);
		memcpy(bytes + at, &block, sizeof(block));
		at += sizeof(block) + body;
	}
}

static char *contents(const char *path, size_t *len)
{
	char *bytes = malloc(1 << 20);
	FILE *file = fopen(path, "re");

	*len = fread(bytes, 1, 1 << 20, file);
	fclose(file);
	return bytes;
}

static void put_file(const char *path, const char *bytes, size_t len)
{
	FILE *file = fopen(path, "we");

	ck_assert_uint_eq(fwrite(bytes, 1, len, file), len);
	fclose(file);
}

/* The block that begins with @tag. */
static char *find(char *bytes, size_t len, const char *tag)
{
	return memmem(bytes, len, tag, 4);
}

/* What an older foal wrote is read; what it did not know is not taken from it. */
START_TEST(older_versions)
{
	const unsigned nr = (unsigned)_i;
	struct trace_reader reader;
	struct foal_error err = {0};
	size_t len;

	const char *path = written(&trace_binary, "t.trace", nr, WHOLE);
	char *bytes = contents(path, &len), *kvm = find(bytes, len, nr ? "KVMF" : "KVMT");
	((struct head *)bytes)->version = nr ? nr : 1;
	len -= 8;      /* their end does not say how many samples were lost */
	if (nr == 0) { /* none of KVM's blocks */
		char *end = find(bytes, len, "END!");
		memmove(kvm, end, 32);
		len -= (size_t)(end - kvm);
	}
	seal(bytes, len);
	put_file(path, bytes, len);
	ck_assert_uint_eq(look(path, &reader, &err), nr == 3 ? nr : 0);
	ck_assert_msg(nr % 3 ? strstr(err.text, "no block begins there") != NULL : !err.status,
		      "%s", err.text);
	ck_assert_int_eq(reader.has_told, nr == 3);
	ck_assert_uint_eq(reader.lost.samples, 0);
	trace_close(&reader);
	free(bytes);
}
END_TEST

static const struct {
	const char *tag;
	size_t at; /* behind the block's head */
	unsigned char byte;
	const char *words;
} lies[] = {
    {"KVMF", 7, 0xff, "a record has values"},  /* at: behind its entry */
    {"KVMF", 15, 0xff, "a record has values"}, /* entry: later than any */
    {"KVMF", 40, CPUS, "a record has values"}, /* vcpu */
    {"KVMF", 42, 2, "a record has values"},    /* again */
    {"KVMF", 43, 2, "a record has values"},    /* handled */
    {"KVMF", 44, 1, "a record has values"},    /* unused */
    {"KVMT", 7, 0x80, "what KVM told has values"},
    {"KVMT", 23, 0x80, "what KVM told has values"},
    {"KVMT", 24, 2, "what KVM told has values"},
    {"KVMT", 55, 0x80, "what KVM told has values"},
    {"KVMT", 56, '\n', "what KVM told has values"},
    {"KVMT", 56, 0x9b, "what KVM told has values"},
    {"KVMT", 60, 'x', "what KVM told has values"}, /* behind the text's end */
    {"SAMP", 7, 0xff, "a record has values"},	   /* at: later than any */
    {"SAMP", 8, 1, "a record has values"},	   /* gpa: within a page */
    {"SAMP", 24, CPUS, "a record has values"},
    {"SAMP", 26, 2, "a record has values"}, /* access */
    {"SAMP", 27, 4, "a record has values"}, /* cpl */
    {"SAMP", 28, 2, "a record has values"}, /* exact */
    {"SAMP", 29, 1, "a record has values"}, /* unused */
    {"SAMP", 55, 1, "a record has values"},
    {"END!", 15, 0x80, "more were lost than can be"},
    {"END!", 23, 0x80, "more were lost than can be"},
};

START_TEST(lying_blocks)
{
	struct trace_reader reader;
	struct foal_error err = {0};
	size_t len;

	const char *path = written(&trace_binary, "t.trace", 10, WHOLE);
	char *bytes = contents(path, &len);
	find(bytes, len, lies[_i].tag)[sizeof(struct block) + lies[_i].at] = (char)lies[_i].byte;
	seal(bytes, len);
	put_file(path, bytes, len);
	look(path, &reader, &err);
	ck_assert_msg(strstr(err.text, lies[_i].words), "%s", err.text);
	trace_close(&reader);
	free(bytes);
}
END_TEST

START_TEST(nothing_behind_it)
{
	struct trace_reader reader;
	struct foal_error err = {0};

	look(written(&trace_binary, "t.trace", 10, LATE), &reader, &err);
	ck_assert_msg(strstr(err.text, "no end follows what KVM told"), "%s", err.text);
	trace_close(&reader);
}
END_TEST

/* --- the other forms ------------------------------------------------------------------------- */

/* A thread of its own for each vCPU, with a slice a fault, told apart, exact in time. */
START_TEST(chrome)
{
	static const char *const names[] = {"handler", "again", "host"};
	unsigned slices = 0, threads = 0;
	json_t *event;
	size_t i;

	json_t *root = json_load_file(written(&trace_chrome, "t.json", 90, WHOLE), 0, NULL);
	ck_assert_ptr_nonnull(root);
	json_array_foreach(json_object_get(root, "traceEvents"), i, event)
	{
		const char *cat = json_string_value(json_object_get(event, "cat"));
		const json_t *args = json_object_get(event, "args");
		const char *thread = json_string_value(json_object_get(args, "name"));
		char rip[32];

		threads += thread && strstr(thread, ", by KVM");
		if (!cat || strcmp(cat, "kvm") != 0)
			continue;
		snprintf(rip, sizeof(rip), "0x%" PRIx64, RIP + slices);
		ck_assert_str_eq(json_string_value(json_object_get(args, "rip")), rip);
		ck_assert_str_eq(json_string_value(json_object_get(event, "name")),
				 slices % 5 ? names[slices % 3] : "outside");
		ck_assert_double_eq_tol(json_number_value(json_object_get(event, "ts")), slices,
					1e-6);
		ck_assert_double_eq_tol(json_number_value(json_object_get(event, "dur")), 0.7,
					1e-6);
		slices++;
	}
	ck_assert_uint_eq(threads, CPUS);
	ck_assert_uint_eq(slices, 90);
	const json_t *other = json_object_get(root, "otherData");
	ck_assert_int_eq(json_integer_value(json_object_get(other, "kvm_faults")), 90);
	json_decref(root);
}
END_TEST

/* The table gives what was whole, also where the trace ends before KVM's last word. */
START_TEST(summary)
{
	size_t len;
	char *text = contents(written(&trace_summary, "t.table", 90, _i ? CUT : WHOLE), &len);

	text[len] = 0;
	ck_assert_ptr_nonnull(strstr(text, "resolved by foal's handlers         24 "));
	ck_assert_ptr_nonnull(strstr(text, "of no memory                        18 "));
	ck_assert_ptr_nonnull(strstr(text, _i ? "exits not known: the trace is cut short\n"
					      : "11 exits, 12 entries, 13 samples lost\n"));
	ck_assert_ptr_nonnull(
	    strstr(text, _i ? "(KVM_GET_STATS_FD): not known: the trace is cut short\n"
			    : "(KVM_GET_STATS_FD): 14 exits, 15 page faults taken, 16 fixed\n"));
	free(text);
}
END_TEST

/* Where vCPUs stood: which instructions the most, and which of these only near. */
START_TEST(sampled)
{
	size_t len;
	char *text = contents(written(&trace_summary, "t.table", 10, WHOLE), &len);

	text[len] = 0;
	ck_assert_ptr_nonnull(strstr(text, ": 10 samples, 7 exact, 5 of ring 3, 29 lost\n"));
	ck_assert_ptr_nonnull(strstr(text, "most at RIP near 0xffffffff81000000 (4), "));
	free(text);
}
END_TEST

START_TEST(sampled_as_csv)
{
	const char *path = scratch("rips.csv");
	struct foal_error err = {0};
	struct ept_sample one = sample(5);
	struct trace_out *out;
	size_t len;

	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = trace_rips_csv.begin(out, NULL);
	trace_rips_csv.sample(state, &one);
	trace_rips_csv.end(state, (struct trace_lost){0});
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	char *text = contents(path, &len);
	text[len] = 0;
	ck_assert_str_eq(text, "at_ns,vcpu,gpa,access,rip,cpl,exact\r\n"
			       "5000005000,1,0x5000,write,0xffffffff81000002,3,1\r\n");
	free(text);
}
END_TEST

/* --- what a VM says of KVM's statistics --------------------------------------------------------
 */

static const struct {
	unsigned taken, exits; /* at the end; 100 each at the start */
	bool counts;
} ends[] = {{100, 100, true}, {130, 170, true}, {99, 170, false}, {130, 99, false}};

/* What falls is no count. */
START_TEST(statistics)
{
	struct client client = {
	    .name = "web", .pid = getpid(), .timeout_ms = -1, .interrupt_fd = -1};
	int vm[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, vm), 0);
	client.fd = vm[0];
	for (int end = 0; end < 2; end++)
		ck_assert_int_gt(dprintf(vm[1],
					 "{\"ok\":true,\"stats\":{\"kvm\":{\"pf_taken\":%u,"
					 "\"pf_fixed\":5,\"exits\":%u}}}\n",
					 end ? ends[_i].taken : 100, end ? ends[_i].exits : 100),
				 0);
	struct trace_kvm *kvm = trace_kvm_open(&client);
	const struct trace_kvm_told *end = trace_kvm_end(kvm, &client);
	ck_assert(end->counted == ends[_i].counts);
	ck_assert_uint_eq(end->taken, ends[_i].counts ? ends[_i].taken - 100 : 0);
	ck_assert_uint_eq(end->exits, ends[_i].counts ? ends[_i].exits - 100 : 0);
	ck_assert_uint_eq(end->fixed, 0);
	trace_kvm_close(kvm);
	client_close(&client);
	close(vm[1]);
}
END_TEST

Suite *trace_kvm_suite(void)
{
	Suite *suite = suite_create("trace_kvm");
	TCase *tc = tcase_create("trace_kvm");

	tcase_add_loop_test(tc, there_and_back, 0, 4);
	tcase_add_loop_test(tc, older_versions, 0, 4);
	tcase_add_test(tc, faults_alone);
	tcase_add_loop_test(tc, lying_blocks, 0, sizeof(lies) / sizeof(lies[0]));
	tcase_add_test(tc, nothing_behind_it);
	tcase_add_test(tc, chrome);
	tcase_add_loop_test(tc, summary, 0, 2);
	tcase_add_test(tc, sampled);
	tcase_add_test(tc, sampled_as_csv);
	tcase_add_loop_test(tc, statistics, 0, sizeof(ends) / sizeof(ends[0]));
	suite_add_tcase(suite, tc);
	return suite;
}
