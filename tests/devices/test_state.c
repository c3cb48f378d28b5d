/*
 * State of devices: what was saved is what is loaded, and bytes that are wrong are
 * refused, or give a device that works as one whose driver is wrong.
 */
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/state.h"
#include "tests/devices/rig.h"
#include "tests/devices/state_rig.h"

#define FLIPS	  2000 /* a kind */
#define USE_EVERY 20   /* of these, those that are used with threads */
#define CHECKSUM  16

struct saved {
	uint8_t *bytes;
	size_t len;
};

static bool visit(struct bus *bus, struct state *s)
{
	return state_begin(s, "devices", 0, 1) && bus_state(bus, s) && state_end(s);
}

static struct saved save(struct bus *bus)
{
	struct saved saved;
	struct state s;

	state_save(&s);
	ck_assert_msg(visit(bus, &s), "%s", s.error);
	ck_assert_int_eq(state_saved(&s, &saved.bytes, &saved.len), 0);
	return saved;
}

/* Whether it was taken; if not, one line says why. */
static bool load(struct bus *bus, const uint8_t *bytes, size_t len)
{
	/* Of exactly that size, so that a read past it is seen. */
	uint8_t *copy = malloc(len ? len : 1);
	struct state s;
	bool ok;

	memcpy(copy, bytes, len);
	ok = state_load(&s, copy, len) && visit(bus, &s) && state_loaded(&s);
	free(copy);
	ck_assert_int_eq(ok, s.error[0] == 0);
	ck_assert_ptr_null(strchr(s.error, '\n'));
	return ok;
}

static void reg(struct state_machine *m, uint64_t at, uint32_t value)
{
	ck_assert(bus_write(m->bus, FOAL_VIRTIO_MMIO_BASE + at, &value, 4));
}

/* A driver that takes all features, with rings for all queues. */
static void drive(struct state_machine *m, bool packed)
{
	reg(m, VIRTIO_MMIO_STATUS, 3);
	for (unsigned i = 0; i < 2; i++) {
		uint32_t features;

		reg(m, VIRTIO_MMIO_DEVICE_FEATURES_SEL, i);
		bus_read(m->bus, FOAL_VIRTIO_MMIO_BASE + VIRTIO_MMIO_DEVICE_FEATURES, &features, 4);
		reg(m, VIRTIO_MMIO_DRIVER_FEATURES_SEL, i);
		reg(m, VIRTIO_MMIO_DRIVER_FEATURES, features & ~(i && !packed ? 1U << 2 : 0));
	}
	reg(m, VIRTIO_MMIO_STATUS, 11);
	for (uint32_t i = 0; i < 5; i++) {
		reg(m, VIRTIO_MMIO_QUEUE_SEL, i);
		reg(m, VIRTIO_MMIO_QUEUE_NUM, 64);
		reg(m, VIRTIO_MMIO_QUEUE_DESC_LOW, 0x10000 + i * 0x4000);
		reg(m, VIRTIO_MMIO_QUEUE_AVAIL_LOW, 0x11000 + i * 0x4000);
		reg(m, VIRTIO_MMIO_QUEUE_USED_LOW, 0x12000 + i * 0x4000);
		reg(m, VIRTIO_MMIO_QUEUE_READY, 1);
	}
	reg(m, VIRTIO_MMIO_STATUS, 15);
}

/* Some state that a guest may leave a device in. */
static struct saved some_state(unsigned kind, bool packed)
{
	struct state_machine m;
	struct saved saved;

	state_machine_init(&m, kind);
	if (kind < STATE_VIRTIO_KINDS)
		drive(&m, packed);
	else
		state_machine_use(&m);
	saved = save(m.bus);
	state_machine_fini(&m);
	return saved;
}

START_TEST(comes_back_as_it_was)
{
	for (unsigned kind = 0; kind < STATE_KINDS; kind++) {
		struct saved a = some_state(kind, _i), b;
		struct state_machine m;

		state_machine_init(&m, kind);
		ck_assert(load(m.bus, a.bytes, a.len));
		b = save(m.bus);
		ck_assert_msg(a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0, "kind %u",
			      kind);
		/* And in place, over any other state. */
		state_machine_use(&m);
		ck_assert(load(m.bus, a.bytes, a.len));
		free(b.bytes);
		b = save(m.bus);
		ck_assert_msg(a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0, "kind %u",
			      kind);
		state_machine_fini(&m);
		free(a.bytes);
		free(b.bytes);
	}
}
END_TEST

/* Back to a state of its own, from any other, or from the same. */
static void go_back(struct state_machine *m, const struct saved *to)
{
	struct state s, room;

	state_room(&room);
	ck_assert(state_load(&s, to->bytes, to->len) && state_begin(&s, "devices", 0, 1));
	ck_assert_msg(bus_go_back(m->bus, &s, &room), "%s", s.error);
	ck_assert(state_end(&s) && state_loaded(&s));
	state_room_end(&room);
}

START_TEST(goes_back)
{
	for (unsigned kind = 0; kind < STATE_KINDS; kind++) {
		struct saved a = some_state(kind, _i % 2), b;
		struct state_machine m;

		state_machine_init(&m, kind);
		ck_assert(load(m.bus, a.bytes, a.len));
		for (int round = 0; round < 3; round++) {
			if (round % 2 == 0)
				state_machine_use(&m);
			go_back(&m, &a);
			b = save(m.bus);
			ck_assert_msg(a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0,
				      "kind %u, round %d", kind, round);
			free(b.bytes);
		}
		state_machine_fini(&m);
		free(a.bytes);
	}
}
END_TEST

/* Cut off anywhere, as it is and with a checksum that is right. */
START_TEST(truncated)
{
	for (unsigned kind = 0; kind < STATE_KINDS; kind++) {
		struct saved a = some_state(kind, false);
		uint8_t *cut = malloc(a.len);
		struct state_machine m;

		state_machine_init(&m, kind);
		for (size_t len = 0; len < a.len; len++) {
			ck_assert(!load(m.bus, a.bytes, len));
			memcpy(cut, a.bytes, len);
			state_seal(cut, len);
			ck_assert_msg(!load(m.bus, cut, len), "kind %u: %zu of %zu", kind, len,
				      a.len);
		}
		state_machine_fini(&m);
		free(cut);
		free(a.bytes);
	}
}
END_TEST

START_TEST(bit_flips_are_seen)
{
	for (unsigned kind = 0; kind < STATE_KINDS; kind++) {
		struct saved a = some_state(kind, false);
		struct state_machine m;

		state_machine_init(&m, kind);
		for (unsigned i = 0; i < FLIPS; i++) {
			size_t bit = (size_t)rand() % (a.len * 8);

			a.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			ck_assert(!load(m.bus, a.bytes, a.len));
			a.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		}
		state_machine_fini(&m);
		free(a.bytes);
	}
}
END_TEST

/* Who wrote the bytes made the checksum, too: refused, or a device that goes on. */
static void try_hostile(unsigned kind, const struct saved *bad, bool with_threads)
{
	struct state_machine m;

	state_machine_init(&m, kind);
	if (with_threads)
		ck_assert_int_eq(bus_start(m.bus), 0);
	if (load(m.bus, bad->bytes, bad->len))
		state_machine_use(&m);
	state_machine_fini(&m);
}

START_TEST(hostile)
{
	for (unsigned kind = 0; kind < STATE_KINDS; kind++) {
		struct saved a = some_state(kind, _i);

		for (unsigned i = 0; i < FLIPS; i++) {
			struct saved bad = {malloc(a.len), a.len};

			memcpy(bad.bytes, a.bytes, a.len);
			for (int n = rand() % 3; n >= 0; n--) {
				size_t bit = (size_t)rand() % ((a.len - CHECKSUM) * 8);
				bad.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
			}
			state_seal(bad.bytes, bad.len);
			try_hostile(kind, &bad, i % USE_EVERY == 0);
			free(bad.bytes);
		}
		free(a.bytes);
	}
}
END_TEST

/* --- what messages say ---------------------------------------------------------------- */

static void expect_refused(struct bus *bus, const struct saved *saved, const char *part)
{
	struct state s;

	ck_assert(!(state_load(&s, saved->bytes, saved->len) && visit(bus, &s)));
	ck_assert_msg(strstr(s.error, part) != NULL, "\"%s\" is not in: %s", part, s.error);
}

START_TEST(messages_name_the_record)
{
	struct saved a = some_state(7, false);
	struct state_machine m;
	uint8_t *bytes = a.bytes;

	state_machine_init(&m, 1);
	expect_refused(m.bus, &a,
		       "state: devices 0: record virtio-rng 0 is expected at byte 48, and there is "
		       "virtio-blk 0");
	state_machine_fini(&m);
	state_machine_init(&m, 7);
	bytes[24 + 24 + 18]++; /* the second record's version */
	state_seal(bytes, a.len);
	expect_refused(m.bus, &a, "virtio-blk 0 has version 2, this foal reads version 1");
	bytes[24 + 24 + 18]--;
	bytes[24 + 24 + 20]++; /* its length */
	state_seal(bytes, a.len);
	expect_refused(m.bus, &a, "virtio-blk 0 is longer than what it lies in");
	bytes[24 + 24 + 20]--;
	bytes[8]++;
	expect_refused(m.bus, &a, "format 2 is not known, this foal reads 1");
	bytes[8]--;
	bytes[0]++;
	expect_refused(m.bus, &a, "no state of foal's");
	bytes[0]--;
	bytes[100]++;
	expect_refused(m.bus, &a, "the checksum is wrong");
	state_machine_fini(&m);
	free(a.bytes);
}
END_TEST

/* --- a driver that does not notice ------------------------------------------------------ */

static struct rig before, after;

static void move(struct rig *from, struct rig *to)
{
	struct saved saved;

	ck_assert(rig_wait_idle());
	saved = save(from->bus);
	memcpy(to->memory->bytes, from->memory->bytes, RIG_MEMORY);
	ck_assert(load(to->bus, saved.bytes, saved.len));
	to->size = from->size;
	to->avail_idx = from->avail_idx;
	to->used_idx = from->used_idx;
	free(saved.bytes);
}

START_TEST(requests_go_on)
{
	int fd = rig_file(1 << 20);

	rig_init(&before);
	rig_blk(&before, fd, DISK_RO);
	rig_start(&before, VERSION_1 | (_i ? EVENT_IDX : 0), 8);
	for (unsigned i = 0; i < 11; i++)
		ck_assert_int_eq(rig_request(&before, VIRTIO_BLK_T_IN, i, 512), VIRTIO_BLK_S_OK);
	rig_init(&after);
	rig_blk(&after, fd, DISK_RO);
	move(&before, &after);
	rig_fini(&before);
	ck_assert_uint_eq(rig_get(&after, VIRTIO_MMIO_STATUS), 15);
	for (unsigned i = 0; i < 11; i++) {
		ck_assert_int_eq(rig_request(&after, VIRTIO_BLK_T_IN, 100 + i, 512),
				 VIRTIO_BLK_S_OK);
		ck_assert_uint_eq(after.memory->bytes[RIG_DATA], 100 + i);
		ck_assert_uint_eq(rig_used_idx(&after), after.used_idx);
	}
	rig_fini(&after);
	close(fd);
}
END_TEST

/* Offered and not taken yet when the state was saved: served by the device that loads it. */
START_TEST(what_waits_is_served)
{
	int fd = rig_file(1 << 20);
	struct vring_used_elem elem;

	rig_init(&before);
	rig_blk(&before, fd, DISK_RO);
	rig_start(&before, VERSION_1, 8);
	ck_assert_ptr_null(bus_hold(before.bus, UINT64_MAX));
	rig_request_begin(&before, VIRTIO_BLK_T_IN, 7, 512);
	rig_init(&after);
	rig_blk(&after, fd, DISK_RO);
	move(&before, &after);
	ck_assert(rig_wait_used(&after, &elem));
	ck_assert_uint_eq(after.memory->bytes[RIG_DATA], 7);
	ck_assert_uint_eq(rig_used_idx(&after), after.used_idx);
	rig_fini(&before);
	rig_fini(&after);
	close(fd);
}
END_TEST

START_TEST(another_disk_is_refused)
{
	struct saved saved;
	int fd = rig_file(1 << 20), smaller = rig_file(1 << 19);

	rig_init(&before);
	rig_blk(&before, fd, DISK_RO);
	saved = save(before.bus);
	rig_init(&after);
	rig_blk(&after, smaller, DISK_RO);
	expect_refused(after.bus, &saved,
		       "virtio-blk 0: the disk's size was 1048576, and is "
		       "524288 here");
	rig_fini(&before);
	rig_fini(&after);
	free(saved.bytes);
}
END_TEST

Suite *state_suite(void)
{
	Suite *suite = suite_create("state");
	TCase *tc = tcase_create("state");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, comes_back_as_it_was, 0, 2);
	tcase_add_loop_test(tc, goes_back, 0, 2);
	tcase_add_test(tc, truncated);
	tcase_add_test(tc, bit_flips_are_seen);
	tcase_add_loop_test(tc, hostile, 0, 2);
	tcase_add_test(tc, messages_name_the_record);
	tcase_add_loop_test(tc, requests_go_on, 0, 2);
	tcase_add_test(tc, what_waits_is_served);
	tcase_add_test(tc, another_disk_is_refused);
	suite_add_tcase(suite, tc);
	return suite;
}
