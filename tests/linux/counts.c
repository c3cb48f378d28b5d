/*
 * foal's count of faults beside KVM's: event for event where each page is
 * written first, and for a boot of Linux each kind of difference by its name.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "guest/abi.h"
#include "tests/linux/suites.h"
#include "tests/linux/trace.h"

#define PAGE 4096u

static uint64_t events(const struct run *run, const char *origin)
{
	json_t *value = json_object_get(json_object_get(run->stats, "events"), origin);

	ck_assert(json_is_integer(value));
	return (uint64_t)json_integer_value(value);
}

/* Where each page is an event, a boot has 24,000 of them: minutes on an older kernel. */
static const char *const engines[] = {"auto", "handler"};

/* Events of writes to what was there, but write-protected. */
static uint64_t protection_faults(const struct run *run)
{
	return count_of(run, NULL, "anon_wp", "faults") + count_of(run, NULL, "file_wp", "faults") +
	       count_of(run, NULL, "shared_mkwrite", "faults");
}

/* Faults of loader and devices, which come as calls. */
static uint64_t pages_by_call(const struct run *run)
{
	return count_of(run, NULL, NULL, "faults") - events(run, "vcpu") - events(run, "kvm");
}

/* --- each page written first -------------------------------------------------- */

#define SWEEP_BASE (16u << 20)

/* Each page of the sweep faulted once, as a write; all faults are in the trace. */
static void check_trace(const struct run *run, unsigned pages)
{
	size_t count, here = 0;
	struct trace_fault *faults = trace_stop(&count);

	ck_assert_uint_eq(count, kvm_number(run, "pf_taken"));
	for (size_t i = 0; i < count; i++) {
		if (faults[i].gpa < SWEEP_BASE)
			continue;
		ck_assert_uint_eq(faults[i].gpa / PAGE, SWEEP_BASE / PAGE + here);
		ck_assert_uint_eq(faults[i].error & TRACE_WRITE, TRACE_WRITE);
		here++;
	}
	ck_assert_uint_eq(here, pages);
	free(faults);
}

static void write_pages(struct run *run, unsigned pages)
{
	char append[48];

	snprintf(append, sizeof(append), "mode=w base=%u pages=%u", SWEEP_BASE, pages);
	run_foal(run,
		 ARGS("--kernel", guest_path("anon.elf"), "--append", append, "--fault-engine",
		      "handler", "--fault-around", "1", "--huge", "never", "--rip-sample", "0"));
	ck_assert_msg(run->status == 0, "%s: status %d\n%s", append, run->status, run->err_text);
	check_events(run);
	/* Each of KVM's faults put a page in: none was spurious, retried or emulated. */
	ck_assert_uint_eq(kvm_number(run, "pf_taken"), kvm_number(run, "pf_fixed"));
	/* None came by way of KVM's asynchronous worker. */
	ck_assert_uint_eq(events(run, "kvm"), 0);
}

/*
 * One CPU, each page written first. What KVM counts beyond foal's events are
 * first touches of pages that the loader had put in; a run over no page has the
 * same ones.
 */
START_TEST(event_for_event)
{
	static const unsigned counts[] = {0, 1, 64, 2048};
	uint64_t there = 0;

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		struct run run;
		trace_start();
		write_pages(&run, counts[i]);
		check_trace(&run, counts[i]);
		uint64_t taken = kvm_number(&run, "pf_taken"), told = events(&run, "vcpu");
		if (i == 0)
			there = taken - told;
		ck_assert_uint_le(there, count_of(&run, NULL, NULL, "installed") - told);
		ck_assert_uint_eq(taken, told + there);
		printf("%u pages written: pf_taken %ju, events %ju, pages of the loader %ju\n",
		       counts[i], (uintmax_t)taken, (uintmax_t)told, (uintmax_t)there);
		run_free(&run);
	}
	fflush(stdout);
}
END_TEST

/* --- a boot of Linux ---------------------------------------------------------- */

/*
 * What a fault of the trace was, by what had been faulted at its page before.
 * All but REGISTERS are in pf_taken.
 */
enum kind { FIRST, WRITE_AFTER_READ, AGAIN, NEW_REGISTERS, REGISTERS, NR_KINDS };

static const char *const kinds[NR_KINDS] = {
    [FIRST] = "first touch of a page, or of a huge page",
    [WRITE_AFTER_READ] = "write to a page that had been mapped for reading",
    [AGAIN] = "the same once more: its page changed under the fault, KVM retried",
    [NEW_REGISTERS] = "first access to a page of device registers",
    [REGISTERS] = "later accesses to device registers (not in pf_taken)",
};

struct tally {
	uint64_t kind[NR_KINDS];
	unsigned char *seen; /* a page: 0 untouched, 1 read, 2 written */
	uint64_t pages;
};

static enum kind kind_of(struct tally *t, const struct trace_fault *f)
{
	unsigned char now = f->error & TRACE_WRITE ? 2 : 1, before;
	uint64_t page = f->gpa / PAGE;

	/* KVM marks the entries of registers with a reserved bit. */
	if (f->error & TRACE_RESERVED)
		return REGISTERS;
	/* This test has no RAM beyond the gap, and no pmem. */
	if (page >= t->pages)
		return NEW_REGISTERS;
	before = t->seen[page];
	if (before < now)
		t->seen[page] = now;
	return before == 0 ? FIRST : before < now ? WRITE_AFTER_READ : AGAIN;
}

static void print_tally(const char *engine, const struct run *run, const struct tally *t)
{
	static const char *const stats[] = {"pf_taken",	   "pf_fixed", "pf_emulate",
					    "pf_spurious", "pf_fast",  "mmio_exits"};

	printf("boot of Linux, --fault-engine %s:\n", engine);
	for (size_t i = 0; i < sizeof(stats) / sizeof(stats[0]); i++)
		printf("  %8ju  %s\n", (uintmax_t)kvm_number(run, stats[i]), stats[i]);
	printf("by KVM's trace:\n");
	for (int k = 0; k < NR_KINDS; k++)
		printf("  %8ju  %s\n", (uintmax_t)t->kind[k], kinds[k]);
	printf("by foal:\n");
	printf("  %8ju  events of vCPUs, %ju of KVM's worker\n", (uintmax_t)events(run, "vcpu"),
	       (uintmax_t)events(run, "kvm"));
	printf("  %8ju  of them writes to pages mapped for reading\n",
	       (uintmax_t)protection_faults(run));
	printf("  %8ju  pages put in around faults, %ju by loader and devices; %ju granted for "
	       "writing around one\n",
	       (uintmax_t)count_of(run, NULL, NULL, "around"), (uintmax_t)pages_by_call(run),
	       (uintmax_t)count_of(run, NULL, NULL, "granted"));
	fflush(stdout);
}

/* Where all is foal's: whoever touched a page first, or wrote after a read, is in an event or was
 * spared one. */
static void check_kinds(const struct run *run, const uint64_t kind[NR_KINDS])
{
	uint64_t writes = protection_faults(run);
	uint64_t first = events(run, "vcpu") + events(run, "kvm") - writes;
	uint64_t done = kvm_number(run, "pf_fixed") + kvm_number(run, "pf_spurious");

	/* What its worker brought in KVM maps without a fault of the guest's: fixed, not taken. */
	ck_assert_uint_le(kind[FIRST] + kind[WRITE_AFTER_READ], done);
	ck_assert_uint_le(done, kind[FIRST] + kind[WRITE_AFTER_READ] + events(run, "kvm"));
	ck_assert_uint_le(kind[WRITE_AFTER_READ], writes + count_of(run, NULL, NULL, "granted"));
	ck_assert_uint_le(writes, kind[WRITE_AFTER_READ] + events(run, "kvm"));
	ck_assert_uint_ge(kind[FIRST] + events(run, "kvm"), first);
	ck_assert_uint_le(kind[FIRST],
			  first + count_of(run, NULL, NULL, "around") + pages_by_call(run));
}

/*
 * What KVM counts and foal does not, in a boot: the trace has every fault; the
 * kinds add up to pf_taken, and each kind to what it is said to be. An idle vCPU
 * leaves the guest: an emulated SVM host may not wake one that halts inside.
 */
START_TEST(boot_by_kind)
{
	struct tally t = {.pages = (256u << 20) / PAGE};
	struct trace_fault *faults;
	struct run run;
	size_t count;

	t.seen = calloc(t.pages, 1);
	ck_assert_ptr_nonnull(t.seen);
	trace_start();
	run_foal(&run, ARGS("--kernel", linux_path("vmlinuz"), "--initrd", linux_path("initrd.gz"),
			    "--append", "console=ttyS0 panic=-1 quiet job=nothing", "--memory",
			    "256M", "--fault-engine", engines[_i], "--halt", "exit", "--rip-sample",
			    "0", "--time-limit", GUEST_LIMIT));
	ck_assert_msg(run.status == 0, "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
	faults = trace_stop(&count);
	for (size_t i = 0; i < count; i++)
		t.kind[kind_of(&t, &faults[i])]++;
	print_tally(engines[_i], &run, &t);
	check_events(&run);

	const uint64_t *k = t.kind;
	ck_assert_uint_eq(kvm_number(&run, "pf_taken"), count - k[REGISTERS]);
	ck_assert_uint_eq(k[NEW_REGISTERS], kvm_number(&run, "pf_emulate"));
	if (strcmp(engines[_i], "handler") == 0)
		check_kinds(&run, k);
	free(faults);
	free(t.seen);
	run_free(&run);
}
END_TEST

Suite *counts_suite(void)
{
	Suite *suite = suite_create("counts");
	TCase *tc = tcase_create("counts");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, event_for_event);
	tcase_add_loop_test(tc, boot_by_kind, 0, linux_at_least(6, 4) ? 2 : 1);
	suite_add_tcase(suite, tc);
	return suite;
}
