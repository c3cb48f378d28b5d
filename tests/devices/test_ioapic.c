/* The IOAPIC: registers, message composition, edge, level and Remote IRR. */
#include "tests/devices/rig.h"

#define MASKED	   (1UL << 16)
#define LEVEL	   (1UL << 15)
#define REMOTE_IRR (1UL << 14)
#define LOGICAL	   (1UL << 11)
#define PIN	   20

static struct rig rig;

static void ioapic_write(uint32_t index, uint32_t value)
{
	ck_assert(bus_write(rig.bus, FOAL_IOAPIC_BASE, &index, 4));
	ck_assert(bus_write(rig.bus, FOAL_IOAPIC_BASE + 0x10, &value, 4));
}

static uint32_t ioapic_read(uint32_t index)
{
	uint32_t value;

	ck_assert(bus_write(rig.bus, FOAL_IOAPIC_BASE, &index, 4));
	ck_assert(bus_read(rig.bus, FOAL_IOAPIC_BASE + 0x10, &value, 4));
	return value;
}

static void redirect(unsigned pin, uint64_t entry)
{
	ioapic_write(0x11 + 2 * pin, (uint32_t)(entry >> 32));
	ioapic_write(0x10 + 2 * pin, (uint32_t)entry);
}

static void set_up(void)
{
	rig_init(&rig);
	ck_assert_int_eq(ioapic_create(&rig.host, &rig.dev), 0);
	ck_assert_int_eq(bus_attach(rig.bus, rig.dev, FOAL_IOAPIC_BASE, 0x1000), 0);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

START_TEST(registers)
{
	uint8_t byte = 0;

	ck_assert_uint_eq(ioapic_read(1), 0x11 | (FOAL_IOAPIC_PINS - 1) << 16);
	ck_assert_uint_eq(ioapic_read(0), 0);
	ioapic_write(0, UINT32_MAX);
	ck_assert_uint_eq(ioapic_read(0), 0x0f000000);
	ck_assert_uint_eq(ioapic_read(2), 0x0f000000);
	for (unsigned pin = 0; pin < FOAL_IOAPIC_PINS; pin++)
		ck_assert_uint_eq(ioapic_read(0x10 + 2 * pin), MASKED);
	/* Read-only bits stay, reserved ones read as zero. */
	redirect(0, UINT64_MAX);
	ck_assert_uint_eq(ioapic_read(0x10), 0x1afff);
	ck_assert_uint_eq(ioapic_read(0x11), 0xfffe0000);
	/* Past the last pin, and a window of the wrong width. */
	ioapic_write(0x10 + 2 * FOAL_IOAPIC_PINS, 0x30);
	ck_assert_uint_eq(ioapic_read(0x10 + 2 * FOAL_IOAPIC_PINS), 0);
	ioapic_write(0xff, 0x30);
	ck_assert_uint_eq(ioapic_read(0xff), 0);
	ioapic_read(0x12);
	ck_assert(bus_write(rig.bus, FOAL_IOAPIC_BASE + 0x10, &byte, 1));
	ck_assert_uint_eq(ioapic_read(0x12), MASKED);
}
END_TEST

START_TEST(edge_delivers_once_a_rise)
{
	redirect(PIN, 3UL << 56 | 0x31);
	ioapic_set_pin(rig.dev, PIN, true);
	ck_assert_uint_eq(rig.nr_msi, 1);
	ck_assert_uint_eq(rig.msi[0].addr, 0xfee03000);
	ck_assert_uint_eq(rig.msi[0].data, 0x31);
	ioapic_set_pin(rig.dev, PIN, true);
	ioapic_set_pin(rig.dev, PIN, false);
	ck_assert_uint_eq(rig.nr_msi, 1);
	ioapic_set_pin(rig.dev, PIN, true);
	ck_assert_uint_eq(rig.nr_msi, 2);
	ioapic_eoi(rig.dev, 0x31);
	ck_assert_uint_eq(rig.nr_msi, 2);
}
END_TEST

/* Destination 0x1203: the upper seven bits lie beside the lower eight. */
START_TEST(wide_destination)
{
	redirect(PIN, 3UL << 56 | 0x12UL << 49 | 0x31);
	ioapic_set_pin(rig.dev, PIN, true);
	ck_assert_uint_eq(rig.msi[0].addr, 0xfee03000 | 0x12 << 5);
}
END_TEST

START_TEST(edge_while_masked_is_lost)
{
	redirect(PIN, MASKED | 0x31);
	ioapic_set_pin(rig.dev, PIN, true);
	redirect(PIN, 0x31);
	ck_assert_uint_eq(rig.nr_msi, 0);
	ioapic_set_pin(rig.dev, PIN, false);
	ioapic_set_pin(rig.dev, PIN, true);
	ck_assert_uint_eq(rig.nr_msi, 1);
}
END_TEST

START_TEST(level_waits_for_its_eoi)
{
	redirect(PIN, LEVEL | LOGICAL | 0x1UL << 56 | 0x45);
	ioapic_set_pin(rig.dev, PIN, true);
	ck_assert_uint_eq(rig.nr_msi, 1);
	ck_assert_uint_eq(rig.msi[0].addr, 0xfee01004);
	ck_assert_uint_eq(rig.msi[0].data, 0xc045);
	ck_assert_uint_eq(ioapic_read(0x10 + 2 * PIN) & REMOTE_IRR, REMOTE_IRR);
	/* No second one before the EOI, whatever the line does. */
	ioapic_set_pin(rig.dev, PIN, false);
	ioapic_set_pin(rig.dev, PIN, true);
	ck_assert_uint_eq(rig.nr_msi, 1);
	ioapic_eoi(rig.dev, 0x46);
	ck_assert_uint_eq(rig.nr_msi, 1);
	/* Still asserted: again. */
	ioapic_eoi(rig.dev, 0x45);
	ck_assert_uint_eq(rig.nr_msi, 2);
	ioapic_set_pin(rig.dev, PIN, false);
	ioapic_eoi(rig.dev, 0x45);
	ck_assert_uint_eq(rig.nr_msi, 2);
	ck_assert_uint_eq(ioapic_read(0x10 + 2 * PIN) & REMOTE_IRR, 0);
}
END_TEST

START_TEST(level_while_masked_is_seen_after)
{
	redirect(PIN, MASKED | LEVEL | 0x45);
	ioapic_set_pin(rig.dev, PIN, true);
	ck_assert_uint_eq(rig.nr_msi, 0);
	redirect(PIN, LEVEL | 0x45);
	ck_assert_uint_eq(rig.nr_msi, 1);
	/* An EOI while masked: nothing until the mask goes. */
	redirect(PIN, MASKED | LEVEL | 0x45);
	ioapic_eoi(rig.dev, 0x45);
	ck_assert_uint_eq(rig.nr_msi, 1);
	redirect(PIN, LEVEL | 0x45);
	ck_assert_uint_eq(rig.nr_msi, 2);
}
END_TEST

/* What software does that wants an EOI from an IOAPIC without an EOI register. */
START_TEST(edge_and_back_clears_remote_irr)
{
	redirect(PIN, LEVEL | 0x45);
	ioapic_set_pin(rig.dev, PIN, true);
	ioapic_write(0x10 + 2 * PIN, MASKED | 0x45);
	ck_assert_uint_eq(ioapic_read(0x10 + 2 * PIN) & REMOTE_IRR, 0);
	ioapic_write(0x10 + 2 * PIN, LEVEL | 0x45);
	ck_assert_uint_eq(rig.nr_msi, 2);
}
END_TEST

START_TEST(delivery_modes)
{
	static const struct {
		uint32_t entry;
		bool delivers;
		uint32_t data;
	} rows[] = {
	    {0x0 << 8 | 0x10, true, 0x010},
	    {0x0 << 8 | 0x0f, false, 0},
	    {0x1 << 8 | 0x80, true, 0x180},
	    {0x1 << 8 | 0x00, false, 0},
	    {0x2 << 8 | 0x00, true, 0x200},
	    {0x4 << 8 | 0x00, true, 0x400},
	    {0x5 << 8 | 0x00, true, 0x500},
	    {0x3 << 8 | 0x40, false, 0},
	    {0x6 << 8 | 0x40, false, 0},
	    {0x7 << 8 | 0x40, false, 0},
	    /* An NMI is an edge, also with the trigger bit set. */
	    {LEVEL | 0x4 << 8 | 0, true, 0x400},
	};

	for (unsigned i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		rig.nr_msi = 0;
		redirect(PIN, MASKED);
		redirect(PIN, rows[i].entry);
		ioapic_set_pin(rig.dev, PIN, true);
		ck_assert_uint_eq(rig.nr_msi, rows[i].delivers);
		if (rows[i].delivers)
			ck_assert_uint_eq(rig.msi[0].data, rows[i].data);
		ck_assert_uint_eq(ioapic_read(0x10 + 2 * PIN) & REMOTE_IRR, 0);
		ioapic_set_pin(rig.dev, PIN, false);
	}
}
END_TEST

START_TEST(routes_are_told_before_use)
{
	redirect(PIN, MASKED | 0x45);
	ck_assert_uint_eq(rig.nr_routes, 0);
	ioapic_set_pin(rig.dev, PIN, true);
	redirect(PIN, LEVEL | 2UL << 56 | 0x45);
	/* The destination came while masked: one telling, and the message after it. */
	ck_assert_uint_eq(rig.nr_routes, 1);
	ck_assert_uint_eq(rig.route[0].pin, PIN);
	ck_assert_uint_eq(rig.route[0].addr, rig.msi[0].addr);
	ck_assert_uint_eq(rig.route[0].data, rig.msi[0].data);
	ck_assert(!rig.route[0].masked);
	redirect(PIN, LEVEL | 2UL << 56 | 0x45);
	ck_assert_uint_eq(rig.nr_routes, 1);
	redirect(PIN, MASKED | LEVEL | 2UL << 56 | 0x45);
	ck_assert_uint_eq(rig.nr_routes, 2);
	ck_assert(rig.route[1].masked);
}
END_TEST

START_TEST(no_such_pin)
{
	ioapic_set_pin(rig.dev, FOAL_IOAPIC_PINS, true);
	ioapic_set_pin(rig.dev, UINT32_MAX, true);
	ck_assert_uint_eq(rig.nr_msi, 0);
}
END_TEST

Suite *ioapic_suite(void)
{
	Suite *suite = suite_create("ioapic");
	TCase *tc = tcase_create("ioapic");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, registers);
	tcase_add_test(tc, edge_delivers_once_a_rise);
	tcase_add_test(tc, wide_destination);
	tcase_add_test(tc, edge_while_masked_is_lost);
	tcase_add_test(tc, level_waits_for_its_eoi);
	tcase_add_test(tc, level_while_masked_is_seen_after);
	tcase_add_test(tc, edge_and_back_clears_remote_irr);
	tcase_add_test(tc, delivery_modes);
	tcase_add_test(tc, routes_are_told_before_use);
	tcase_add_test(tc, no_such_pin);
	suite_add_tcase(suite, tc);
	return suite;
}
