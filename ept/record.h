/*
 * The fault log: a record of each fault that the handlers resolved, the last of them kept, for
 * who looks from outside (docs/trace.md).
 *
 * Threads of a space write, without a lock and without waiting, into a sealed memfd of fixed
 * size, the oldest record giving way; who has its descriptor reads beside them, and counts what
 * was overwritten before it came to it. A space has a log of its own; a forked one begins with
 * an empty one.
 */
#ifndef FOAL_EPT_RECORD_H
#define FOAL_EPT_RECORD_H

#include "ept/ept.h"

#define EPT_RECORD_NONE	    0xffffU

#define EPT_RECORD_MAJOR    1U /* the object was read for it */
#define EPT_RECORD_FALLBACK 2U /* 2 MiB were meant to go in */
#define EPT_RECORD_EVENT    4U /* an event of userfaultfd; else a touch by the monitor */
#define EPT_RECORD_PROTECT  8U /* of a page that was there, write-protected */

/*
 * Times are nanoseconds; 0 of a stage: the fault had none, else at least 1, and the longest that
 * can be said is what is said of anything longer. When the access was made no event says, and
 * when the guest ran again nobody but KVM knows.
 */
struct ept_record {
	uint64_t at;	      /* it was picked up: CLOCK_MONOTONIC */
	uint64_t gpa;	      /* bytes, of the page; of what hit no area anything a guest says */
	uint32_t read_ns;     /* after @at: what was to be read had come */
	uint32_t put_ns;      /* the last page was in */
	uint32_t done_ns;     /* resolved, and who waited woken */
	uint32_t installed;   /* pages */
	uint32_t around;      /* of these, asked for by nobody yet */
	uint32_t granted;     /* pages whose writing was granted with it */
	uint32_t bytes_read;  /* from the object */
	uint16_t area;	      /* its index (ept_area_at), not compared with how many there are;
				 EPT_RECORD_NONE: no area */
	uint16_t vcpu;	      /* EPT_RECORD_NONE: not known, or none's */
	uint8_t kase, origin; /* enum ept_case, enum ept_origin */
	uint8_t access;	      /* enum ept_access */
	uint8_t flags;	      /* EPT_RECORD_* */
	uint16_t error;	      /* errno, or 0 */
	uint16_t unused;      /* 0 */
};

/* Where a vCPU stood whose fault was sampled: it is also a record, of the same @at and @gpa. */
struct ept_sample {
	uint64_t at, gpa, rip;
	uint16_t vcpu;
	uint8_t access; /* enum ept_access */
	uint8_t cpl;
	uint8_t exact; /* 1: @rip is the instruction that made the access; 0: one near it */
	uint8_t unused[3];
	uint64_t more[3]; /* 0, as @unused */
};

/* --- the space's side -------------------------------------------------------------- */

/*
 * The descriptor of the log of a space whose configuration asks for one (ept_config.log), or -1:
 * there is none, or the host gave none. It stays the space's until the space is destroyed or
 * forked: who passes it on sends or dups it. It can be mapped for reading, and for writing by
 * nobody but the space.
 */
int ept_space_records_fd(const struct ept_space *space);

/* --- the reader's side; any process, one thread a reader ------------------------------ */

struct ept_records;

/*
 * Map the log @fd, which stays the caller's, from its oldest record on, or (@now) from what comes
 * from here on. What is in it is not to be trusted: all values are checked before a record is
 * given out. -EINVAL (no log, or of another version), -ENOMEM. ept_records_close() is to be called.
 */
int ept_records_open(int fd, bool now, struct ept_records **out);

/*
 * The next one, about in the order of @at. 1, or 0: there is none now. Waits for nothing: what a
 * thread is just writing is there at a later call, and given up (lost) after 0.1 s.
 */
int ept_records_next(struct ept_records *records, struct ept_record *out);

/*
 * How many will not be given out: overwritten before they were read (without @now, before the
 * opening, too), dropped by who wrote, or not to be understood.
 */
uint64_t ept_records_lost(const struct ept_records *records);

/* The same of samples. */
int ept_samples_next(struct ept_records *records, struct ept_sample *out);
uint64_t ept_samples_lost(const struct ept_records *records);
/* Do its values exist? @vcpu is not compared with how many there are. */
bool ept_sample_is_valid(const struct ept_sample *sample);

void ept_records_close(struct ept_records *records); /* NULL is allowed */

#endif
