#include "ept/fault_log.h"

#include "ept/space.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

_Static_assert(sizeof(struct ept_record) == 56, "a slot is a cache line");
_Static_assert(sizeof(struct ept_sample) == sizeof(struct ept_record), "the same");
_Static_assert(sizeof(struct ept_log_slot) == 64, "the same");
_Static_assert(offsetof(struct ept_log_map, slot) == EPT_PAGE_SIZE, "a page of header");

#ifndef F_SEAL_FUTURE_WRITE
#	define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* Before the last seal nobody else has it: only this mapping can ever write. */
static int map_and_seal(struct ept_fault_log *log)
{
	const int seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;
	void *map;

	if (ftruncate(log->fd, sizeof(*log->map)))
		return -errno;
	map = mmap(NULL, sizeof(*log->map), PROT_READ | PROT_WRITE, MAP_SHARED, log->fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	log->map = map;
	return fcntl(log->fd, F_ADD_SEALS, seals) ? -errno : 0;
}

#define LIMIT_SHARE 128

static unsigned slots_for(uint64_t limit)
{
	uint64_t most = limit / LIMIT_SHARE / (EPT_LOG_RINGS * sizeof(struct ept_log_slot));
	unsigned slots = EPT_LOG_SLOTS;

	while (limit && slots > EPT_LOG_LEAST && slots > most)
		slots /= 2;
	return slots;
}

int ept_fault_log_open(struct ept_fault_log *log, uint64_t limit)
{
	int err;

	*log = (struct ept_fault_log){.fd = -1};
	log->fd = memfd_create("foal-faults", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (log->fd < 0)
		return -errno;
	err = map_and_seal(log);
	if (err) {
		ept_fault_log_close(log);
		return err;
	}
	log->slots = slots_for(limit);
	return 0;
}

void ept_fault_log_close(struct ept_fault_log *log)
{
	if (log->map)
		munmap(log->map, sizeof(*log->map));
	if (log->fd >= 0)
		close(log->fd);
	*log = (struct ept_fault_log){.fd = -1};
}

int ept_fault_log_fd(const struct ept_fault_log *log)
{
	struct ept_log_map *map = log->map;

	if (!map)
		return -1;
	__atomic_store_n(&map->version, EPT_LOG_VERSION, __ATOMIC_RELAXED);
	__atomic_store_n(&map->rings, EPT_LOG_RINGS, __ATOMIC_RELAXED);
	__atomic_store_n(&map->slots, log->slots, __ATOMIC_RELAXED);
	__atomic_store_n(&map->slot_size, (uint32_t)sizeof(struct ept_log_slot), __ATOMIC_RELAXED);
	__atomic_store_n(&map->magic, EPT_LOG_MAGIC, __ATOMIC_RELEASE);
	return log->fd;
}

/* --- writing ---------------------------------------------------------------------------- */

static _Thread_local unsigned own_ring; /* 1 + it; 0: none yet */

void ept_fault_log_choose(unsigned thread)
{
	own_ring = 1 + thread % EPT_LOG_RINGS;
}

static unsigned ring_of_thread(void)
{
	static unsigned next;

	if (!own_ring)
		ept_fault_log_choose(__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED));
	return own_ring - 1;
}

/* @one, of EPT_LOG_WORDS, into @ring, whose @count slots are at @slots. */
static void put(struct ept_log_ring *ring, struct ept_log_slot *slots, unsigned count,
		const void *one)
{
	uint64_t ticket = __atomic_fetch_add(&ring->head, 1, __ATOMIC_RELAXED);
	struct ept_log_slot *slot = &slots[ticket % count];
	uint64_t seq = __atomic_load_n(&slot->seq, __ATOMIC_RELAXED);
	uint64_t words[EPT_LOG_WORDS];

	if (seq % 2 || seq > 2 * ticket ||
	    !__atomic_compare_exchange_n(&slot->seq, &seq, 2 * ticket + 1, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return;
	memcpy(words, one, sizeof(words));
	/* Who reads one of these sees at least the seq from before it: release each. */
	for (unsigned i = 0; i < EPT_LOG_WORDS; i++)
		__atomic_store_n(&slot->word[i], words[i], __ATOMIC_RELEASE);
	__atomic_store_n(&slot->seq, 2 * ticket + 2, __ATOMIC_RELEASE);
}

void ept_fault_log_put(struct ept_fault_log *log, const struct ept_record *record)
{
	unsigned ring = ring_of_thread();

	put(&log->map->ring[ring], log->map->slot[ring], log->slots, record);
}

void ept_fault_log_put_sample(struct ept_fault_log *log, const struct ept_sample *sample)
{
	put(&log->map->samples, log->map->sample, EPT_LOG_SAMPLES, sample);
}

/* --- the record of a fault ------------------------------------------------------------- */

static uint32_t clipped(uint64_t value)
{
	return value < UINT32_MAX ? (uint32_t)value : UINT32_MAX;
}

/* A stage that ended at @end; 0: there was none. */
static uint32_t stage(uint64_t begin, uint64_t end)
{
	if (!end)
		return 0;
	return end > begin ? clipped(end - begin) : 1;
}

static uint8_t flags_of(const struct ept_request *req, const struct ept_resolution *res)
{
	unsigned flags = 0;

	if (res->major)
		flags |= EPT_RECORD_MAJOR;
	if (res->fallback)
		flags |= EPT_RECORD_FALLBACK;
	if (req->flags & EPT_FAULT_EVENT)
		flags |= EPT_RECORD_EVENT;
	if (req->flags & EPT_FAULT_PROTECT)
		flags |= EPT_RECORD_PROTECT;
	return (uint8_t)flags;
}

void ept_fault_log_note(struct ept_space *space, const struct ept_area *area,
			const struct ept_request *req, const struct ept_resolution *res,
			uint64_t resolved)
{
	uint64_t at = req->picked_up;
	struct ept_record record;

	if (!space->log.map)
		return;
	if (!at)
		at = ept_now();
	record = (struct ept_record){
	    .at = at,
	    .gpa = req->gpa.v & EPT_PAGE_MASK,
	    .read_ns = stage(at, res->read_at),
	    .put_ns = stage(at, res->put_at),
	    .done_ns = stage(at, resolved),
	    .installed = clipped(res->installed),
	    .around = clipped(res->around < res->installed ? res->around : res->installed),
	    .granted = clipped(res->granted),
	    .bytes_read = clipped(res->bytes_read),
	    .area = area && area->index < EPT_RECORD_NONE ? (uint16_t)area->index : EPT_RECORD_NONE,
	    .vcpu = req->vcpu ? (uint16_t)(req->vcpu - 1) : EPT_RECORD_NONE,
	    .kase = (uint8_t)res->kase,
	    .origin = (uint8_t)req->origin,
	    .access = (uint8_t)req->access,
	    .flags = flags_of(req, res),
	    .error = (uint16_t)-res->error,
	};
	ept_fault_log_put(&space->log, &record);
}

int ept_space_records_fd(const struct ept_space *space)
{
	return ept_fault_log_fd(&space->log);
}
