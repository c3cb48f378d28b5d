/*
 * A machine for one device: memory, a host that records what the device calls,
 * and enough of a virtio driver to send any ring contents.
 */
#ifndef FOAL_TESTS_RIG_H
#define FOAL_TESTS_RIG_H

#include <check.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>

#include "devices/devices.h"
#include "guest/abi.h"
#include "tests/devices/fake_ept.h"

/* Where the driver puts things. */
#define RIG_MEMORY  (16UL << 20)
#define RIG_QUEUE   0x10000UL
#define RIG_DESC    0x1000UL
#define RIG_AVAIL   0x3000UL
#define RIG_USED    0x5000UL
#define RIG_TABLE   0x6000UL
#define RIG_HEADER  0x8000UL
#define RIG_STATUS  0x8100UL
#define RIG_DATA    0x100000UL
#define RIG_OUTSIDE (1UL << 40)

#define RIG_PIN	    FOAL_VIRTIO_MMIO_PIN
#define RIG_BASE    FOAL_VIRTIO_MMIO_BASE

#define RIG_LOG	    64

struct rig {
	struct ept_space *memory;
	struct device_host host;
	struct bus *bus;
	struct device *dev;

	/* What the device called. */
	atomic_uint rises; /* of its pin */
	atomic_bool level;
	unsigned nr_msi, nr_routes;
	struct {
		uint64_t addr;
		uint32_t data;
		unsigned pin;
		bool masked;
	} msi[RIG_LOG], route[RIG_LOG];
	int exit_status;
	unsigned resets;

	/* The driver; indexes are those of the selected queue. */
	uint16_t size, avail_idx, used_idx;
	unsigned queue;
	struct {
		uint16_t avail_idx, used_idx;
	} others[8];
	bool event_idx;
};

#define VERSION_1 (1ULL << VIRTIO_F_VERSION_1)
#define INDIRECT  (1ULL << VIRTIO_RING_F_INDIRECT_DESC)
#define EVENT_IDX (1ULL << VIRTIO_RING_F_EVENT_IDX)

void rig_init(struct rig *rig);
void rig_fini(struct rig *rig);

/* Put the device on the bus at RIG_BASE. */
void rig_attach(struct rig *rig, struct device *dev);
uint32_t rig_get(struct rig *rig, uint64_t reg);
void rig_set(struct rig *rig, uint64_t reg, uint32_t value);

/* Go as far as FEATURES_OK; whether it stuck. */
bool rig_negotiate(struct rig *rig, uint64_t features);
void rig_queue(struct rig *rig, uint16_t size);
/* All the way to DRIVER_OK. */
void rig_start(struct rig *rig, uint64_t features, uint16_t size);

/* The same for the first @nr queues; then queue 0 is selected. */
void rig_start_all(struct rig *rig, uint64_t features, uint16_t size, unsigned nr);
/* Go on with queue @index, whose rings are RIG_QUEUE bytes behind those of the one before. */
void rig_select(struct rig *rig, unsigned index);

void rig_desc(struct rig *rig, unsigned index, uint64_t addr, uint32_t len, uint16_t flags,
	      uint16_t next);
/* Offer the chain that begins at @head, without telling. */
void rig_offer(struct rig *rig, uint16_t head);
void rig_notify(struct rig *rig);
/* How much of the selected queue is used, as the driver reads it. */
uint16_t rig_used_idx(struct rig *rig);
/* 100 us: how often what has no event of its own is looked at. */
void rig_nap(void);
/* Wait for the next used element; false after five seconds. */
bool rig_wait_used(struct rig *rig, struct vring_used_elem *elem);
/* Wait until the device says that it needs a reset. */
bool rig_wait_broken(struct rig *rig);
/* Wait until @flag is as @value. */
bool rig_wait(atomic_bool *flag, bool value);
/*
 * Wait until the device's worker sleeps with nothing to wake it: it has done all that it
 * was told of, and will do nothing more. False: it does not come to rest.
 */
bool rig_wait_idle(void);
/* Wait until ioctl(2) @request, FIONREAD or SIOCOUTQ, says @bytes of @fd. */
bool rig_wait_bytes(int fd, unsigned long request, int bytes);

/* A new file of @size bytes, each of its sectors holding its number; a block device over it. */
int rig_file(uint64_t size);
void rig_blk(struct rig *rig, int fd, enum disk_mode mode);
void rig_blk_new(struct rig *rig, uint64_t size, enum disk_mode mode);
/* Offer a request with @len bytes of data at RIG_DATA, and tell the device. */
void rig_request_begin(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len);
/* The same, and wait for it; returns its status. */
int rig_request(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len);
/* The same, for what comes back in the used ring. */
uint32_t rig_request_used(struct rig *rig, uint32_t type, uint64_t sector, uint32_t len,
			  int *status);
struct disk_stats rig_stats(struct rig *rig);

Suite *bus_suite(void);
Suite *state_suite(void);
Suite *hold_suite(void);
Suite *ioapic_suite(void);
Suite *serial_suite(void);
Suite *platform_suite(void);
Suite *fw_cfg_suite(void);
Suite *rtc_suite(void);
Suite *virtio_suite(void);
Suite *virtio_reset_suite(void);
Suite *virtio_type_suite(void);
Suite *virtqueue_suite(void);
Suite *packed_suite(void);
Suite *rings_suite(void);
Suite *blk_suite(void);
Suite *disk_suite(void);
Suite *disk_failures_suite(void);
Suite *remote_suite(void);
Suite *foal_nbd_suite(void);
Suite *vsock_suite(void);
Suite *vsock_hostile_suite(void);
Suite *vsock_connector_suite(void);
Suite *pmem_suite(void);
Suite *balloon_suite(void);
Suite *net_suite(void);
Suite *net_rx_suite(void);
Suite *console_suite(void);
Suite *rng_suite(void);
Suite *pci_suite(void);
Suite *pci_virtio_suite(void);

#endif
