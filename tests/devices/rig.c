#include "tests/devices/rig.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* --- the host's side ----------------------------------------------------------------- */

static void host_set_pin(void *ctx, unsigned pin, bool level)
{
	struct rig *rig = ctx;

	(void)pin;
	if (level && !atomic_load(&rig->level))
		atomic_fetch_add(&rig->rises, 1);
	atomic_store(&rig->level, level);
}

/* Told by a worker, looked at by the test: the number comes last. */
static void host_send_msi(void *ctx, uint64_t addr, uint32_t data)
{
	struct rig *rig = ctx;
	unsigned n = rig->nr_msi;

	ck_assert_uint_lt(n, RIG_LOG);
	rig->msi[n].addr = addr;
	rig->msi[n].data = data;
	__atomic_store_n(&rig->nr_msi, n + 1, __ATOMIC_RELEASE);
}

static void host_route_pin(void *ctx, unsigned pin, uint64_t addr, uint32_t data, bool masked)
{
	struct rig *rig = ctx;

	ck_assert_uint_lt(rig->nr_routes, RIG_LOG);
	rig->route[rig->nr_routes].addr = addr;
	rig->route[rig->nr_routes].data = data;
	rig->route[rig->nr_routes].pin = pin;
	rig->route[rig->nr_routes++].masked = masked;
}

static void host_guest_exit(void *ctx, int status)
{
	((struct rig *)ctx)->exit_status = status;
}

static void host_guest_reset(void *ctx)
{
	((struct rig *)ctx)->resets++;
}

void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	rig->memory = fake_space(RIG_MEMORY);
	rig->exit_status = -1;
	rig->bus = bus_create();
	rig->host = (struct device_host){
	    .ctx = rig,
	    .vm_name = "test",
	    .memory = rig->memory,
	    .set_pin = host_set_pin,
	    .send_msi = host_send_msi,
	    .route_pin = host_route_pin,
	    .guest_exit = host_guest_exit,
	    .guest_reset = host_guest_reset,
	};
}

void rig_fini(struct rig *rig)
{
	bus_destroy(rig->bus);
	fake_space_free(rig->memory);
}

void rig_attach(struct rig *rig, struct device *dev)
{
	rig->dev = dev;
	ck_assert_int_eq(bus_attach(rig->bus, dev, RIG_BASE, FOAL_VIRTIO_MMIO_SIZE), 0);
	ck_assert_int_eq(bus_start(rig->bus), 0);
}

/* --- the driver's side ------------------------------------------------------------------ */

uint32_t rig_get(struct rig *rig, uint64_t reg)
{
	uint32_t value;

	ck_assert(bus_read(rig->bus, RIG_BASE + reg, &value, 4));
	return value;
}

void rig_set(struct rig *rig, uint64_t reg, uint32_t value)
{
	ck_assert(bus_write(rig->bus, RIG_BASE + reg, &value, 4));
}

bool rig_negotiate(struct rig *rig, uint64_t features)
{
	uint32_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	rig_set(rig, VIRTIO_MMIO_STATUS, 0);
	rig_set(rig, VIRTIO_MMIO_STATUS, status);
	for (unsigned i = 0; i < 2; i++) {
		rig_set(rig, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		rig_set(rig, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> (32 * i)));
	}
	rig_set(rig, VIRTIO_MMIO_STATUS, status | VIRTIO_CONFIG_S_FEATURES_OK);
	rig->event_idx = features & EVENT_IDX;
	return rig_get(rig, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_FEATURES_OK;
}

/* Where the selected queue has what queue 0 has at @gpa. */
static uint64_t ring(const struct rig *rig, uint64_t gpa)
{
	return gpa + rig->queue * RIG_QUEUE;
}

void rig_select(struct rig *rig, unsigned index)
{
	rig->others[rig->queue].avail_idx = rig->avail_idx;
	rig->others[rig->queue].used_idx = rig->used_idx;
	rig->queue = index;
	rig->avail_idx = rig->others[index].avail_idx;
	rig->used_idx = rig->others[index].used_idx;
}

void rig_queue(struct rig *rig, uint16_t size)
{
	memset(rig->memory->bytes + ring(rig, RIG_DESC), 0, RIG_HEADER - RIG_DESC);
	rig->size = size;
	rig->avail_idx = rig->used_idx = 0;
	rig_set(rig, VIRTIO_MMIO_QUEUE_SEL, rig->queue);
	rig_set(rig, VIRTIO_MMIO_QUEUE_NUM, size);
	rig_set(rig, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)ring(rig, RIG_DESC));
	rig_set(rig, VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
	rig_set(rig, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)ring(rig, RIG_AVAIL));
	rig_set(rig, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0);
	rig_set(rig, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)ring(rig, RIG_USED));
	rig_set(rig, VIRTIO_MMIO_QUEUE_USED_HIGH, 0);
	rig_set(rig, VIRTIO_MMIO_QUEUE_READY, 1);
}

void rig_start(struct rig *rig, uint64_t features, uint16_t size)
{
	ck_assert(rig_negotiate(rig, features));
	rig_queue(rig, size);
	ck_assert_uint_eq(rig_get(rig, VIRTIO_MMIO_QUEUE_READY), 1);
	rig_set(rig, VIRTIO_MMIO_STATUS,
		rig_get(rig, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void rig_start_all(struct rig *rig, uint64_t features, uint16_t size, unsigned nr)
{
	ck_assert(rig_negotiate(rig, features));
	for (unsigned i = nr; i-- > 0;) {
		rig_select(rig, i);
		rig_queue(rig, size);
		ck_assert_uint_eq(rig_get(rig, VIRTIO_MMIO_QUEUE_READY), 1);
	}
	rig_set(rig, VIRTIO_MMIO_STATUS,
		rig_get(rig, VIRTIO_MMIO_STATUS) | VIRTIO_CONFIG_S_DRIVER_OK);
}

void rig_desc(struct rig *rig, unsigned index, uint64_t addr, uint32_t len, uint16_t flags,
	      uint16_t next)
{
	struct vring_desc desc = {.addr = addr, .len = len, .flags = flags, .next = next};

	memcpy(rig->memory->bytes + ring(rig, RIG_DESC) + index * sizeof(desc), &desc,
	       sizeof(desc));
}

static uint16_t *field(struct rig *rig, uint64_t gpa)
{
	return (uint16_t *)(void *)(rig->memory->bytes + gpa);
}

void rig_offer(struct rig *rig, uint16_t head)
{
	*field(rig, ring(rig, RIG_AVAIL + 4 + 2UL * (rig->avail_idx % rig->size))) = head;
	__atomic_store_n(field(rig, ring(rig, RIG_AVAIL + 2)), ++rig->avail_idx, __ATOMIC_SEQ_CST);
}

void rig_notify(struct rig *rig)
{
	rig_set(rig, VIRTIO_MMIO_QUEUE_NOTIFY, rig->queue);
}

void rig_nap(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
}

#define TRIES 600000 /* naps: a minute */

/* What the worker sleeps on, as long as it does. */
static struct {
	pthread_mutex_t lock;
	bool asleep;
	struct pollfd fds[8];
	nfds_t nr;
} worker = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void set_asleep(bool asleep, const struct pollfd *fds, nfds_t nr)
{
	pthread_mutex_lock(&worker.lock);
	worker.asleep = asleep;
	worker.nr = nr;
	if (asleep)
		memcpy(worker.fds, fds, nr * sizeof(*fds));
	pthread_mutex_unlock(&worker.lock);
}

/* Stands before the C library's. A worker alone waits without a limit. */
int poll(struct pollfd *fds, nfds_t nr, int timeout)
{
	bool is_worker = timeout < 0 && nr <= sizeof(worker.fds) / sizeof(worker.fds[0]);
	int rc, error;

	if (is_worker)
		set_asleep(true, fds, nr);
	rc = (int)syscall(SYS_poll, fds, nr, timeout);
	error = errno;
	if (is_worker)
		set_asleep(false, NULL, 0);
	errno = error;
	return rc;
}

bool rig_wait_idle(void)
{
	for (unsigned i = 0; i < TRIES; i++, rig_nap()) {
		bool idle;

		pthread_mutex_lock(&worker.lock);
		idle = worker.asleep && syscall(SYS_poll, worker.fds, worker.nr, 0) == 0;
		pthread_mutex_unlock(&worker.lock);
		if (idle)
			return true;
	}
	return false;
}

uint16_t rig_used_idx(struct rig *rig)
{
	return __atomic_load_n(field(rig, ring(rig, RIG_USED + 2)), __ATOMIC_SEQ_CST);
}

bool rig_wait_used(struct rig *rig, struct vring_used_elem *elem)
{
	for (unsigned i = 0; i < TRIES; i++, rig_nap()) {
		if (rig_used_idx(rig) == rig->used_idx)
			continue;
		memcpy(elem,
		       rig->memory->bytes + ring(rig, RIG_USED) + 4 +
			   sizeof(*elem) * (rig->used_idx % rig->size),
		       sizeof(*elem));
		rig->used_idx++;
		return true;
	}
	return false;
}

bool rig_wait_broken(struct rig *rig)
{
	for (unsigned i = 0; i < TRIES; i++, rig_nap())
		if (rig_get(rig, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET)
			return true;
	return false;
}

bool rig_wait(atomic_bool *flag, bool value)
{
	for (unsigned i = 0; i < TRIES; i++, rig_nap())
		if (atomic_load(flag) == value)
			return true;
	return false;
}

bool rig_wait_bytes(int fd, unsigned long request, int bytes)
{
	for (unsigned i = 0; i < TRIES; i++, rig_nap()) {
		int now = -1;

		if (ioctl(fd, request, &now) == 0 && now == bytes)
			return true;
	}
	return false;
}

/* --- a block device ---------------------------------------------------------------------- */

int rig_file(uint64_t size)
{
	int fd = memfd_create("disk", 0);

	for (uint64_t sector = 0; sector < size / 512; sector++) {
		uint64_t data[64];

		for (unsigned i = 0; i < 64; i++)
			data[i] = sector;
		if (pwrite(fd, data, sizeof(data), (off_t)sector * 512) != 512)
			ck_abort_msg("sector %lu: %s", sector, strerror(errno));
	}
	return fd;
}

void rig_blk(struct rig *rig, int fd, enum disk_mode mode)
{
	struct device *dev;

	ck_assert_int_eq(
	    virtio_blk_create(&rig->host, RIG_PIN, fd, "/some/where/disk.img", mode, &dev), 0);
	rig_attach(rig, dev);
}

void rig_blk_new(struct rig *rig, uint64_t size, enum disk_mode mode)
{
	int fd = rig_file(size);

	rig_blk(rig, fd, mode);
	close(fd); /* the device has its own */
}

void rig_request_begin(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	struct virtio_blk_outhdr header = {.type = type, .sector = sector};
	bool to_guest = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
	unsigned i = 0;

	memcpy(rig->memory->bytes + RIG_HEADER, &header, sizeof(header));
	rig->memory->bytes[RIG_STATUS] = 0xee;
	rig_desc(rig, i++, RIG_HEADER, sizeof(header), VRING_DESC_F_NEXT, 1);
	if (len) {
		rig_desc(rig, i, RIG_DATA, len,
			 VRING_DESC_F_NEXT | (to_guest ? VRING_DESC_F_WRITE : 0),
			 (uint16_t)(i + 1));
		i++;
	}
	rig_desc(rig, i, RIG_STATUS, 1, VRING_DESC_F_WRITE, 0);
	rig_offer(rig, 0);
	rig_notify(rig);
}

uint32_t rig_request_used(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len,
			  int *status)
{
	struct vring_used_elem elem;

	rig_request_begin(rig, type, sector, len);
	ck_assert_msg(rig_wait_used(rig, &elem), "the request was not served");
	ck_assert_uint_eq(elem.id, 0);
	*status = rig->memory->bytes[RIG_STATUS];
	return elem.len;
}

int rig_request(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len)
{
	int status;

	rig_request_used(rig, type, sector, len, &status);
	return status;
}

struct disk_stats rig_stats(struct rig *rig)
{
	struct disk_stats stats;

	virtio_blk_stats(rig->dev, &stats);
	return stats;
}
