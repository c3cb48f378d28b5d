/*
 * What a space counts: of each case of each area, of what is brought ahead, of huge pages and of
 * the memory limit. Each list of counters stands once, with units: declared, read out, printed and
 * exported from here (docs/stats.md). Any thread may read; ept.h says more of errors and times.
 */
#ifndef FOAL_EPT_STATS_H
#define FOAL_EPT_STATS_H

#include "ept/ept.h"

/* --- areas and cases ------------------------------------------------------------ */

/* Latency buckets: 16 a power of two, so any value is within 6.25 %. */
#define EPT_HIST_BUCKETS 512

struct ept_hist {
	uint64_t count, max, sum; /* the last two in ns */
	uint32_t bucket[EPT_HIST_BUCKETS];
};

/* Any thread. */
void ept_hist_add(struct ept_hist *h, uint64_t ns);

/* The value (ns) below which @percent of the samples lie; 0 without samples. */
uint64_t ept_hist_percentile(const struct ept_hist *h, double percent);

/* The largest value (ns) that @bucket holds. */
uint64_t ept_hist_top(unsigned bucket);

/* How many samples were less than 2^@shift ns, @shift up to 35: exact, a bucket ends there. */
uint64_t ept_hist_below(const struct ept_hist *h, unsigned shift);

/* Listed once, with the unit: declared, read out, printed and exported from here. */
#define EPT_COUNTERS(X) \
	X(faults, "faults", "")		     /* faults that ended as this case */ \
	X(major, "major", "")		     /* of these, the ones that read the object */ \
	X(installed, "installed", "pages")   /* pages installed, the asked one included */ \
	X(around, "around", "pages")	     /* of these, pages nobody had asked for yet */ \
	X(fallback, "fallback", "")	     /* of the faults, those meant to bring 2 MiB */ \
	X(bytes_read, "bytes_read", "bytes") /* bytes read from the object */ \
	X(granted, "granted", "pages")	     /* there for reading, nobody had asked to write yet */

struct ept_case_stats {
#define X(field, name, unit) uint64_t field;
	EPT_COUNTERS(X)
#undef X
	uint64_t by_origin[EPT_NR_ORIGINS]; /* sums to faults */
	struct ept_hist latency;	    /* ns from picked up to resolved */
};

struct ept_area_info {
	const char *name;
	gpa_t gpa;
	uint64_t size;
	enum ept_engine engine;
	const char *file;	 /* NULL for anonymous memory */
	enum ept_file_mode mode; /* of a file */
	bool layers;		 /* file is a snapshot's; what it does not have is */
	const char *origin;	 /* of this file; NULL: zero */
	uint64_t file_bytes;	 /* bytes of the file this area covers */
	uint64_t file_read;	 /* of these, bytes ever read (each counted once) */
	uint64_t host_ahead;	 /* pages that the host reads around a miss; 0: not looked at */
	uint64_t resident;	 /* bytes installed now, zero pages not counted */
	uint64_t copied;	 /* of these, private copies of a file that the host kernel maps */
	uint64_t host_cached; /* of such a file, what the host's page cache has now, if it says */
	uint64_t dirty;	      /* bytes waiting for write-back */
	uint64_t huge;	      /* of resident, installed by the handlers as huge pages */
};

/* Reading ahead, of one file. Pages nobody took are wasted, or not taken yet. */
#define EPT_AHEAD_COUNTERS(X) \
	X(windows, "windows", "") /* windows asked for */ \
	X(reads, "reads", "")	  /* reads begun for them */ \
	X(failed, "failed", "")	  /* of these, the ones that came short or not at all */ \
	X(bytes_read, "bytes_read", "bytes") /* what came */ \
	X(pages, "pages", "pages")	     /* whole pages of it */ \
	X(used, "used", "pages")	     /* of these, taken by a fault's window since */ \
	X(wasted, "wasted", "pages")	     /* of these, not taken so far */

struct ept_ahead_stats {
#define X(field, name, unit) uint64_t field;
	EPT_AHEAD_COUNTERS(X)
#undef X
};

/* Of a file that the host kernel maps: what was brought in ahead of who touches it. */
#define EPT_LEAD_COUNTERS(X) \
	X(windows, "windows", "")    /* windows ahead of readers */ \
	X(pieces, "pieces", "")	     /* of the file, up to 2 MiB, that were not all there */ \
	X(read, "read", "bytes")     /* of these, what the host's page cache lacked */ \
	X(copied, "copied", "pages") /* private copies made ahead of writers */ \
	X(failed, "failed", "")	     /* steps that failed: who touches the page finds out why */ \
	X(dropped, "dropped", "")    /* windows of both kinds that there was no room for */

struct ept_lead_stats {
#define X(field, name, unit) uint64_t field;
	EPT_LEAD_COUNTERS(X)
#undef X
};

const char *ept_area_name(const struct ept_area *area);
void ept_area_info(struct ept_area *area, struct ept_area_info *out);

/* Where it lies, bytes: the two of these that cost nothing to ask for. */
void ept_area_range(const struct ept_area *area, gpa_t *gpa, uint64_t *size);

/*
 * How many of @pages pages from @from on, all of @area, count as resident: without a lock, so of
 * one moment only while nothing changes. Takes some 6 ns a page of an area of the host kernel,
 * of the handlers' 2 ns where anything near was ever touched.
 */
uint64_t ept_area_resident_pages(const struct ept_area *area, gpa_t from, uint64_t pages);

/* All zero but for a file that the host kernel maps. */
void ept_area_lead_stats(const struct ept_area *area, struct ept_lead_stats *out);

/* All zero for anonymous memory. */
void ept_area_ahead_stats(const struct ept_area *area, struct ept_ahead_stats *out);

/* Pages of its file that are being read ahead now: what they bring is not there yet. */
uint64_t ept_area_coming(const struct ept_area *area);

/* How this space reads ahead: "io_uring", "pread" (no io_uring on this host), "off". */
const char *ept_space_reads_by(const struct ept_space *space);

/*
 * The counters of one case of one area; index ept_area_count() holds what hit
 * no area. A waiter is woken before its fault is counted: counters, and events
 * being the sum of cases, are exact once the space is stopped.
 */
void ept_area_case_stats(const struct ept_space *space, size_t index, enum ept_case c,
			 struct ept_case_stats *out);

/*
 * Of the events that a vCPU is known to have raised: the object was read for it, or not, or another
 * thread was there before (spurious, transit). What failed is none of these. KVM's own worker
 * faults under another thread's id: whose vCPU's that is, nobody tells.
 */
#define EPT_VCPU_COUNTERS(X) \
	X(minor, "minor") \
	X(major, "major") \
	X(raced, "raced")

struct ept_vcpu_stats {
#define X(field, name) uint64_t field;
	EPT_VCPU_COUNTERS(X)
#undef X
};

/* @vcpu below ept_config.vcpus. */
void ept_vcpu_stats(const struct ept_space *space, unsigned vcpu, struct ept_vcpu_stats *out);

/*
 * Sampled faults, of all vCPUs. A kick has no sample where the vCPU had left KVM_RUN for something
 * else before it came. Listed once.
 */
#define EPT_SAMPLING_COUNTERS(X) \
	X(every, "every") /* one of so many faults of a vCPU is sampled */ \
	X(faults, \
	  "faults")	  /* of known vCPUs, that put something in or granted it, or failed to */ \
	X(kicks, "kicks") /* of these, the ones whose vCPU was kicked */ \
	X(taken, "taken") /* samples */ \
	X(refaults, "refaults") /* events that there would not have been without the kick */

struct ept_sampling_stats {
#define X(field, name) uint64_t field;
	EPT_SAMPLING_COUNTERS(X)
#undef X
};

/* False: none are sampled. */
bool ept_space_sampling(const struct ept_space *space, struct ept_sampling_stats *out);

/* Events read from userfaultfd, by origin; each has ended as exactly one case. */
void ept_space_events(const struct ept_space *space, uint64_t by_origin[EPT_NR_ORIGINS]);

/* Events come of these; a device or the loader touches by a call. */
static inline bool ept_origin_has_events(enum ept_origin origin)
{
	return origin == EPT_ORIGIN_VCPU || origin == EPT_ORIGIN_KVM;
}

/*
 * The books of one instant, which hold while the guest runs, too:
 *
 *   events = in_flight + counted, of each origin that has events
 *
 * @counted is the sum over the cases of all areas, so it says that each event that has ended is
 * one case, none and no two. What a vCPU touched where nothing is, or may not write, came as an
 * exit of KVM: it has a case, and is in @exits, not in @counted.
 */
struct ept_reconciliation {
	bool settled; /* false: faults came too fast to look in between; sums are of some moments */
	uint64_t events[EPT_NR_ORIGINS];    /* read from userfaultfd */
	uint64_t in_flight[EPT_NR_ORIGINS]; /* of these, not ended yet */
	uint64_t counted[EPT_NR_ORIGINS];   /* faults that ended as a case */
	uint64_t cases[EPT_NR_CASES];	    /* the same of events alone, by case */
	uint64_t exits;
};

void ept_space_reconcile(const struct ept_space *space, struct ept_reconciliation *out);

/* What does not close: events that ended without a case, or (negative) with more than one. */
int64_t ept_reconciliation_open(const struct ept_reconciliation *r, enum ept_origin origin);

/*
 * Fault debt: when the pages that were ever brought in came, and with how many faults. A start
 * that is quick and brings its pages later owes them. Pages count once they are first there for
 * the guest, so not those that come back from the pool or the swap file, or are copied or made
 * writable in place; those of a file that were dropped count again. Times are from
 * ept_space_begins() on, to within 6.25 %, never too early; pages that were there before count as
 * of 0. Faults are events of userfaultfd.
 */
struct ept_debt_point {
	uint64_t ns, pages, faults; /* what had come by then */
};

/* 16 a power of two of 1.024 us: up to 26 days; the last one takes what is later. */
#define EPT_DEBT_BUCKETS 576

/* One moment's copy, so that what is made of it agrees. */
struct ept_debt_stats {
	uint64_t ns; /* since the start; the caller may put in an earlier end */
	uint64_t bucket[EPT_DEBT_BUCKETS];
};

/* The host kernel's areas are not in it: nothing is told of them. */
void ept_space_debt(const struct ept_space *space, struct ept_debt_stats *out);

/* All that has come, and now. */
void ept_debt_all(const struct ept_debt_stats *stats, struct ept_debt_point *out);
/* When @percent (1 to 100) of it had come; zeros: no page has. */
void ept_debt_at(const struct ept_debt_stats *stats, unsigned percent, struct ept_debt_point *out);

/* Of 2 MiB backing under the host kernel's engine, listed once. */
#define EPT_HUGE_COUNTERS(X) \
	X(scans, "scans")	  /* looks at what is present */ \
	X(collapsed, "collapsed") /* regions of 4 KiB pages made one huge page */ \
	X(filled, "filled")	  /* pages of 4 KiB brought ahead of a stream in its region */ \
	X(ahead, "ahead")	  /* regions told to be huge before their first touch */ \
	X(bets, "bets")	      /* of those collapsed, the ones with less than 7 in 8 pages there */ \
	X(refused, "refused") /* the host had no huge page to give, or could not now */

struct ept_huge_stats {
#define X(field, name) uint64_t field;
	EPT_HUGE_COUNTERS(X)
#undef X
};

void ept_space_huge_stats(const struct ept_space *space, struct ept_huge_stats *out);

/* --- the memory limit -------------------------------------------------------- */

/* Listed once, with the unit; docs/reclaim.md and docs/stats.md say what each is. */
#define EPT_RECLAIM_COUNTERS(X) \
	X(limit, "limit", "bytes") \
	X(resident, "resident", "bytes")     /* what counts against it, now */ \
	X(peak, "peak", "bytes")	     /* the most it ever was */ \
	X(pool, "pool", "bytes")	     /* of it, compressed pages in memory */ \
	X(swapped, "swapped", "bytes")	     /* of the guest, in the swap file now */ \
	X(swap_used, "swap_used", "bytes")   /* of the swap file, in use now */ \
	X(sampled, "sampled", "pages")	     /* made to fault again */ \
	X(hits, "hits", "pages")	     /* of these, touched in time */ \
	X(dropped, "dropped", "pages")	     /* of files, given back */ \
	X(zeroed, "zeroed", "pages")	     /* own pages that held zeros, given back */ \
	X(compressed, "compressed", "pages") /* own pages that went to the pool */ \
	X(compressed_bytes, "compressed_bytes", "bytes") /* what they took there */ \
	X(written, "written", "pages")			 /* of these, written to the swap file */ \
	X(written_bytes, "written_bytes", "bytes") \
	X(read, "read", "pages") /* read back from it */ \
	X(read_bytes, "read_bytes", "bytes") \
	X(refaults, "refaults", "pages")   /* reclaimed pages that were asked for again */ \
	X(activated, "activated", "pages") /* of these, back so soon that they stay for longer */ \
	X(ahead, "ahead", "pages")	   /* brought back with one that was asked for */ \
	X(waits, "waits", "")		   /* faults that waited for memory */ \
	X(rounds, "rounds", "")		   /* of reclaim */ \
	X(looked, "looked", "pages")	   /* sampled or at the ring's end, in all rounds */ \
	X(syncs, "syncs", "")		   /* write-backs for pages' sake */

struct ept_reclaim_stats {
#define X(field, name, unit) uint64_t field;
	EPT_RECLAIM_COUNTERS(X)
#undef X
	int swap_error; /* 0, or why no page goes to the swap file any more: negative errno */
};

/* false, and all zeros: the space has no limit. */
bool ept_reclaim_stats(const struct ept_space *space, struct ept_reclaim_stats *out);

#endif
