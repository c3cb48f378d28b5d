/* The bus: what reaches a device and what does not; the exit port. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/device.h"
#include "tests/devices/rig.h"

struct probe {
	struct device dev;
	uint64_t offset, value;
	unsigned len, calls, stops;
	unsigned *destroyed;
};

static uint64_t probe_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct probe *probe = device_of(dev, struct probe, dev);

	probe->offset = offset;
	probe->len = len;
	probe->calls++;
	return 0x1122334455667788;
}

static void probe_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct probe *probe = device_of(dev, struct probe, dev);

	probe->offset = offset;
	probe->len = len;
	probe->value = value;
	probe->calls++;
}

static void probe_stop(struct device *dev)
{
	device_of(dev, struct probe, dev)->stops++;
}

static void probe_destroy(struct device *dev)
{
	struct probe *probe = device_of(dev, struct probe, dev);

	ck_assert_uint_gt(probe->stops, 0);
	++*probe->destroyed;
	free(probe);
}

static const struct device_ops probe_ops = {
    .kind = "probe",
    .read = probe_read,
    .write = probe_write,
    .stop = probe_stop,
    .destroy = probe_destroy,
};
static unsigned destroyed;

static struct probe *probe_new(void)
{
	struct probe *probe = calloc(1, sizeof(*probe));

	probe->destroyed = &destroyed;
	device_init(&probe->dev, &probe_ops, NULL);
	return probe;
}

START_TEST(access_reaches_its_device)
{
	struct bus *bus = bus_create();
	struct probe *low = probe_new(), *high = probe_new();
	uint64_t data = 0;

	ck_assert_int_eq(bus_attach(bus, &high->dev, 0x2000, 0x10), 0);
	ck_assert_int_eq(bus_attach(bus, &low->dev, 0x1000, 0x10), 0);
	ck_assert(bus_read(bus, 0x1008, &data, 8));
	ck_assert_uint_eq(data, 0x1122334455667788);
	ck_assert_uint_eq(low->offset, 8);
	ck_assert_uint_eq(high->calls, 0);
	data = 0xffffffffffffab12;
	ck_assert(bus_write(bus, 0x200e, &data, 2));
	ck_assert_uint_eq(high->value, 0xab12);
	ck_assert_uint_eq(high->offset, 0xe);
	ck_assert_uint_eq(low->calls, 1);
	bus_destroy(bus);
	ck_assert_uint_eq(destroyed, 2);
}
END_TEST

START_TEST(nobody_there_reads_as_ones)
{
	struct bus *bus = bus_create();
	struct probe *probe = probe_new();
	uint64_t data;
	static const struct {
		uint64_t addr;
		unsigned len;
	} odd[] = {
	    {0xfff, 1},	 {0x1010, 1}, {0x100d, 4}, {0x0, 8},	    {0x1000, 3},
	    {0x1000, 5}, {0x1000, 0}, {0xffe, 4},  {UINT64_MAX, 8},
	};

	ck_assert_int_eq(bus_attach(bus, &probe->dev, 0x1000, 0x10), 0);
	for (unsigned i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		data = 0;
		ck_assert(!bus_read(bus, odd[i].addr, &data, odd[i].len));
		for (unsigned b = 0; b < odd[i].len; b++)
			ck_assert_uint_eq(data >> (8 * b) & 0xff, 0xff);
		ck_assert(!bus_write(bus, odd[i].addr, &data, odd[i].len));
	}
	ck_assert_uint_eq(probe->calls, 0);
	bus_destroy(bus);
}
END_TEST

START_TEST(overlap_is_refused_and_the_device_gone)
{
	struct bus *bus = bus_create();

	destroyed = 0;
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, 0x1000, 0x10), 0);
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, 0x100f, 1), -EEXIST);
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, 0xff8, 9), -EEXIST);
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, 0x2000, 0), -EINVAL);
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, UINT64_MAX, 2), -EINVAL);
	ck_assert_uint_eq(destroyed, 4);
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, 0xff8, 8), 0);
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, 0x1010, 8), 0);
	ck_assert_int_eq(bus_attach(bus, &probe_new()->dev, UINT64_MAX, 1), 0);
	bus_destroy(bus);
	ck_assert_uint_eq(destroyed, 8);
}
END_TEST

START_TEST(exit_port_ends_the_run)
{
	static const struct {
		uint32_t value;
		int status;
	} rows[] = {{0, 0}, {7, 7}, {99, 99}, {100, 99}, {255, 99}, {0x105, 5}};
	struct rig rig;
	struct device *dev;

	rig_init(&rig);
	ck_assert_int_eq(exit_port_create(&rig.host, &dev), 0);
	ck_assert_int_eq(bus_attach(rig.bus, dev, FOAL_PORT_EXIT, 4), 0);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ck_assert(bus_write(rig.bus, FOAL_PORT_EXIT, &rows[i].value, 4));
		ck_assert_int_eq(rig.exit_status, rows[i].status);
	}
	rig_fini(&rig);
}
END_TEST

static unsigned ready_told;

static void told_ready(void *ctx)
{
	(void)ctx;
	ready_told++;
}

/* Whatever is written; where nobody wants to know, too. */
START_TEST(ready_port_tells)
{
	uint32_t value = 0x1234;
	struct rig rig;
	struct device *dev;

	rig_init(&rig);
	ready_told = 0;
	ck_assert_int_eq(ready_port_create(&rig.host, &dev), 0);
	ck_assert_int_eq(bus_attach(rig.bus, dev, FOAL_PORT_READY, 1), 0);
	ck_assert(bus_write(rig.bus, FOAL_PORT_READY, &value, 1));
	ck_assert_uint_eq(ready_told, 0);
	rig.host.guest_ready = told_ready;
	for (unsigned n = 1; n < 4; n++) {
		ck_assert(bus_write(rig.bus, FOAL_PORT_READY, &n, 1));
		ck_assert_uint_eq(ready_told, n);
	}
	ck_assert(bus_read(rig.bus, FOAL_PORT_READY, &value, 1));
	ck_assert_uint_eq(value & 0xff, 0xff);
	ck_assert_uint_eq(ready_told, 3);
	rig_fini(&rig);
}
END_TEST

START_TEST(every_kind_is_listed_and_whole)
{
	unsigned nr = 0;

	for (; devices_kinds[nr]; nr++) {
		ck_assert_ptr_nonnull(devices_kinds[nr]->kind);
		ck_assert(devices_kinds[nr]->read && devices_kinds[nr]->write &&
			  devices_kinds[nr]->destroy);
		for (unsigned i = 0; i < nr; i++)
			ck_assert_str_ne(devices_kinds[i]->kind, devices_kinds[nr]->kind);
	}
	ck_assert_uint_ge(nr, 9);
}
END_TEST

Suite *bus_suite(void)
{
	Suite *suite = suite_create("bus");
	TCase *tc = tcase_create("bus");

	tcase_add_test(tc, access_reaches_its_device);
	tcase_add_test(tc, nobody_there_reads_as_ones);
	tcase_add_test(tc, overlap_is_refused_and_the_device_gone);
	tcase_add_test(tc, exit_port_ends_the_run);
	tcase_add_test(tc, ready_port_tells);
	tcase_add_test(tc, every_kind_is_listed_and_whole);
	suite_add_tcase(suite, tc);
	return suite;
}
