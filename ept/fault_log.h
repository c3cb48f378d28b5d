/*
 * The fault log as it lies in memory, and who writes it (record.h: who reads). Shared with
 * processes that map the same file and trust nothing in it.
 *
 * A page of header, then EPT_LOG_RINGS rings of EPT_LOG_SLOTS slots, of which as many are used as
 * the header says, a power of two, and a ring of samples. Whoever writes a record takes the next
 * ticket of a ring, whose slot is ticket % slots, and makes the slot's seq 2 * ticket + 1,
 * then 2 * ticket + 2 when the record is whole. A slot that somebody has been writing to for a
 * whole round of its ring, or that a later one has, is left alone: that record is dropped, and its
 * reader sees by seq that it will not come.
 */
#ifndef FOAL_EPT_FAULT_LOG_H
#define FOAL_EPT_FAULT_LOG_H

#include "ept/fault.h"
#include "ept/record.h"

#define EPT_LOG_MAGIC	0x676f6c746c756166UL /* "faultlog" */
#define EPT_LOG_VERSION 2U		     /* 1: without samples */
#define EPT_LOG_RINGS	4U
#define EPT_LOG_SLOTS	32768U
#define EPT_LOG_LEAST	64U /* slots of a ring */
#define EPT_LOG_SAMPLES 1024U

#define EPT_LOG_WORDS	(sizeof(struct ept_record) / sizeof(uint64_t))

struct ept_log_slot {
	uint64_t seq;		      /* atomic */
	uint64_t word[EPT_LOG_WORDS]; /* of a record or a sample; atomic each */
};

struct ept_log_ring {
	uint64_t head; /* tickets taken; atomic */
	uint64_t unused[7];
};

struct ept_log_map {
	uint64_t magic;
	uint32_t version, rings, slots, slot_size;
	uint64_t unused[5];
	struct ept_log_ring ring[EPT_LOG_RINGS];
	struct ept_log_ring samples;
	char rest[EPT_PAGE_SIZE - 64 - (EPT_LOG_RINGS + 1) * sizeof(struct ept_log_ring)];
	struct ept_log_slot slot[EPT_LOG_RINGS][EPT_LOG_SLOTS];
	struct ept_log_slot sample[EPT_LOG_SAMPLES];
};

/* A space's side. */
struct ept_fault_log {
	int fd;			 /* -1: there is none; for others: ept_fault_log_fd() */
	struct ept_log_map *map; /* NULL: the same */
	unsigned slots;		 /* of a ring that are used */
};

/*
 * Make one, empty; its pages are there when they are written, at most a 128th of @limit bytes of
 * them where that is not 0, but EPT_LOG_LEAST slots a ring. -EMFILE, -ENOMEM, what the host
 * says to memfd_create(2): there is none then. Async-signal-safe.
 */
int ept_fault_log_open(struct ept_fault_log *log, uint64_t limit);
/*
 * What others can map: -1: there is none. Its header is written here and not before, so that the
 * log of a clone that nobody looks at, and that no fault is written to, has no page. Any thread.
 */
int ept_fault_log_fd(const struct ept_fault_log *log);
/* Let go of it, if there is one; in a forked child, of its parent's. Async-signal-safe. */
void ept_fault_log_close(struct ept_fault_log *log);

/* The ring that the calling thread writes to from here on; without it, it is given one. */
void ept_fault_log_choose(unsigned thread);

/* Write one; never waits. Any thread. */
void ept_fault_log_put(struct ept_fault_log *log, const struct ept_record *record);
void ept_fault_log_put_sample(struct ept_fault_log *log, const struct ept_sample *sample);

/*
 * Write the record of a fault, if @space has a log. @area NULL: no area. @resolved: ept_now()
 * then; 0: it took no time that was measured.
 */
void ept_fault_log_note(struct ept_space *space, const struct ept_area *area,
			const struct ept_request *req, const struct ept_resolution *res,
			uint64_t resolved);

#endif
