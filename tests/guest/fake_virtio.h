/*
 * The device's side of virtio over MMIO: a disk or persistent memory that follows the rules, or
 * breaks one of them.
 */
#ifndef TESTS_FAKE_VIRTIO_H
#define TESTS_FAKE_VIRTIO_H

#include "guest/drivers/virtio.h"
#include "tests/guest/fake_kernel.h"

#define FAKE_DISK_SECTORS 2048U

enum fake_fault {
	WELL_BEHAVED,
	WRONG_MAGIC,
	LEGACY_VERSION,
	NO_VERSION_1,
	FEATURES_REFUSED,
	NO_QUEUE,
	QUEUE_NOT_TAKEN,
	RESET_STUCK,
	NO_CAPACITY,
	USED_ID_WILD,	/* no descriptor of the queue */
	USED_ID_UNUSED, /* one that heads no request */
	USED_TWICE,
	USED_INDEX_JUMPS,
	CHAIN_CHANGED, /* the descriptors overwritten with a loop */
	STATUS_ERROR,
	STATUS_UNSUPPORTED,
	STATUS_WILD,
};

struct fake_virtio {
	enum fake_fault fault;
	u32 id;
	u64 features; /* offered */
	u32 queue_max;
	u32 config[64];
	u8 disk[FAKE_DISK_SECTORS * 512];
	bool async; /* requests wait for fake_virtio_run, or for somebody to wait */

	/* seen */
	unsigned requests, flushes, discards, notifies, interrupts, resets;
	unsigned longest_chain;
	unsigned bad_chains; /* that break section 2.7's or 5.2's rules */

	/* the device's state */
	u32 status, sel[3], interrupt_status;
	u64 driver_features;
	u32 queue_num, queue_ready;
	u64 desc, avail, used;
	u16 last_avail;
};

extern struct fake_virtio fake_virtio;

/* Has drivers_init find the device. True if it left a block device of that name. */
bool fake_virtio_start(const char *name);

/* Handles what is in the queue. */
void fake_virtio_run(void);

#endif
