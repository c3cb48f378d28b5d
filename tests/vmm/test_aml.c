/* The DSDT as an AML interpreter runs it: acpiexec, of the package acpica-tools. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "guest/abi.h"
#include "tests/scratch.h"
#include "tests/vmm/acpi_rig.h"
#include "tests/vmm/suites.h"

/* test_acpi.c follows the pointers; here its name is enough. */
static const uint8_t *dsdt(size_t *len)
{
	const uint8_t *table = memmem(acpi_tables.data, acpi_tables.size, "DSDT", 4);
	uint32_t size;

	ck_assert_ptr_nonnull(table);
	memcpy(&size, table + 4, sizeof(size));
	*len = size;
	return table;
}

/* What acpiexec says of @commands on the DSDT, operation regions filled with @fill. */
static const char *acpiexec(const char *commands, unsigned fill)
{
	static char text[256 << 10];
	const char *path = scratch("dsdt");
	char command[512];
	size_t len;
	const uint8_t *table = dsdt(&len);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, table, len), (ssize_t)len);
	close(fd);
	snprintf(command, sizeof(command), "acpiexec -r -fv %u -b '%s;quit' %s 2>&1", fill,
		 commands, path);
	FILE *pipe = popen(command, "re"); // NOLINT(bugprone-command-processor): of our own making
	ck_assert_ptr_nonnull(pipe);
	size_t n = fread(text, 1, sizeof(text) - 1, pipe);
	int status = pclose(pipe);
	ck_assert_msg(status == 0, "acpiexec (package acpica-tools): status 0x%x", status);
	ck_assert_uint_lt(n, sizeof(text) - 1);
	text[n] = 0;
	return text;
}

/*
 * A notification is handled by a thread of acpiexec's, and "quit" does not wait for it: where
 * it was left over, once more.
 */
static const char *run_aml(const char *commands, unsigned fill)
{
	const char *text;

	do { /* ended by the test's limit if it is always so */
		text = acpiexec(commands, fill);
	} while (strstr(text, "[State-Notify]"));
	ck_assert_msg(!strstr(text, "Error") && !strstr(text, "Warning"), "%s", text);
	return text;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

#define SAYS(text, what) ck_assert_msg(strstr(text, what) != NULL, "no %s in: %s", what, text)

/* As many virtio devices and processors as there are, each once. */
START_TEST(dsdt_names_every_device)
{
	static const struct {
		unsigned cpus, virtio;
	} shapes[] = {{1, 0}, {2, 1}, {64, 32}};
	unsigned cpus = shapes[_i].cpus, virtio = shapes[_i].virtio;
	char name[32];

	acpi_rig_build(cpus, virtio);
	const char *text = run_aml("namespace", 0);
	ck_assert_uint_eq(count(text, "\"LNRO0005\""), virtio);
	ck_assert_uint_eq(count(text, "\"ACPI0007\""), cpus);
	for (unsigned i = 0; i < virtio; i++) {
		snprintf(name, sizeof(name), "VR%02X Device", i);
		ck_assert_uint_eq(count(text, name), 1);
	}
	for (unsigned i = 0; i < cpus; i++) {
		snprintf(name, sizeof(name), "C%03X Device", i);
		ck_assert_uint_eq(count(text, name), 1);
	}
}
END_TEST

START_TEST(virtio_device_says_where_it_is)
{
	acpi_rig_build(1, FOAL_VIRTIO_MMIO_DEVICES);
	const char *text = run_aml("resources \\_SB.VR1F; evaluate \\_SB.VR1F._UID", 0);
	SAYS(text, "Address : D001F000");
	SAYS(text, "Address Length : 00000200");
	SAYS(text, "Dword00 : 0000002F"); /* pin 47, the last */
	SAYS(text, "Triggering : Edge");
	SAYS(text, "[Integer] = 000000000000001F");
}
END_TEST

/* With PCI the root takes the place of the MMIO devices; each slot has a pin. */
START_TEST(pci_root)
{
	acpi_rig_pci();
	acpi_rig_build(1, 2);
	const char *text = run_aml("namespace", 0);
	ck_assert_uint_eq(count(text, "LNRO0005"), 0);
	ck_assert_uint_eq(count(text, "PCI0 Device"), 1);
	text = run_aml("evaluate \\_SB.PCI0._PRT", 0);
	ck_assert_uint_eq(count(text, "[Package] Contains 4 Elements"), FOAL_PCI_SLOTS - 1);
	SAYS(text, "[Integer] = 00000000001FFFFF");
	SAYS(text, "[Integer] = 000000000000002F"); /* pin 47, the last */
}
END_TEST

/* Each bit of the events register is one notification, and none is none. */
START_TEST(events_become_notifications)
{
	unsigned fill = (unsigned)_i;

	acpi_rig_build(1, 0);
	const char *text = run_aml("evaluate \\_SB.GED._EVT 9", fill);
	ck_assert_uint_eq(count(text, "Device Notify on [PWRB]"),
			  !!(fill & FOAL_ACPI_POWER_BUTTON));
	ck_assert_uint_eq(count(text, "Device Notify on [VGEN]"), !!(fill & FOAL_ACPI_GENERATION));
}
END_TEST

START_TEST(generation_id_has_its_address)
{
	char address[32];

	acpi_rig_build(1, 0);
	const char *text = run_aml("evaluate \\_SB.VGEN.ADDR", 0);
	snprintf(address, sizeof(address), "[Integer] = %016X", FOAL_VMGENID);
	SAYS(text, "Contains 2 Elements");
	SAYS(text, address);
}
END_TEST

START_TEST(power_off_is_sleep_state_5)
{
	acpi_rig_build(1, 0);
	SAYS(run_aml("sleep 5", 0), "Sleep-A: 05");
}
END_TEST

Suite *aml_suite(void)
{
	Suite *suite = suite_create("aml");
	TCase *tc = tcase_create("aml");

	tcase_add_checked_fixture(tc, NULL, acpi_rig_fini);
	tcase_add_loop_test(tc, dsdt_names_every_device, 0, 3);
	tcase_add_test(tc, virtio_device_says_where_it_is);
	tcase_add_test(tc, pci_root);
	tcase_add_loop_test(tc, events_become_notifications, 0, 4);
	tcase_add_test(tc, generation_id_has_its_address);
	tcase_add_test(tc, power_off_is_sleep_state_5);
	suite_add_tcase(suite, tc);
	return suite;
}
