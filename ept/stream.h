/*
 * Streams: what an area's last faults say of the next ones, and so how much is
 * mapped, read and read ahead with each. Nothing here reads or maps.
 *
 * A fault that comes exactly where the mapping of an earlier one ended belongs
 * to that one's stream: it proves a sequential reader, whose window grows (16,
 * 64, 512 pages). Any other fault starts a stream; after EPT_MISSES of them the
 * area counts as read at random, and such a fault reads its own page alone.
 * What is cached is mapped around it all the same. Several streams an area:
 * readers that take turns do not hide each other.
 *
 * Random reads may be dense: with each such fault in a leaf the window around the
 * next one there doubles, of what is mapped and of what is read. Of the latter no
 * more than the host's own path would read around its misses: at most a read-ahead
 * of the device each, a hundred times (filemap_fault).
 *
 * Pages here are guest-physical page numbers.
 */
#ifndef FOAL_EPT_STREAM_H
#define FOAL_EPT_STREAM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define EPT_STREAMS	8
#define EPT_MISSES	8    /* faults of no stream until reads count as random */
#define EPT_WINDOW_MAX	512U /* pages: a leaf */
#define EPT_SYNC_MAX	64U  /* pages that a fault reads itself; the rest is read ahead */
#define EPT_HOST_MISSES 100  /* misses until the host's path reads a page alone */
#define EPT_COPY_SHARE	16   /* a writer is copied ahead this part of what it wrote in order */
#define EPT_STREAM_IDLE 64   /* faults until a stream that nobody follows may be replaced */

struct ept_stream {
	uint64_t start;	 /* the first fault's page */
	uint64_t last;	 /* the last fault's page */
	uint64_t next;	 /* where a sequential reader faults next */
	uint64_t mark;	 /* the marker page: touching it starts the next read-ahead */
	uint64_t ahead;	 /* end of what was read ahead */
	uint64_t seen;	 /* the clock at the last fault; 0: unused */
	unsigned window; /* pages */
	bool proven;	 /* sequential */
};

struct ept_streams {
	pthread_mutex_t lock;
	struct ept_stream stream[EPT_STREAMS];
	uint64_t clock; /* faults */
	unsigned misses;
	uint64_t host_ahead; /* pages that the host reads around a miss; fixed before the first */
	uint64_t around;     /* pages read around random reads */
};

/* One fault, as its area and leaf have it. */
struct ept_touch {
	uint64_t page;
	uint64_t back;	       /* [back, page) is installed, as far as the leaf goes */
	uint64_t first, end;   /* of the area */
	uint64_t lfirst, lend; /* of the leaf within the area */
	unsigned around;       /* pages of a window before anything is known; 1: never more */
	unsigned near;	       /* reads of no stream in this leaf before */
	bool write;
};

/* What to do with it. All ranges hold the page or follow it. */
struct ept_step {
	uint64_t first, end;		 /* to map, as far as cached; to copy, for a write */
	uint64_t read_first, read_end;	 /* to read with the page, if that is not cached */
	uint64_t ahead_first, ahead_end; /* to read without waiting, but for the range before */
	uint64_t run;			 /* pages gone over in order up to here; 0: none */
	int stream;			 /* whose fault it is, -1: none */
	bool random;			 /* a read that goes on with nothing */
};

void ept_streams_init(struct ept_streams *s);
void ept_streams_free(struct ept_streams *s);

struct ept_step ept_streams_step(struct ept_streams *s, const struct ept_touch *touch);

/* Does the fault go on with a stream? Nothing is changed by asking. */
bool ept_streams_follows(struct ept_streams *s, const struct ept_touch *touch);

/* A stream may begin with @page, which was no fault of this table's kind. */
void ept_streams_note(struct ept_streams *s, uint64_t page);

/* The fault at @page that @step was for is done: what follows is there up to @next. */
void ept_streams_moved(struct ept_streams *s, const struct ept_step *step, uint64_t page,
		       uint64_t next);

#endif
