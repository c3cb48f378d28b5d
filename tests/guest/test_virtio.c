/* The guest's virtio drivers against a device model: what they ask for, and what they put up with.
 */
#include "guest/abi.h"
#include "guest/include/boot.h"
#include "tests/guest/fake_virtio.h"
#include "tests/guest/fs_test.h"
#include <stdlib.h>
#include <string.h>

enum { F_SIZE_MAX = 1, F_SEG_MAX = 2, F_RO = 5, F_FLUSH = 9, F_DISCARD = 13 };

#define BIT(n) (1ULL << (n))

static unsigned done_count;

static void count_done(struct bio *bio)
{
	(void)bio;
	done_count++;
}

static struct bio *new_bio(bool write, u64 sector)
{
	struct bio *bio = calloc(1, sizeof(*bio));

	bio->write = write;
	bio->sector = sector;
	bio->done = count_done;
	bio->status = 12345;
	return bio;
}

static void add_vec(struct bio *bio, void *mem, u32 len)
{
	bio->vecs[bio->nr_vecs++] = (struct bio_vec){virt_to_phys(mem), len};
}

static struct block_device *start_disk(u64 features)
{
	fake_reset();
	fake_virtio.id = VIRTIO_ID_BLOCK;
	fake_virtio.features |= features;
	ck_assert_msg(fake_virtio_start("vda"), "%s", fake_log);
	return blkdev_lookup("vda");
}

static void wait_done(unsigned n)
{
	for (unsigned tries = 0; done_count < n && tries < 1000; tries++)
		fake_virtio_run();
	ck_assert_uint_eq(done_count, n);
}

/* Features and limits that a loop test's index stands for. */
static const struct limits {
	u64 features;
	u32 queue_max, seg_max, size_max;
} limits[] = {
    {BIT(F_SEG_MAX), 256, 128, 0},
    {BIT(F_SEG_MAX) | BIT(VIRTIO_F_INDIRECT_DESC), 256, 128, 0},
    {BIT(F_SEG_MAX) | BIT(VIRTIO_F_INDIRECT_DESC) | BIT(VIRTIO_F_EVENT_IDX), 64, 62, 0},
    {BIT(F_SEG_MAX) | BIT(VIRTIO_F_EVENT_IDX), 256, 3, 0},
    {0, 256, 0, 0}, /* one segment a request */
    {BIT(F_SEG_MAX), 5, 128, 0},
    {BIT(F_SEG_MAX) | BIT(VIRTIO_F_INDIRECT_DESC), 4, 128, 0},
    {BIT(F_SEG_MAX) | BIT(F_SIZE_MAX), 100, 128, 1000}, /* neither is a power of two */
    {BIT(F_SEG_MAX) | BIT(F_SIZE_MAX), 256, 2, 512},
};

static struct block_device *start_limited(int i)
{
	fake_virtio.queue_max = limits[i].queue_max;
	fake_virtio.config[2] = limits[i].size_max;
	fake_virtio.config[3] = limits[i].seg_max;
	return start_disk(limits[i].features);
}

/* Data of many pieces goes out and comes back, in requests the device allows. */
START_TEST(round_trip)
{
	struct block_device *bdev = start_limited(_i);
	static u8 out[40][2048], in[40][2048];
	struct bio *write = new_bio(true, 7);
	struct bio *read = new_bio(false, 7);

	ck_assert_uint_eq(bdev->sectors, FAKE_DISK_SECTORS);
	for (unsigned i = 0; i < sizeof(out); i++)
		((u8 *)out)[i] = (u8)(i * 31 + i / 512);
	for (unsigned i = 0; i < 40; i++) {
		add_vec(write, out[i], 2048);
		add_vec(read, in[39 - i], 2048); /* each piece elsewhere */
	}
	blkdev_submit(bdev, write);
	wait_done(1);
	blkdev_submit(bdev, read);
	wait_done(2);
	ck_assert_int_eq(write->status, 0);
	ck_assert_int_eq(read->status, 0);
	ck_assert(!memcmp(fake_virtio.disk + 7 * 512, out, sizeof(out)));
	for (unsigned i = 0; i < 40; i++)
		ck_assert(!memcmp(in[39 - i], out[i], 2048));
	ck_assert_uint_eq(fake_virtio.bad_chains, 0);
	u32 most = limits[_i].features & BIT(F_SEG_MAX) ? limits[_i].seg_max : 1;
	ck_assert_uint_le(fake_virtio.longest_chain, most + 2);
	free(write), free(read);
}
END_TEST

/* More bios than the queue has room for: who submits waits, and all end. */
START_TEST(many_in_flight)
{
	struct block_device *bdev = start_limited(_i);
	static u8 mem[200][1024];
	struct bio *bios[200];

	fake_virtio.async = true;
	for (unsigned i = 0; i < sizeof(fake_virtio.disk); i++)
		fake_virtio.disk[i] = (u8)(i / 512);
	for (unsigned i = 0; i < 200; i++) {
		bios[i] = new_bio(false, i);
		add_vec(bios[i], mem[i], 1024);
		blkdev_submit(bdev, bios[i]);
	}
	wait_done(200);
	for (unsigned i = 0; i < 200; i++) {
		ck_assert_int_eq(bios[i]->status, 0);
		ck_assert_uint_eq(mem[i][0], i & 255);
		ck_assert_uint_eq(mem[i][1023], (i + 1) & 255);
		free(bios[i]);
	}
	ck_assert_uint_eq(fake_virtio.bad_chains, 0);
}
END_TEST

static int status_of(struct block_device *bdev, struct bio *bio)
{
	unsigned before = done_count;

	blkdev_submit(bdev, bio);
	for (unsigned tries = 0; done_count == before && tries < 10; tries++)
		fake_virtio_run();
	ck_assert_uint_eq(done_count, before + 1);
	return bio->status;
}

START_TEST(wrong_bios)
{
	struct block_device *bdev = start_disk(BIT(F_RO));
	static u8 mem[1024];
	struct bio *bio = new_bio(false, 0);

	ck_assert_int_eq(status_of(bdev, bio), -EINVAL); /* no pieces */
	add_vec(bio, mem, 1024);
	bio->sector = FAKE_DISK_SECTORS - 2;
	ck_assert_int_eq(status_of(bdev, bio), 0);
	bio->sector++;
	ck_assert_int_eq(status_of(bdev, bio), -ERANGE);
	bio->sector = ~0ULL;
	ck_assert_int_eq(status_of(bdev, bio), -ERANGE);
	bio->sector = 0;
	bio->vecs[0].len = 100;
	ck_assert_int_eq(status_of(bdev, bio), -EINVAL);
	bio->vecs[0].len = 512;
	bio->write = true;
	ck_assert_int_eq(status_of(bdev, bio), -EROFS);
	ck_assert_uint_eq(fake_virtio.requests, 1);
	free(bio);
}
END_TEST

START_TEST(flush_and_discard)
{
	fake_virtio.config[9] = 100; /* max_discard_sectors */
	struct block_device *bdev = start_disk(_i ? BIT(F_FLUSH) | BIT(F_DISCARD) : 0);

	ck_assert_int_eq(blkdev_flush(bdev), 0);
	ck_assert_int_eq(blkdev_discard(bdev, 0, 250), _i ? 0 : -EOPNOTSUPP);
	ck_assert_uint_eq(fake_virtio.flushes, _i ? 1 : 0);
	ck_assert_uint_eq(fake_virtio.discards, _i ? 3 : 0);
	if (_i)
		ck_assert_int_eq(blkdev_discard(bdev, FAKE_DISK_SECTORS - 1, 2), -EINVAL);
	fake_virtio.fault = STATUS_ERROR;
	ck_assert_int_eq(blkdev_flush(bdev), _i ? -EIO : 0);
	fake_virtio.fault = STATUS_UNSUPPORTED;
	ck_assert_int_eq(blkdev_flush(bdev), _i ? -EOPNOTSUPP : 0);
	drivers_shutdown();
	ck_assert_uint_eq(fake_virtio.status, 0);
}
END_TEST

/* A device that cannot be used is left alone, with a message. */
START_TEST(refused_at_probe)
{
	fake_reset();
	fake_virtio.id = VIRTIO_ID_BLOCK;
	fake_virtio.fault = (enum fake_fault)_i;
	ck_assert(!fake_virtio_start("vda"));
	ck_assert_ptr_nonnull(strstr(fake_log, "not started"));
	ck_assert_uint_eq(fake_virtio.status & 4, 0); /* never DRIVER_OK */
	drivers_shutdown();
}
END_TEST

/* A device that fails or breaks the ring: the bio ends with -EIO, and nothing hangs after. */
START_TEST(fault_in_use)
{
	fake_virtio.async = true;
	struct block_device *bdev = start_disk(BIT(F_FLUSH) | BIT(F_SEG_MAX));
	static u8 mem[512];
	struct bio *bios[3];
	bool breaks = _i < STATUS_ERROR;

	fake_virtio.fault = (enum fake_fault)_i;
	for (unsigned i = 0; i < 3; i++) {
		bios[i] = new_bio(false, i);
		add_vec(bios[i], mem, 512);
		blkdev_submit(bdev, bios[i]);
	}
	wait_done(3);
	unsigned failed = 0;
	for (unsigned i = 0; i < 3; i++)
		failed += bios[i]->status != 0;
	ck_assert_uint_ge(failed, _i == USED_TWICE || _i == CHAIN_CHANGED ? 1 : 3);
	ck_assert_int_eq(!!strstr(fake_log, "not used any more"), breaks);
	if (breaks) {
		ck_assert_int_eq(status_of(bdev, bios[0]), -EIO);
		ck_assert_int_eq(blkdev_flush(bdev), -EIO);
		ck_assert_uint_eq(fake_virtio.status, 0); /* reset: no more DMA */
	}
	for (unsigned i = 0; i < 3; i++)
		free(bios[i]);
}
END_TEST

enum { PMEM_AT = 0x10000, PMEM_SIZE = 0x20000 };

/* RAM below and above of where there is room for it. */
static bool start_pmem(u64 start, u64 size)
{
	fake_reset();
	boot_info.nr_ranges = 2;
	boot_info.ranges[0] = (struct boot_range){0, PMEM_AT, FOAL_MEMMAP_RAM};
	boot_info.ranges[1] = (struct boot_range){PMEM_AT + PMEM_SIZE, PMEM_SIZE, FOAL_MEMMAP_RAM};
	fake_virtio.id = VIRTIO_ID_PMEM;
	memcpy(&fake_virtio.config[0], &start, sizeof(start));
	memcpy(&fake_virtio.config[2], &size, sizeof(size));
	return fake_virtio_start("pmem0");
}

START_TEST(pmem)
{
	ck_assert(start_pmem(PMEM_AT + 0x1000, PMEM_SIZE - 0x1000));
	struct block_device *bdev = blkdev_lookup("pmem0");
	u64 phys;

	ck_assert_uint_eq(bdev->sectors, (PMEM_SIZE - 0x1000) / 512);
	ck_assert_int_eq(bdev->ops->direct(bdev, 8, &phys), 0);
	ck_assert_uint_eq(phys, PMEM_AT + 0x2000);
	ck_assert_int_eq(bdev->ops->direct(bdev, bdev->sectors, &phys), -ERANGE);
	ck_assert_int_eq(blkdev_flush(bdev), 0);
	ck_assert_uint_eq(fake_virtio.flushes, 1);
	fake_virtio.fault = STATUS_ERROR;
	ck_assert_int_eq(blkdev_flush(bdev), -EIO);
	fake_virtio.fault = USED_ID_WILD;
	ck_assert_int_eq(blkdev_flush(bdev), -EIO);
	ck_assert_int_eq(blkdev_flush(bdev), -EIO);
	ck_assert_uint_eq(fake_virtio.bad_chains, 0);
}
END_TEST

/* Sectors through bios, in frames of this fake machine. */
START_TEST(pmem_bios)
{
	ck_assert(start_pmem(PMEM_AT, PMEM_SIZE));
	struct block_device *bdev = blkdev_lookup("pmem0");
	static u8 mem[512];
	struct bio *bio = new_bio(true, 8);
	u64 phys;

	/* Frame 0x11 is one of those with guards around. */
	ck_assert_int_eq(bdev->ops->direct(bdev, 8, &phys), 0);
	memset(mem, 'p', sizeof(mem));
	add_vec(bio, mem, sizeof(mem));
	ck_assert_int_eq(status_of(bdev, bio), 0);
	ck_assert(!memcmp(phys_to_virt(phys), mem, sizeof(mem)));
	bio->write = false;
	memset(mem, 0, sizeof(mem));
	ck_assert_int_eq(status_of(bdev, bio), 0);
	ck_assert_uint_eq(mem[511], 'p');
	bio->sector = bdev->sectors;
	ck_assert_int_eq(status_of(bdev, bio), -ERANGE);
	free(bio);
}
END_TEST

START_TEST(pmem_refused)
{
	static const u64 wrong[][2] = {
	    {PMEM_AT, PMEM_SIZE + 0x1000}, {PMEM_AT - 0x1000, PMEM_SIZE},
	    {PMEM_AT + 0x1000, PMEM_SIZE}, {PMEM_AT, 0},
	    {PMEM_AT + 1, 0x1000},	   {PMEM_AT, 0x800},
	    {~0xfffULL, 0x2000},	   {PMEM_AT + 0x1000, ~0xfffULL},
	    {FOAL_MMIO_GAP_START, 0x1000},
	};

	ck_assert(!start_pmem(wrong[_i][0], wrong[_i][1]));
	ck_assert_ptr_nonnull(strstr(fake_log, "pmem0: refused"));
}
END_TEST

Suite *virtio_suite(void)
{
	Suite *s = suite_create("guest virtio");
	TCase *tc = tcase_create("virtio");

	tcase_set_timeout(tc, 20);
	tcase_add_loop_test(tc, round_trip, 0, ARRAY_SIZE(limits));
	tcase_add_loop_test(tc, many_in_flight, 0, ARRAY_SIZE(limits));
	tcase_add_test(tc, wrong_bios);
	tcase_add_loop_test(tc, flush_and_discard, 0, 2);
	tcase_add_loop_test(tc, refused_at_probe, WRONG_MAGIC, NO_CAPACITY + 1);
	tcase_add_loop_test(tc, fault_in_use, USED_ID_WILD, STATUS_WILD + 1);
	tcase_add_test(tc, pmem);
	tcase_add_test(tc, pmem_bios);
	tcase_add_loop_test(tc, pmem_refused, 0, 9);
	suite_add_tcase(s, tc);
	return s;
}
