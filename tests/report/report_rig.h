/* What the tests of foal report have in common: traces, programs, what a browser saw. */
#ifndef TEST_REPORT_RIG_H
#define TEST_REPORT_RIG_H

#include <check.h>
#include <jansson.h>
#include <stdint.h>
#include <sys/resource.h>

#include "vmm/trace_out.h"

#define FOAL	    "build/foal"
#define PAGE	    "build/foal-report.html"
#define MODULES	    "build/tests/report/node_modules"
#define RECORDS	    30000
#define COUNT(list) (sizeof(list) / sizeof(*(list)))

/* What would run, load or draw something if it were taken for markup or script. */
#define EVIL \
	"</script><script>globalThis.pwned=1</script><img src=http://x.invalid/i onerror=pwned=2>"
#define EVIL_COMMENT "<!--<script>\xe2\x80\xa8*/'\"`${globalThis.pwned=3}\\u003c/script>"

/* Their paths. */
const char *make_trace(bool evil, unsigned n, uint64_t lost);
/* @n faults that KVM told of, a few of each kind, behind @records of ours. */
const char *make_kvm_trace(unsigned records, unsigned n);

struct ended {
	int status; /* minus a signal */
	char *out, *err;
};

/* @file_limit: the most bytes that a file of its may have; 0: as many as it wants. */
struct ended run(const char *const *argv, rlim_t file_limit);
#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL}, 0)

/* One line, which has @words in it. */
void expect(struct ended ended, int status, const char *words);

char *text_of(const char *path);
/* What foal trace --json says of @trace. */
json_t *sums(const char *trace);
/* "" if there is none. */
const char *string(const json_t *object, const char *key);

Suite *viewer_suite(void);

#endif
