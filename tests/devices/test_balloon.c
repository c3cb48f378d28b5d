/* virtio-balloon: what a guest may say of its pages, and what is done with it. */
#include <errno.h>
#include <linux/virtio_balloon.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "tests/devices/rig.h"

#define WRITE	     VRING_DESC_F_WRITE
#define FEATURE(bit) (1ULL << (bit))
#define ALL \
	(VERSION_1 | INDIRECT | FEATURE(VIRTIO_BALLOON_F_STATS_VQ) | \
	 FEATURE(VIRTIO_BALLOON_F_FREE_PAGE_HINT) | FEATURE(VIRTIO_BALLOON_F_PAGE_POISON) | \
	 FEATURE(VIRTIO_BALLOON_F_REPORTING) | FEATURE(VIRTIO_BALLOON_F_DEFLATE_ON_OOM))
#define PAGES 0x200000UL /* pages to play with */

enum { INFLATE, DEFLATE, STATS, HINTS, REPORTING };

static struct rig rig;

static void start(uint64_t features, unsigned queues)
{
	rig_start_all(&rig, features, 8, queues);
	memset(rig.memory->bytes + PAGES, 0xab, 1 << 20);
}

static void set_up(void)
{
	struct device *dev;

	rig_init(&rig);
	ck_assert_int_eq(virtio_balloon_create(&rig.host, RIG_PIN, 8 << 20, &dev), 0);
	rig_attach(&rig, dev);
	start(ALL, 5);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

static struct balloon_stats stats(void)
{
	struct balloon_stats out;

	virtio_balloon_stats(rig.dev, &out);
	return out;
}

/* One chain of one descriptor through @queue; not that of the one before, which may be in use. */
static void offer(unsigned queue, uint64_t gpa, uint32_t len, uint16_t flags)
{
	uint16_t head;

	rig_select(&rig, queue);
	head = rig.avail_idx % rig.size;
	rig_desc(&rig, head, gpa, len, flags, 0);
	rig_offer(&rig, head);
	rig_notify(&rig);
}

static void send(unsigned queue, uint64_t gpa, uint32_t len, uint16_t flags)
{
	struct vring_used_elem elem;

	offer(queue, gpa, len, flags);
	ck_assert(rig_wait_used(&rig, &elem));
	ck_assert_uint_eq(elem.len, 0);
}

static void send_pfns(unsigned queue, const uint32_t *pfn, unsigned nr)
{
	memcpy(rig.memory->bytes + RIG_DATA, pfn, nr * sizeof(*pfn));
	send(queue, RIG_DATA, nr * sizeof(*pfn), 0);
}

static void expect_discarded(unsigned index, uint64_t from, uint64_t to)
{
	ck_assert_uint_gt(rig.memory->nr_discarded, index);
	ck_assert_uint_eq(rig.memory->discarded[index].from, from);
	ck_assert_uint_eq(rig.memory->discarded[index].to, to);
}

static uint32_t config(size_t offset)
{
	uint32_t value;

	ck_assert(bus_read(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + offset, &value, 4));
	return value;
}

static void set_config(size_t offset, uint32_t value)
{
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + offset, &value, 4));
}

#define FIELD(name) offsetof(struct virtio_balloon_config, name)

START_TEST(inflates)
{
	static const uint32_t pfn[] = {0x210, 0x20f, 0x20e, 0x230, 0x231, 0x250};

	send_pfns(INFLATE, pfn, 6);
	ck_assert_uint_eq(rig.memory->nr_discarded, 3);
	expect_discarded(0, 0x20e000, 0x211000);
	expect_discarded(1, 0x230000, 0x232000);
	expect_discarded(2, 0x250000, 0x251000);
	ck_assert_uint_eq(rig.memory->bytes[0x20e000], 0);
	ck_assert_uint_eq(rig.memory->bytes[0x20dfff], 0xab);
	ck_assert_uint_eq(rig.memory->bytes[0x211000], 0xab);
	ck_assert_uint_eq(stats().inflated, 6 * 4096);
	ck_assert_uint_eq(stats().given_back, 6 * 4096);
	send_pfns(DEFLATE, pfn, 2);
	ck_assert_uint_eq(stats().deflated, 2 * 4096);
	ck_assert_uint_eq(rig.memory->nr_discarded, 3);
}
END_TEST

/* More page numbers than are looked at in one go. */
START_TEST(inflates_much)
{
	static uint32_t pfn[1000];

	for (unsigned i = 0; i < 1000; i++)
		pfn[i] = 0x200 + i;
	send_pfns(INFLATE, pfn, 1000);
	expect_discarded(0, 0x200000, 0x300000);
	ck_assert_uint_eq(stats().given_back, 1000 * 4096);
}
END_TEST

/* Pages of a file stay: dropped, they would come back as the file has them. */
START_TEST(leaves_files_alone)
{
	static const uint32_t pfn[] = {0x210, 0x211, 0x212};

	rig.memory->file = (struct fake_range){0x211000, 0x212000};
	send_pfns(INFLATE, pfn, 3);
	ck_assert_uint_eq(stats().inflated, 3 * 4096);
	ck_assert_uint_eq(stats().given_back, 2 * 4096);
	ck_assert_uint_eq(rig.memory->bytes[0x211000], 0xab);
}
END_TEST

/* Page numbers of nothing, and of the end of everything. */
START_TEST(pages_outside)
{
	static const uint32_t pfn[] = {UINT32_MAX, 0, UINT32_MAX, UINT32_MAX - 1};

	send_pfns(INFLATE, pfn, 4);
	ck_assert_uint_eq(stats().inflated, 4 * 4096);
	ck_assert_uint_eq(stats().given_back, 4096); /* page 0 alone */
	send(REPORTING, UINT64_MAX - 100, 50, WRITE);
	send(REPORTING, UINT64_MAX - 8191, 8191, WRITE);
	ck_assert_uint_eq(stats().given_back, 4096);
	ck_assert_ptr_null(device_broken(rig.dev));
}
END_TEST

START_TEST(reports)
{
	send(REPORTING, PAGES, 0x40000, WRITE);
	expect_discarded(0, PAGES, PAGES + 0x40000);
	ck_assert_uint_eq(stats().reported, 0x40000);
	ck_assert_uint_eq(stats().given_back, 0x40000);
	/* Parts of pages at either end stay. */
	send(REPORTING, PAGES + 0x50001, 0x3000, WRITE);
	expect_discarded(1, PAGES + 0x51000, PAGES + 0x53000);
	ck_assert_uint_eq(rig.memory->bytes[PAGES + 0x50fff], 0xab);
	send(REPORTING, PAGES + 0x60001, 0xffe, WRITE);
	ck_assert_uint_eq(rig.memory->nr_discarded, 2);
	/* What the guest says of readable ranges is nothing. */
	send(REPORTING, PAGES, 0x40000, 0);
	ck_assert_uint_eq(rig.memory->nr_discarded, 2);
}
END_TEST

/* A guest that looks for a pattern in free pages has to find it. */
START_TEST(poisoned_pages_stay)
{
	set_config(FIELD(poison_val), 0xaaaaaaaa);
	ck_assert_uint_eq(config(FIELD(poison_val)), 0xaaaaaaaa);
	send(REPORTING, PAGES, 0x40000, WRITE);
	ck_assert_uint_eq(stats().reported, 0x40000);
	ck_assert_uint_eq(rig.memory->nr_discarded, 0);
	set_config(FIELD(poison_val), 0);
	send(REPORTING, PAGES, 0x40000, WRITE);
	ck_assert_uint_eq(rig.memory->nr_discarded, 1);
}
END_TEST

/* Old drivers number only the queues that there are. */
START_TEST(reports_without_hints)
{
	start(ALL & ~FEATURE(VIRTIO_BALLOON_F_FREE_PAGE_HINT), 4);
	send(3, PAGES, 0x40000, WRITE);
	ck_assert_uint_eq(stats().reported, 0x40000);
	ck_assert_uint_eq(rig.memory->nr_discarded, 1);
}
END_TEST

START_TEST(target)
{
	uint32_t generation = rig_get(&rig, VIRTIO_MMIO_CONFIG_GENERATION);

	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_DEVICE_ID), VIRTIO_ID_BALLOON);
	ck_assert_uint_eq(config(FIELD(num_pages)), (8 << 20) / 4096);
	ck_assert_int_eq(virtio_balloon_set_target(rig.dev, 4 << 20), 0);
	ck_assert_uint_eq(config(FIELD(num_pages)), (4 << 20) / 4096);
	ck_assert_uint_ne(rig_get(&rig, VIRTIO_MMIO_CONFIG_GENERATION), generation);
	ck_assert_uint_eq(rig_get(&rig, VIRTIO_MMIO_INTERRUPT_STATUS), VIRTIO_MMIO_INT_CONFIG);
	ck_assert_int_eq(virtio_balloon_set_target(rig.dev, 1UL << 44), -EINVAL);
	set_config(FIELD(actual), 77);
	/* Not the driver's to write, and not in this width. */
	set_config(FIELD(num_pages), 0);
	ck_assert(bus_write(rig.bus, RIG_BASE + VIRTIO_MMIO_CONFIG + 4, "", 1));
	ck_assert_uint_eq(stats().target, 4 << 20);
	ck_assert_uint_eq(stats().actual, 77 * 4096);
}
END_TEST

START_TEST(guest_statistics)
{
	struct virtio_balloon_stat stat[] = {
	    {VIRTIO_BALLOON_S_MEMFREE, 1234}, {99, 1}, {VIRTIO_BALLOON_S_AVAIL, 5678}};
	struct vring_used_elem elem;

	ck_assert_uint_eq(stats().guest[VIRTIO_BALLOON_S_MEMFREE], UINT64_MAX);
	memcpy(rig.memory->bytes + RIG_DATA, stat, sizeof(stat));
	offer(STATS, RIG_DATA, sizeof(stat), 0);
	for (unsigned i = 0; i < 60000 && stats().guest[VIRTIO_BALLOON_S_AVAIL] != 5678; i++)
		usleep(1000);
	ck_assert_uint_eq(stats().guest[VIRTIO_BALLOON_S_MEMFREE], 1234);
	ck_assert_uint_eq(stats().guest[VIRTIO_BALLOON_S_AVAIL], 5678);
	ck_assert_uint_eq(stats().guest[VIRTIO_BALLOON_S_MEMTOT], UINT64_MAX);
	/* Held until new figures are wanted. */
	ck_assert_uint_eq(rig_used_idx(&rig), 0);
	virtio_balloon_ask(rig.dev);
	ck_assert(rig_wait_used(&rig, &elem));
	/* A second buffer brings the first back. */
	offer(STATS, RIG_DATA, sizeof(stat), 0);
	offer(STATS, RIG_DATA, sizeof(stat), 0);
	ck_assert(rig_wait_used(&rig, &elem));
}
END_TEST

static struct fake_range hinted[4];
static unsigned nr_hinted;

static void note_hint(void *ctx, gpa_t gpa, uint64_t len)
{
	ck_assert_ptr_eq(ctx, &rig);
	ck_assert_uint_lt(nr_hinted, 4);
	hinted[nr_hinted++] = (struct fake_range){gpa.v, gpa.v + len};
}

static void send_hint_id(uint32_t id)
{
	memcpy(rig.memory->bytes + RIG_DATA, &id, sizeof(id));
	send(HINTS, RIG_DATA, sizeof(id), 0);
}

/* Only what belongs to the round that was asked for counts, and nothing is dropped. */
START_TEST(hints)
{
	uint32_t id;

	send(HINTS, PAGES, 4096, WRITE);
	virtio_balloon_hints(rig.dev, note_hint, &rig);
	id = config(FIELD(free_page_hint_cmd_id));
	ck_assert_uint_ge(id, 2);
	send_hint_id(id + 1);
	send(HINTS, PAGES, 4096, WRITE);
	ck_assert_uint_eq(nr_hinted, 0);
	send_hint_id(id);
	send(HINTS, PAGES + 8192, 8192, WRITE);
	ck_assert_uint_eq(nr_hinted, 1);
	ck_assert_uint_eq(hinted[0].from, PAGES + 8192);
	ck_assert_uint_eq(hinted[0].to, PAGES + 16384);
	send_hint_id(VIRTIO_BALLOON_CMD_ID_STOP);
	send(HINTS, PAGES, 4096, WRITE);
	ck_assert_uint_eq(nr_hinted, 1);
	virtio_balloon_hints(rig.dev, NULL, NULL);
	ck_assert_uint_eq(config(FIELD(free_page_hint_cmd_id)), VIRTIO_BALLOON_CMD_ID_DONE);
	virtio_balloon_hints(rig.dev, note_hint, &rig);
	ck_assert_uint_eq(config(FIELD(free_page_hint_cmd_id)), id + 1);
	ck_assert_uint_eq(stats().hinted, 8192);
	ck_assert_uint_eq(rig.memory->nr_discarded, 0);
	virtio_balloon_hints(rig.dev, NULL, NULL);
}
END_TEST

static void expect_broken(const char *why)
{
	ck_assert(rig_wait_broken(&rig));
	ck_assert_str_eq(device_broken(rig.dev), why);
	start(ALL, 5);
}

START_TEST(bad_requests)
{
	offer(INFLATE, RIG_DATA, 7, 0);
	expect_broken("a balloon request is no array of page numbers");
	offer(DEFLATE, RIG_DATA, 8, WRITE);
	expect_broken("a balloon request is no array of page numbers");
	offer(INFLATE, RIG_OUTSIDE, 8, 0);
	expect_broken("a balloon request lies outside of guest memory");
	offer(STATS, RIG_OUTSIDE, 10, 0);
	expect_broken("balloon statistics lie outside of guest memory");
	offer(HINTS, RIG_OUTSIDE, 4, 0);
	expect_broken("a hint's number lies outside of guest memory");
}
END_TEST

Suite *balloon_suite(void)
{
	Suite *suite = suite_create("virtio-balloon");
	TCase *tc = tcase_create("virtio-balloon");

	tcase_set_timeout(tc, 30);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, inflates);
	tcase_add_test(tc, inflates_much);
	tcase_add_test(tc, leaves_files_alone);
	tcase_add_test(tc, pages_outside);
	tcase_add_test(tc, reports);
	tcase_add_test(tc, poisoned_pages_stay);
	tcase_add_test(tc, reports_without_hints);
	tcase_add_test(tc, target);
	tcase_add_test(tc, guest_statistics);
	tcase_add_test(tc, hints);
	tcase_add_test(tc, bad_requests);
	suite_add_tcase(suite, tc);
	return suite;
}
