#include "tests/report/report_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/scratch.h"

#define MIB	(1ULL << 20)
#define MAIN_NS (7000 * 1000000ULL)

static const char *const plain_cases[] = {"anon_read", "anon_write", "file_read", "anon_huge"};
static const char *const evil_cases[] = {EVIL, "{a|b}", "<b>bold</b>", "__proto__"};

/* --- traces --------------------------------------------------------------------------------- */

static json_t *names(const char *const *list, size_t n)
{
	json_t *json = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(json, json_string(list[i]));
	return json;
}

static json_t *area(const char *name, uint64_t gpa, uint64_t size, const char *file)
{
	return json_pack("{s:s, s:I, s:I, s:s, s:s}", "name", name, "gpa", (json_int_t)gpa, "size",
			 (json_int_t)size, "file", file, "engine", "handler");
}

static json_t *meta_json(bool evil)
{
	static const char *const origins[] = {"vcpu", "kvm"};
	json_t *areas = json_array();

	json_array_append_new(areas, area(evil ? EVIL : "ram", 0, 64 * MIB, ""));
	json_array_append_new(areas, area(evil ? "<!--<script>" : "pmem0", 4096 * MIB, 64 * MIB,
					  evil ? EVIL_COMMENT : "/srv/root.img"));
	return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:I, s:i}", "vm", "web", "areas", areas,
			 "cases", names(evil ? evil_cases : plain_cases, 4), "origins",
			 names(origins, 2), "main_ns", (json_int_t)MAIN_NS, "first_run_ns",
			 (json_int_t)(MAIN_NS + 1000000), "memory", (json_int_t)(64 * MIB), "cpus",
			 1);
}

static struct ept_record make_record(unsigned i)
{
	static uint32_t x = 1;

	x = x * 1664525 + 1013904223;
	unsigned kase = x >> 30;
	bool file = kase == 2;
	return (struct ept_record){
	    .at = MAIN_NS + 2000000 + i * 40000ULL,
	    .gpa = ((uint64_t)((x >> 8) % (i / 2 + 1) & 0x3fff) << EPT_PAGE_SHIFT) +
		   (file ? 4096 * MIB : 0),
	    .put_ns = 1,
	    .done_ns = 1000 + (x >> 16) * (kase + 1),
	    .installed = file ? 4 : 1,
	    .around = file ? 3 : 0,
	    .bytes_read = file ? 4096 : 0,
	    .area = file,
	    .kase = (uint8_t)kase,
	    .access = EPT_WRITE,
	    .flags = EPT_RECORD_EVENT,
	};
}

const char *make_trace(bool evil, unsigned n, uint64_t lost)
{
	const char *path = scratch_keep(scratch("t.trace")), *why;
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;

	ck_assert_int_eq(trace_meta_take(meta_json(evil), &meta, &why), 0);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = trace_binary.begin(out, &meta);
	for (unsigned i = 0; i < n; i++) {
		struct ept_record record = make_record(i);
		trace_binary.record(state, &record);
	}
	trace_binary.end(state, (struct trace_lost){.records = lost});
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	trace_meta_free(&meta);
	return path;
}

const char *make_kvm_trace(unsigned records, unsigned n)
{
	static const struct trace_kvm_told told = {.counts = {7001, 7002, 7003},
						   .counted = true,
						   .exits = 7004,
						   .taken = 7005,
						   .fixed = 7006};
	const char *path = scratch_keep(scratch("kvm.trace")), *why;
	struct foal_error err = {0};
	struct trace_meta meta;
	struct trace_out *out;

	ck_assert_int_eq(trace_meta_take(meta_json(false), &meta, &why), 0);
	ck_assert_int_eq(trace_out_open(path, -1, &out, &err), 0);
	void *state = trace_binary.begin(out, &meta);
	for (unsigned i = 0; i < records; i++) {
		struct ept_record record = make_record(i);
		trace_binary.record(state, &record);
	}
	for (unsigned i = 0; i < n; i++) {
		struct kvm_fault fault = {.at = MAIN_NS + i * 100000ULL,
					  .gpa = (i % 8 ? i * 61 % 16384 : 1024 * MIB / 4096) *
						 4096ULL,
					  .rip = 0xffffffff81000000,
					  .handled = i % 4 == 1,
					  .again = i % 4 == 2};
		fault.entry = fault.at + 5000 + i;
		trace_binary.kvm_fault(state, &fault);
	}
	trace_binary.kvm_end(state, &told);
	trace_binary.end(state, (struct trace_lost){0});
	ck_assert_int_eq(trace_out_close(out, true, &err), 0);
	trace_meta_free(&meta);
	return path;
}

/* --- programs ------------------------------------------------------------------------------- */

char *text_of(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0 && fstat(fd, &st) == 0, "%s", path);
	char *text = calloc(1, (size_t)st.st_size + 1);
	ck_assert_int_eq(read(fd, text, (size_t)st.st_size), st.st_size);
	close(fd);
	return text;
}

struct ended run(const char *const *argv, rlim_t file_limit)
{
	const char *out = scratch_keep(scratch("stdout")), *err = scratch_keep(scratch("stderr"));
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		struct rlimit limit = {file_limit, file_limit};
		if (!freopen(out, "we", stdout) || !freopen(err, "we", stderr) ||
		    (file_limit && setrlimit(RLIMIT_FSIZE, &limit)))
			_exit(127);
		dup2(open(out, O_WRONLY | O_TRUNC), STDOUT_FILENO);
		dup2(open(err, O_WRONLY | O_TRUNC), STDERR_FILENO);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return (struct ended){WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status),
			      text_of(out), text_of(err)};
}

void expect(struct ended ended, int status, const char *words)
{
	const char *end = strchr(ended.err, '\n');

	ck_assert_msg(ended.status == status, "status %d: %s", ended.status, ended.err);
	ck_assert_msg(strstr(ended.err, words) != NULL, "%s", ended.err);
	ck_assert_msg(end && !end[1], "%s", ended.err);
}

json_t *sums(const char *trace)
{
	struct ended ended = RUN(FOAL, "trace", trace, "--json");

	ck_assert_msg(ended.status == 0 || ended.status == FOAL_EXIT_TRACE, "%s", ended.err);
	json_t *json = json_loads(ended.out, 0, NULL);
	ck_assert_ptr_nonnull(json);
	return json;
}

const char *string(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}
