/*
 * The reader of a fault log: beside threads that write, or of a process that is gone. Nothing in
 * the file is trusted: it may change at any time, to anything.
 */
#include "ept/record.h"

#include "ept/fault_log.h"
#include "ept/ledger.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* How long a ticket that was taken may stay without its record: its thread may not be running. */
#define PATIENCE_NS 100000000UL

#define FLAGS	    (EPT_RECORD_MAJOR | EPT_RECORD_FALLBACK | EPT_RECORD_EVENT | EPT_RECORD_PROTECT)
#define MAX_ERRNO   4095

struct ring {
	const struct ept_log_ring *log;
	const struct ept_log_slot *slot;
	unsigned slots;
	uint64_t next;	/* ticket */
	uint64_t since; /* the record of that one is waited for: ept_now(); 0: it is not */
	uint64_t lost;
	bool has; /* one that was taken out, and not given out yet */
	union {
		struct ept_record record;
		struct ept_sample sample;
	};
};

struct ept_records {
	const struct ept_log_map *map;
	struct ring ring[EPT_LOG_RINGS], samples;
};

/*
 * In memory that is the host's own, and stays: who touches a page of anything else may wait, or
 * get SIGBUS.
 */
static bool is_safe(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;
	struct stat st;

	return seals >= 0 && seals & F_SEAL_SHRINK && fstatfs(fd, &fs) == 0 &&
	       fs.f_type == TMPFS_MAGIC && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	       st.st_size == (off_t)sizeof(struct ept_log_map);
}

/* The slots of a ring, if it is a log; else 0. */
static unsigned slots_of(const struct ept_log_map *map)
{
	unsigned slots = __atomic_load_n(&map->slots, __ATOMIC_RELAXED);

	if (map->magic != EPT_LOG_MAGIC || map->version != EPT_LOG_VERSION ||
	    map->rings != EPT_LOG_RINGS || map->slot_size != sizeof(struct ept_log_slot))
		return 0;
	return slots >= EPT_LOG_LEAST && slots <= EPT_LOG_SLOTS && !(slots & (slots - 1)) ? slots
											  : 0;
}

static uint64_t head_of(const struct ring *ring)
{
	return __atomic_load_n(&ring->log->head, __ATOMIC_ACQUIRE);
}

static void begin(struct ring *ring, const struct ept_log_ring *log,
		  const struct ept_log_slot *slot, unsigned slots, bool now)
{
	*ring = (struct ring){.log = log, .slot = slot, .slots = slots};
	ring->next = now ? head_of(ring) : 0;
}

int ept_records_open(int fd, bool now, struct ept_records **out)
{
	struct ept_records *records;
	unsigned slots;
	void *map;

	if (!is_safe(fd))
		return -EINVAL;
	map = mmap(NULL, sizeof(struct ept_log_map), PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return errno == ENOMEM ? -ENOMEM : -EINVAL;
	slots = slots_of(map);
	records = slots ? calloc(1, sizeof(*records)) : NULL;
	if (!records) {
		munmap(map, sizeof(struct ept_log_map));
		return slots ? -ENOMEM : -EINVAL;
	}
	const struct ept_log_map *log = records->map = map;
	for (unsigned i = 0; i < EPT_LOG_RINGS; i++)
		begin(&records->ring[i], &log->ring[i], log->slot[i], slots, now);
	begin(&records->samples, &log->samples, log->sample, EPT_LOG_SAMPLES, now);
	*out = records;
	return 0;
}

void ept_records_close(struct ept_records *records)
{
	if (!records)
		return;
	munmap((void *)(uintptr_t)records->map, sizeof(*records->map));
	free(records);
}

uint64_t ept_records_lost(const struct ept_records *records)
{
	uint64_t lost = 0;

	for (unsigned i = 0; i < EPT_LOG_RINGS; i++)
		lost += records->ring[i].lost;
	return lost;
}

uint64_t ept_samples_lost(const struct ept_records *records)
{
	return records->samples.lost;
}

/* --- one slot ------------------------------------------------------------------------------ */

enum found { FOUND, COMING, GONE };

/* Its seq before and behind says that what was read between is the record of @ticket. */
static enum found look(const struct ept_log_slot *slot, uint64_t ticket, void *out)
{
	uint64_t whole = 2 * ticket + 2, seq = __atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE);
	uint64_t words[EPT_LOG_WORDS];

	if (seq > whole)
		return GONE;
	if (seq < whole) /* odd and not its own: it found the slot taken, and was dropped */
		return seq % 2 && seq + 1 < whole ? GONE : COMING;
	for (unsigned i = 0; i < EPT_LOG_WORDS; i++)
		words[i] = __atomic_load_n(&slot->word[i], __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&slot->seq, __ATOMIC_RELAXED) != whole)
		return GONE;
	memcpy(out, words, sizeof(words));
	return FOUND;
}

/* A stage follows the ones before it; 0: there was none. */
static bool stages_follow(const struct ept_record *r)
{
	if (!r->done_ns)
		return !r->read_ns && !r->put_ns;
	return r->read_ns <= r->done_ns && r->put_ns <= r->done_ns &&
	       (!r->put_ns || r->read_ns <= r->put_ns);
}

static bool is_valid(const struct ept_record *r)
{
	return r->at && r->at <= INT64_MAX && !(r->gpa & ~EPT_PAGE_MASK) &&
	       r->around <= r->installed &&
	       (r->vcpu < EPT_MAX_VCPUS || r->vcpu == EPT_RECORD_NONE) && r->kase < EPT_NR_CASES &&
	       r->origin < EPT_NR_ORIGINS && r->access <= EPT_WRITE && !(r->flags & ~FLAGS) &&
	       r->error <= MAX_ERRNO && !r->unused && stages_follow(r);
}

bool ept_sample_is_valid(const struct ept_sample *s)
{
	return s->at && s->at <= INT64_MAX && !(s->gpa & ~EPT_PAGE_MASK) &&
	       s->vcpu < EPT_MAX_VCPUS && s->access <= EPT_WRITE && s->cpl <= 3 && s->exact <= 1 &&
	       !s->unused[0] && !s->unused[1] && !s->unused[2] && !s->more[0] && !s->more[1] &&
	       !s->more[2];
}

/* --- a ring -------------------------------------------------------------------------------- */

static bool overdue(struct ring *ring)
{
	uint64_t now = ept_now();

	if (!ring->since)
		ring->since = now;
	return now - ring->since >= PATIENCE_NS;
}

/* What the writer did not wait for us to read. */
static uint64_t skip_overwritten(struct ring *ring)
{
	uint64_t head = head_of(ring);

	if (head > ring->next && head - ring->next > ring->slots) {
		ring->lost += head - ring->slots - ring->next;
		ring->next = head - ring->slots;
		ring->since = 0;
	}
	return head;
}

static bool ring_is_valid(const struct ept_records *records, const struct ring *ring)
{
	return ring == &records->samples ? ept_sample_is_valid(&ring->sample)
					 : is_valid(&ring->record);
}

/* Take the next one out. Ends: no ticket is looked at twice, and none that is taken meanwhile. */
static bool take(const struct ept_records *records, struct ring *ring)
{
	uint64_t head = skip_overwritten(ring);

	while (ring->next < head && !ring->has) {
		const struct ept_log_slot *slot = &ring->slot[ring->next % ring->slots];
		enum found found = look(slot, ring->next, &ring->record);

		if (found == COMING && !overdue(ring))
			return false;
		ring->has = found == FOUND && ring_is_valid(records, ring);
		ring->lost += !ring->has;
		ring->next++;
		ring->since = 0;
	}
	return ring->has;
}

int ept_samples_next(struct ept_records *records, struct ept_sample *out)
{
	struct ring *ring = &records->samples;

	if (!ring->has && !take(records, ring))
		return 0;
	*out = ring->sample;
	ring->has = false;
	return 1;
}

int ept_records_next(struct ept_records *records, struct ept_record *out)
{
	struct ring *first = NULL;

	for (unsigned i = 0; i < EPT_LOG_RINGS; i++) {
		struct ring *ring = &records->ring[i];

		if ((ring->has || take(records, ring)) &&
		    (!first || ring->record.at < first->record.at))
			first = ring;
	}
	if (!first)
		return 0;
	*out = first->record;
	first->has = false;
	return 1;
}
