/* ACPI's registers and events, the keyboard controller's reset, the VM generation ID. */
#include <string.h>

#include "tests/devices/rig.h"

#define SLP_EN 0x20

static struct rig rig;

static void set_up(void)
{
	struct device *i8042;

	rig_init(&rig);
	ck_assert_int_eq(acpi_pm_create(&rig.host, &rig.dev), 0);
	ck_assert_int_eq(bus_attach(rig.bus, rig.dev, FOAL_PORT_ACPI, FOAL_PORT_ACPI_LEN), 0);
	ck_assert_int_eq(i8042_create(&rig.host, &i8042), 0);
	ck_assert_int_eq(bus_attach(rig.bus, i8042, FOAL_PORT_I8042, 1), 0);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

static uint64_t in(uint64_t port, unsigned len)
{
	uint64_t value = 0;

	bus_read(rig.bus, port, &value, len);
	return value;
}

static void out(uint64_t port, unsigned len, uint64_t value)
{
	bus_write(rig.bus, port, &value, len);
}

/* Only sleep state 5 with the enable bit switches off. */
START_TEST(sleep_control)
{
	for (unsigned value = 0; value < 256; value++) {
		rig.exit_status = -1;
		out(FOAL_PORT_ACPI_SLEEP_CTL, 1, value);
		bool off = (value & SLP_EN) && (value >> 2 & 7) == FOAL_ACPI_S5;
		ck_assert_int_eq(rig.exit_status, off ? 0 : -1);
	}
	ck_assert_uint_eq(in(FOAL_PORT_ACPI_SLEEP_STS, 1), 0);
	ck_assert_uint_eq(rig.resets, 0);
}
END_TEST

START_TEST(reset_register)
{
	out(FOAL_PORT_ACPI_RESET, 1, FOAL_ACPI_RESET_VALUE + 1);
	ck_assert_uint_eq(rig.resets, 0);
	out(FOAL_PORT_ACPI_RESET, 1, FOAL_ACPI_RESET_VALUE);
	ck_assert_uint_eq(rig.resets, 1);
	ck_assert_int_eq(rig.exit_status, -1);
}
END_TEST

/* One rise for what comes until it is taken; the taker gets it all, once. */
START_TEST(events_are_taken_once)
{
	acpi_pm_raise(rig.dev, FOAL_ACPI_POWER_BUTTON);
	acpi_pm_raise(rig.dev, FOAL_ACPI_GENERATION);
	ck_assert(atomic_load(&rig.level));
	ck_assert_uint_eq(atomic_load(&rig.rises), 1);
	ck_assert_uint_eq(in(FOAL_PORT_ACPI_EVENTS, 4),
			  FOAL_ACPI_POWER_BUTTON | FOAL_ACPI_GENERATION);
	ck_assert(!atomic_load(&rig.level));
	ck_assert_uint_eq(in(FOAL_PORT_ACPI_EVENTS, 4), 0);
	acpi_pm_raise(rig.dev, FOAL_ACPI_POWER_BUTTON);
	ck_assert_uint_eq(atomic_load(&rig.rises), 2);
	acpi_pm_raise(rig.dev, 0);
	ck_assert_uint_eq(in(FOAL_PORT_ACPI_EVENTS, 4), FOAL_ACPI_POWER_BUTTON);
}
END_TEST

/* What is not a register's own offset and width takes no event, ends nothing. */
START_TEST(odd_accesses)
{
	static const unsigned widths[] = {1, 2, 4, 8};

	acpi_pm_raise(rig.dev, FOAL_ACPI_POWER_BUTTON);
	for (unsigned offset = 0; offset < FOAL_PORT_ACPI_LEN; offset++) {
		for (unsigned w = 0; w < 4; w++) {
			uint64_t port = FOAL_PORT_ACPI + offset;
			unsigned len = widths[w];

			if (port == FOAL_PORT_ACPI_EVENTS && len == 4)
				continue;
			if (len <= FOAL_PORT_ACPI_LEN - offset)
				ck_assert_uint_eq(in(port, len), 0);
			if (len > 1)
				out(port, len, UINT64_MAX);
		}
	}
	ck_assert_int_eq(rig.exit_status, -1);
	ck_assert_uint_eq(rig.resets, 0);
	ck_assert_uint_eq(in(FOAL_PORT_ACPI_EVENTS, 4), FOAL_ACPI_POWER_BUTTON);
}
END_TEST

/* A probe finds the output full for ever, a reset finds room for its command. */
START_TEST(keyboard_controller)
{
	for (unsigned i = 0; i < 100; i++)
		ck_assert_uint_eq(in(FOAL_PORT_I8042, 1) & 3, 1);
	for (unsigned value = 0; value < 256; value++) {
		rig.resets = 0;
		out(FOAL_PORT_I8042, 1, value);
		ck_assert_uint_eq(rig.resets, value == 0xfe);
	}
}
END_TEST

/* The same on its own and (@_i: 1) among the ports of a PCI root. */
START_TEST(reset_port)
{
	struct bus *mmio = bus_create();
	struct device *dev;
	struct pci *pci;

	if (_i) {
		ck_assert_int_eq(pci_create(&rig.host, rig.bus, mmio, &pci), 0);
		out(FOAL_PORT_PCI, 4, UINT32_MAX); /* the address register, not the port in it */
		out(FOAL_PORT_PCI, 2, UINT16_MAX);
		ck_assert_uint_eq(rig.resets, 0);
	} else {
		ck_assert_int_eq(reset_port_create(&rig.host, &dev), 0);
		ck_assert_int_eq(bus_attach(rig.bus, dev, FOAL_PORT_RESET, 1), 0);
	}
	for (unsigned value = 0; value < 256; value++) {
		rig.resets = 0;
		out(FOAL_PORT_RESET, 1, value);
		ck_assert_uint_eq(rig.resets, !!(value & 4));
	}
	ck_assert_uint_eq(in(FOAL_PORT_RESET, 1), 0);
	bus_destroy(mmio);
}
END_TEST

START_TEST(generation_id)
{
	uint8_t *id = rig.memory->bytes + FOAL_VMGENID, first[16], zero[16] = {0};

	ck_assert_int_eq(vmgenid_renew(&rig.host, NULL), 0);
	ck_assert_mem_ne(id, zero, sizeof(zero));
	ck_assert_mem_eq(id + 16, zero, sizeof(zero));
	ck_assert(!atomic_load(&rig.level));
	memcpy(first, id, sizeof(first));
	ck_assert_int_eq(vmgenid_renew(&rig.host, rig.dev), 0);
	ck_assert_mem_ne(id, first, sizeof(first));
	ck_assert_uint_eq(in(FOAL_PORT_ACPI_EVENTS, 4), FOAL_ACPI_GENERATION);
}
END_TEST

/* A guest that keeps its old ID is not told of a new one. */
START_TEST(generation_id_cannot_be_written)
{
	rig.memory->hole = (struct fake_range){FOAL_VMGENID, FOAL_VMGENID + 4096};
	ck_assert_int_lt(vmgenid_renew(&rig.host, rig.dev), 0);
	ck_assert(!atomic_load(&rig.level));
}
END_TEST

Suite *platform_suite(void)
{
	Suite *suite = suite_create("platform");
	TCase *tc = tcase_create("platform");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, sleep_control);
	tcase_add_test(tc, reset_register);
	tcase_add_test(tc, events_are_taken_once);
	tcase_add_test(tc, odd_accesses);
	tcase_add_test(tc, keyboard_controller);
	tcase_add_loop_test(tc, reset_port, 0, 2);
	tcase_add_test(tc, generation_id);
	tcase_add_test(tc, generation_id_cannot_be_written);
	suite_add_tcase(suite, tc);
	return suite;
}
