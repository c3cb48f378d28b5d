/*
 * Leading who touches a file that the host kernel maps: bringing pages in before they
 * are asked for. The governor says which (density_file.c); the thread that may wait for
 * storage (watch.h) does it, so that nobody else waits: not the governor, not a vCPU, and
 * a stop no longer than for any file.
 *
 * To read ahead is to have the file in the host's page cache, shared by every monitor,
 * in pieces of 2 MiB where the file system has large folios: a page table's entry, and
 * a nested one, then map all of it at once. Such a piece is read where memory that wants
 * huge pages is touched, so the file is mapped once more, where no guest sees it.
 */
#ifndef FOAL_EPT_LEAD_H
#define FOAL_EPT_LEAD_H

#include "ept/ept.h"
#include "ept/stats.h"

#include <pthread.h>

struct ept_area;
struct ept_space;

/* Of an area. */
struct ept_lead {
	int fd;	    /* the file once more: the read-ahead of whoever faults is not disturbed */
	char *view; /* of the whole object, congruent to its place in the file; NULL: none */
	void *room; /* what mmap gave for it */
	size_t room_size;
	struct ept_lead_stats stats; /* atomic */
};

#define EPT_LEAD_JOBS 16

enum ept_lead_kind { EPT_LEAD_COPY, EPT_LEAD_READ };

/* Pages of an area to bring in. */
struct ept_lead_job {
	struct ept_area *area;
	enum ept_lead_kind kind;
	uint64_t first, end; /* numbers of the area's pages; equal: not in use */
};

/* What a space has to do; all under the lock but for wake_fd. */
struct ept_lead_queue {
	pthread_mutex_t lock;
	struct ept_lead_job jobs[EPT_LEAD_JOBS];
	uint64_t turn;
	uint64_t order[EPT_LEAD_JOBS]; /* of arrival */
	int wake_fd;
};

/* 0, -EMFILE. */
int ept_lead_queue_init(struct ept_lead_queue *queue);
void ept_lead_queue_end(struct ept_lead_queue *queue);

/*
 * @area's file is mapped by the host kernel: from now on it may be led. Opens and maps;
 * what the host refuses is done without. NULL: no memory.
 */
struct ept_lead *ept_lead_create(const struct ept_area *area);
void ept_lead_free(struct ept_lead *lead);

/*
 * Have @pages pages of @area from @first on in the host's page cache; or private copies
 * of them made in guest memory. Waits for nothing. 0, or -EAGAIN: too much to do already.
 */
int ept_lead_read(struct ept_area *area, uint64_t first, uint64_t pages);
int ept_lead_copy(struct ept_area *area, uint64_t first, uint64_t pages);

/* By the thread that may wait: one step, if there is one to do. */
bool ept_lead_work(struct ept_space *space);

#endif
