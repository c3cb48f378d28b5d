/*
 * What a run did, in figures: gathered once when the vCPUs have left, then
 * printed as a table or as JSON (docs/stats.md names the fields).
 */
#ifndef FOAL_VMM_STATS_H
#define FOAL_VMM_STATS_H

#include <jansson.h>
#include <stdio.h>

#include "ept/stats.h"
#include "vmm/kvmstats.h"
#include "vmm/vm.h"

/* One file of the VM and how much of it was ever read. */
struct file_report {
	const char *path, *use; /* use: firmware, kernel, initrd, disk, pmem */
	uint64_t size, read;	/* bytes */
};

struct report {
	const struct vm *vm;
	bool running;	 /* not at its end: counters are as of now */
	uint64_t end_ns; /* when that was, or now */
	struct kvm_stats kvm;
	bool kvm_known;		 /* KVM_GET_STATS_FD worked */
	uint64_t resident_guest; /* bytes of guest memory and page caches */
	uint64_t resident_huge;	 /* of these, in huge pages */
	uint64_t resident_self;	 /* bytes of the monitor itself */
	struct ept_reconciliation books;
	struct ept_debt_stats debt;
	unsigned file_count;
	struct file_report files[3 + 2 * MAX_FILES];
};

/* Open what the report goes to, so that a wrong --stats-file is known before the run. */
int stats_open(struct vm *vm, struct foal_error *err);
void stats_close(struct vm *vm);

/* Print what opt->stats asks for, where it asks for it. */
int stats_report(struct vm *vm, struct foal_error *err);

/* Faults of @c in area @area (ept_area_count() for none); false if there were none. */
bool report_case(const struct report *report, size_t area, enum ept_case c,
		 struct ept_case_stats *out);

/*
 * What lies around the kernel is RAM in several areas of one name: one to the reader. The name
 * of area @i (ept_area_count(): "(no area)"); was an area of that name before it?
 */
const char *report_area_name(const struct report *report, size_t i);
bool report_named_before(const struct report *report, size_t i);
/* The faults that ended as @c in the areas named as @first, into @sum; @one is for its own use. */
void report_sum_case(const struct report *report, size_t first, enum ept_case c,
		     struct ept_case_stats *sum, struct ept_case_stats *one);

/* The same of all areas, and of what lies outside of them. */
void report_sum_all(const struct report *report, enum ept_case c, struct ept_case_stats *sum,
		    struct ept_case_stats *one);

/* /proc/self/smaps, with a buffer of its own; NULL: it cannot be opened. At most twice. */
FILE *stats_open_smaps(void);

/*
 * The same of a VM that runs or is paused, as of now: as JSON, as the table and for Prometheus
 * (free() them), and the bytes of guest memory in the host's alone. @smaps: of stats_open_smaps(),
 * the caller's own. NULL: no memory.
 */
json_t *stats_object(struct vm *vm, FILE *smaps);
char *stats_text(struct vm *vm, FILE *smaps);
char *stats_metrics(struct vm *vm, FILE *smaps);
uint64_t stats_resident(struct vm *vm, FILE *smaps);

json_t *stats_json_object(const struct report *report);
int stats_json(const struct report *report, FILE *out);
int stats_table(const struct report *report, FILE *out);
/* The text format of Prometheus, 0.0.4 (stats_prometheus.c); 0 or -ENOMEM. */
int stats_prometheus(const struct report *report, FILE *out);

/* stats_reconcile.c: whether the counts agree, and what KVM's are made of. */

/*
 * What pf_taken is made of, by KVM's own counts: taken = all up to remainder, which is signed and
 * has in it what was tried again for @kicks, those of --rip-sample.
 */
struct pf_parts {
	uint64_t taken, fixed, emulated, spurious, fast, guest, counted_twice;
	int64_t remainder;
	uint64_t kicks;
};

struct pf_parts report_pf(const struct report *report);
json_t *reconciliation_json(const struct report *report);
void reconciliation_table(const struct report *report, FILE *out);

/* stats_debt.c: what a start left for later. */
json_t *debt_json(const struct report *report);
void debt_table(const struct report *report, FILE *out);
/* ns from the start to the first KVM_RUN, and to now or the end. */
uint64_t report_first_run(const struct report *report);
uint64_t report_age(const struct report *report);

#endif
