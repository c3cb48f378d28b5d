/*
 * The binary form of a trace (docs/formats.md): what foal trace wrote and reads again. Whoever
 * gives a trace, a file or a VM, may be hostile: all of it is checked here, once, so that what
 * turns it into something else need not. One thread. Private to vmm/.
 */
#ifndef FOAL_VMM_TRACE_FILE_H
#define FOAL_VMM_TRACE_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "ept/record.h"
#include "ept/snapshot.h"
#include "vmm/error.h"
#include "vmm/kvm_faults.h"
#include "vmm/symbols.h"

/* 1: without what KVM told; 2: without samples; 3: without how many of those were lost */
#define TRACE_VERSION	     4U
#define TRACE_META_MAX	     (1U << 20) /* bytes of its text */
#define TRACE_BLOCK_MAX	     4096U	/* records */
#define TRACE_CASES_MAX	     256U
#define TRACE_ORIGINS_MAX    32U
#define TRACE_AROUND_DEFAULT 16U /* pages, where `foal run` is given no --fault-around */
#define TRACE_AROUND_MAX     512U

struct trace_area {
	const char *name, *file; /* "": no file */
	uint64_t gpa, size;	 /* bytes */
	bool host;		 /* the host kernel resolves its faults: there are no records */
	bool has_mode;		 /* false: it was not said, or there is no file */
	enum ept_file_mode mode;
	uint64_t host_ahead; /* pages that its host reads around a miss; 0: not said */
	bool layers;	     /* file is a snapshot's; an older foal did not say it */
	const char *origin;  /* then: what that lies over; NULL: no file */
};

/* What a VM was told that decides what a fault brings. */
struct trace_settings {
	unsigned fault_around; /* pages */
	enum ept_huge huge;
	uint64_t memory_limit; /* bytes; 0: none */
	enum ept_prefetch_how prefetch;
};

/* Their words, each list ends in NULL; the first of prefetch stands for "not of a snapshot". */
extern const char *const trace_modes[], *const trace_huges[], *const trace_prefetches[];

/* What the numbers in the records stand for. Texts are the object's. */
struct trace_meta {
	json_t *json;
	const char *vm;
	struct trace_area *areas;
	size_t nr_areas;
	const char *cases[TRACE_CASES_MAX], *origins[TRACE_ORIGINS_MAX];
	unsigned nr_cases, nr_origins;
	unsigned cpus;
	uint64_t memory;		/* bytes */
	uint64_t main_ns, first_run_ns; /* CLOCK_MONOTONIC, as the records' times */
	unsigned rip_sample;		/* one in so many faults of a vCPU; 0: none, or not said */
	bool has_settings;		/* traces of foal before it could replay have none */
	struct trace_settings settings;
	const struct symbols *symbols; /* the caller's, of its kernel; NULL: none were given */
};

struct run_options;

/* trace_meta_of.c: of a space here, but for "vm"; the caller's. */
json_t *trace_meta_of(const struct ept_space *space, const struct run_options *opt,
		      uint64_t main_ns, uint64_t first_run_ns);

/*
 * Take @json, whose reference is used up. 0, or a negative errno: -EINVAL with what is wrong with
 * it in *@why, a literal; -ENOMEM. trace_meta_free() in any case. Names are short and of printable
 * ASCII then; the paths of files may have any character.
 */
int trace_meta_take(json_t *json, struct trace_meta *out, const char **why);
void trace_meta_free(struct trace_meta *meta);

/* Do all numbers of @record stand for something? */
bool trace_record_is_valid(const struct trace_meta *meta, const struct ept_record *record);
bool trace_sample_is_valid(const struct trace_meta *meta, const struct ept_sample *sample);

/* What of KVM is known at the end of a trace, beside its faults. */
struct trace_kvm_told {
	const char *missing; /* why there are no tracepoints; NULL: there are */
	struct kvm_fault_counts counts;
	bool counted;		      /* KVM's statistics are known: */
	uint64_t exits, taken, fixed; /* by them, since the trace began */
};

/* Overwritten before they were read. */
struct trace_lost {
	uint64_t records, samples;
};

/* --- reading -------------------------------------------------------------------------- */

struct trace_reader {
	const char *path;
	int fd;
	struct trace_meta meta;
	uint32_t version;
	uint64_t sum; /* of the head, which every block's begins with */
	uint64_t blocks, records;
	struct trace_lost lost; /* once it has ended */
	void *block;
	uint32_t tag;	    /* of what is in it, */
	unsigned count, at; /* how many of them, and the next one */
	struct trace_kvm_told told;
	bool has_told; /* KVM was asked; known once it has ended */
	bool ended;
};

/* One of what a trace holds. */
struct trace_item {
	enum { TRACE_RECORD, TRACE_KVM_FAULT, TRACE_SAMPLE } kind;
	union {
		struct ept_record record;
		struct kvm_fault fault;
		struct ept_sample sample;
	};
};

/* Open @path, which is kept, and read its head. FOAL_EXIT_TRACE. trace_close() in any case. */
int trace_open_file(struct trace_reader *reader, const char *path, struct foal_error *err);
/*
 * 1 and the next item; 0: that was all; or a negative errno, and FOAL_EXIT_TRACE, where the file
 * is cut short or damaged: what was given before is whole.
 */
int trace_next_item(struct trace_reader *reader, struct trace_item *out, struct foal_error *err);
/* The same of the fault log's records alone. */
int trace_next(struct trace_reader *reader, struct ept_record *out, struct foal_error *err);
void trace_close(struct trace_reader *reader);

#endif
