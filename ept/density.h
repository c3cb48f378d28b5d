/*
 * How memory of the host kernel's engine is touched, and what follows: which 2 MiB of
 * anonymous memory become one huge page (density_anon.c, docs/huge-pages.md), what of a
 * file is brought in ahead of who reads and writes it (density_file.c,
 * docs/fault-paths.md). No thread and no clock of its own, so that a test can play both
 * (governor.c has them).
 */
#ifndef FOAL_EPT_DENSITY_H
#define FOAL_EPT_DENSITY_H

#include "ept/host_pages.h"
#include "ept/space.h"
#include "ept/stats.h"

#define REGION_PAGES EPT_TABLE_SIZE
#define REGION_DENSE 448 /* pages of 512: worth a huge page whatever comes */
#define STREAM_PAGES 192 /* in one run, and growing: a stream */
#define STREAM_NEXT  32	 /* the same, behind a dense region */
#define SPREAD_PAGES 4	 /* on average, and in */
#define SPREAD_GROWN 16	 /* regions at once, again: touched at random all over */
#define BET	     12	 /* such touches are worth at most so many times their memory */
#define BETS_A_CALL  8	 /* regions side by side: one call costs less */
#define BETS_A_SCAN  64
#define WINDOWS	     8
#define WINDOW_FIRST 16		/* regions ahead of a stream that is new */
#define WINDOW_MAX   128	/* regions ahead of one that goes on */
#define WINDOW_IDLE  50000000UL /* ns without progress: it is over */
#define PAUSE_FIRST  10000000UL /* ns after a refusal; doubles with each, up to */
#define PAUSE_MAX    10000000000UL
#define BUSY_MAX     8
#define DENSE_TRIES  16 /* looks in which a dense region was refused: no more are spent on it */
#define LEAD_FIRST   2	/* of a file: regions read ahead of a reader that is new */
#define LEAD_MAX     32 /* and of one that goes on */
#define LEAD_IDLE    500000000UL
#define WRITERS	     8
#define COPY_FIRST   8	/* pages copied ahead of a writer; before it is so many it is none */
#define COPY_SHARE   20 /* of what it wrote in order */
#define COPY_MAX     1024
#define HOT_MAX	     64
#define SCAN_CHUNK   16 /* regions a look at the host's tables */

#define REGION_HUGE  1 /* is one page, as far as we know */
#define REGION_AHEAD 2 /* wants to be one when it is touched */

/* Pages of a region, the first of them, and past the last; none: all 0. */
struct ept_run {
	uint16_t count, low, high;
};

/* 2 MiB of an area, as last seen. */
struct ept_region {
	uint16_t count, low, high; /* present, as in a run */
	struct ept_run own;	   /* of these, private copies of a file's */
	uint8_t flags;
	uint8_t given; /* part of it was given back: atomic, set under the governor's lock */
};

/* Regions in front of a stream that want huge pages. */
struct ept_window {
	unsigned first, end; /* equal: not in use */
	int way;	     /* 1 or -1 */
	unsigned left;	     /* of them, not reached yet */
	uint64_t moved_at;
};

/* Who writes a file's pages in order; numbers of the area's pages. */
struct ept_writer {
	uint64_t first; /* where it began */
	uint64_t mark;	/* left out of what was copied ahead: when it is there, so is the writer */
	uint64_t end;	/* of what was copied ahead; 0: not in use */
	uint64_t moved_at;
};

/* To be made huge when all has been looked at. */
struct ept_dense {
	unsigned region;
	int way; /* of the stream that is in it; 0: none */
	unsigned tries;
};

struct ept_governor;
struct ept_density;
struct ept_growth;

/* What is done about an area of a kind. */
struct ept_rules {
	/* Regions [first, first + n), a byte a page into @present: bits EPT_HOST_*. */
	int (*look)(const struct ept_governor *g, const struct ept_density *d, unsigned first,
		    unsigned n, unsigned char *present);
	/* Region @i grew from @old. */
	void (*judge)(struct ept_governor *g, struct ept_density *d, unsigned i,
		      const struct ept_region *old, uint64_t now);
	/* A stream comes to these: see to it; or (@on false) they lie in its way no more. */
	int (*ask)(struct ept_governor *g, struct ept_density *d, unsigned first, unsigned n,
		   bool on);
	/* Is nothing to do for region @i, so that it counts for none of what lies ahead? Or NULL.
	 */
	bool (*has)(const struct ept_density *d, unsigned i);
	/* Once a scan. */
	void (*scanned)(struct ept_governor *g, struct ept_density *d, uint64_t now,
			struct ept_growth *growth);
	unsigned around;       /* pages that a fault brings, at most */
	unsigned window_first; /* regions ahead of a stream that is new, */
	unsigned window_share; /* more of them for each that it filled, */
	unsigned window_max;   /* but not more than these */
	uint64_t window_idle;  /* ns without progress: it is over */
};

extern const struct ept_rules ept_rules_anon, ept_rules_file;

/* One area's. All but `given` is the governor thread's. */
struct ept_density {
	struct ept_area *area;
	const struct ept_rules *rules;
	uint64_t start; /* guest-physical, of region 0 */
	unsigned nr;
	struct ept_region *regions;
	struct ept_window windows[WINDOWS];
	unsigned hot[HOT_MAX], nr_hot; /* grew at the last scan; more than fit: all are */
	struct ept_dense dense[HOT_MAX];
	unsigned nr_dense;
	unsigned bets, next_bet;
	struct ept_writer writers[WRITERS];
};

struct ept_governor {
	struct ept_space *space;
	struct ept_density *areas;
	size_t nr_areas;
	bool files;		     /* is any of them a file? */
	pthread_mutex_t lock;	     /* a region is collapsed, or given back: not both at once */
	struct ept_huge_stats stats; /* atomic */
	uint64_t pause_until, pause;
	uint64_t busy_until; /* no collapse before; a window costs nothing and may open */
	unsigned busy;	     /* refusals in a row of the kind that passes */
	uint64_t collapsing; /* ns of CPU time, since the last look */
	unsigned placed;     /* bets, since then */

	uint64_t faults;	       /* at the last look */
	uint64_t scan_faults, scan_at; /* at the last scan */
	uint64_t wait;		       /* ns */
	bool quiet;		       /* the last look found no reason for another */
	unsigned in_vain;	       /* scans in a row that found nothing to do */
	unsigned char present[SCAN_CHUNK * REGION_PAGES];

	pthread_t thread;
	int clock_fd; /* its thread's; negative: it has no clock */
	bool running;
};

/* Pages that appeared one by one, and all of them, since the last scan. */
struct ept_growth {
	uint64_t small, all;
	uint64_t files;	  /* of all, pages of files */
	unsigned regions; /* that grew by single pages and had some before */
};

/* Look at the regions that grew last (or at all), and do what follows. */
struct ept_growth ept_density_scan_hot(struct ept_governor *g, struct ept_density *d, uint64_t now);
struct ept_growth ept_density_scan_all(struct ept_governor *g, struct ept_density *d, uint64_t now);

/* Which way the run of pages in region @i, which was @old, grows: 1 or -1. */
int ept_density_way(const struct ept_density *d, unsigned i, const struct ept_region *old);
/* Is it where a stream is that goes @way? */
bool ept_density_streams(const struct ept_density *d, unsigned i, int way);

/* Read what is present of regions [first, end) and judge each that grew. */
void ept_density_scan_range(struct ept_governor *g, struct ept_density *d, unsigned first,
			    unsigned end, uint64_t now, struct ept_growth *growth);

static inline char *ept_density_hva(const struct ept_density *d, unsigned i)
{
	return ept_hva(d->area, d->start + ((uint64_t)i << EPT_LEAF_SHIFT));
}

static inline void ept_governor_count(uint64_t *counter, uint64_t n)
{
	__atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* --- density_window.c ----------------------------------------------------------- */

/* Region @i is where a stream is, that goes @way: the regions in front want huge pages. */
void ept_window_open(struct ept_governor *g, struct ept_density *d, unsigned i, int way,
		     uint64_t now);
/* Follow each stream, and end what moves no more. */
void ept_windows_follow(struct ept_governor *g, struct ept_density *d, uint64_t now,
			struct ept_growth *growth);
void ept_windows_close_idle(struct ept_governor *g, struct ept_density *d, uint64_t now);
bool ept_windows_any(const struct ept_density *d);
/* Regions that the stream which is next to its window's end has not reached; UINT_MAX: no stream.
 */
unsigned ept_windows_left(const struct ept_density *d);

/* --- density_file.c ------------------------------------------------------------ */

bool ept_writers_any(const struct ept_density *d);
void ept_writers_close_idle(struct ept_density *d, uint64_t now);

/* --- governor.c ----------------------------------------------------------------- */

/*
 * Without a thread, for tests: NULL without memory or anything to govern. @huge: are
 * there huge pages for anonymous memory? @files: does the host tell what is mapped of files?
 */
struct ept_governor *ept_governor_create(struct ept_space *space, bool huge, bool files);
void ept_governor_free(struct ept_governor *g);

/* CPU time of the calling thread: what a look costs, however busy the host is. */
uint64_t ept_thread_ns(void);

/* One look; when to look again (ns), 0: when this process has used some CPU time. */
uint64_t ept_governor_look(struct ept_governor *g, uint64_t now);

#endif
