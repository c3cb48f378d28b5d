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
	uint64_t events[EPT_NR_ORIGINS];
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

/* /proc/self/smaps, with a buffer of its own; NULL: it cannot be opened. At most twice. */
FILE *stats_open_smaps(void);

/*
 * The same of a VM that runs or is paused, as of now: as JSON, as the table (free() it),
 * and the bytes of guest memory in the host's alone. @smaps: of stats_open_smaps(), the
 * caller's own. NULL: no memory.
 */
json_t *stats_object(struct vm *vm, FILE *smaps);
char *stats_text(struct vm *vm, FILE *smaps);
uint64_t stats_resident(struct vm *vm, FILE *smaps);

json_t *stats_json_object(const struct report *report);
int stats_json(const struct report *report, FILE *out);
int stats_table(const struct report *report, FILE *out);

#endif
