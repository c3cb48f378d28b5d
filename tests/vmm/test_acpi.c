/* The ACPI tables as a kernel finds them, from the RSDP on, and as firmware places them. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "devices/fw_cfg.h"
#include "guest/abi.h"
#include "tests/vmm/acpi_rig.h"
#include "tests/vmm/suites.h"

#define HEADER_SIZE 36

static uint64_t get(const uint8_t *at, unsigned len)
{
	uint64_t value = 0;

	memcpy(&value, at, len);
	return value;
}

/* What lies at @gpa; @len bytes of it have to be inside the tables. */
static const uint8_t *at_gpa(uint64_t gpa, size_t len)
{
	ck_assert_uint_ge(gpa, acpi_tables.rsdp);
	ck_assert_uint_le(gpa - acpi_tables.rsdp, acpi_tables.size);
	ck_assert_uint_le(len, acpi_tables.size - (gpa - acpi_tables.rsdp));
	return (const uint8_t *)acpi_tables.data + (gpa - acpi_tables.rsdp);
}

static void check_sum(const uint8_t *data, size_t len)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += data[i];
	ck_assert_uint_eq(sum, 0);
}

static const uint8_t *table_at(uint64_t gpa, const char *signature, size_t *len)
{
	*len = get(at_gpa(gpa, HEADER_SIZE) + 4, 4);
	const uint8_t *table = at_gpa(gpa, *len);

	ck_assert_uint_eq(gpa % 16, 0);
	ck_assert_mem_eq(table, signature, 4);
	ck_assert_mem_eq(table + 10, "FOAL", 4);
	check_sum(table, *len);
	return table;
}

/* Table @index of the XSDT. */
static const uint8_t *xsdt_table(unsigned index, const char *signature, size_t *len)
{
	const uint8_t *rsdp = at_gpa(acpi_tables.rsdp, HEADER_SIZE);
	const uint8_t *xsdt = table_at(get(rsdp + 24, 8), "XSDT", len);

	ck_assert_uint_eq(*len, HEADER_SIZE + (acpi_vm.pci ? 3 : 2) * 8);
	return table_at(get(xsdt + HEADER_SIZE + 8 * (size_t)index, 8), signature, len);
}

static const uint8_t *dsdt(size_t *len)
{
	const uint8_t *fadt = xsdt_table(0, "FACP", len);

	return table_at(get(fadt + 140, 8), "DSDT", len);
}

static void check_rsdp(void)
{
	const uint8_t *rsdp = at_gpa(acpi_tables.rsdp, HEADER_SIZE);
	ck_assert_mem_eq(rsdp, "RSD PTR ", 8);
	ck_assert_uint_eq(rsdp[15], 2); /* revision */
	ck_assert_uint_eq(get(rsdp + 20, 4), 36);
	check_sum(rsdp, 20);
	check_sum(rsdp, 36);
}

START_TEST(rsdp_is_found_and_sound)
{
	acpi_rig_build(1, 0);
	check_rsdp();
}
END_TEST

/* ACPI 6.5, 5.2.9: what a kernel asks before it touches hardware. */
START_TEST(fadt_describes_reduced_hardware)
{
	size_t len;

	acpi_rig_build(1, 0);
	const uint8_t *fadt = xsdt_table(0, "FACP", &len);
	ck_assert_uint_eq(len, 276);
	ck_assert_uint_eq(get(fadt + 40, 4), get(fadt + 140, 8));   /* DSDT, twice */
	ck_assert_uint_eq(get(fadt + 109, 2), 1 | 1 << 2 | 1 << 4); /* no 8042, VGA, ASPM; an RTC */
	uint32_t flags = (uint32_t)get(fadt + 112, 4);
	ck_assert(flags & 1 << 20);	 /* HW_REDUCED_ACPI */
	ck_assert(flags & 1 << 10);	 /* RESET_REG_SUP */
	ck_assert_uint_eq(fadt[116], 1); /* the reset register is a port */
	ck_assert_uint_eq(get(fadt + 120, 8), FOAL_PORT_ACPI_RESET);
	ck_assert_uint_eq(fadt[128], FOAL_ACPI_RESET_VALUE);
	ck_assert_uint_eq(get(fadt + 248, 8), FOAL_PORT_ACPI_SLEEP_CTL);
	ck_assert_uint_eq(get(fadt + 260, 8), FOAL_PORT_ACPI_SLEEP_STS);
	/* No block of the fixed hardware: PM1 to GPE1. */
	for (unsigned at = 56; at < 88; at += 4)
		ck_assert_uint_eq(get(fadt + at, 4), 0);
}
END_TEST

struct madt_counts {
	unsigned cpus, io_apics, overrides, nmis;
};

/* Each vCPU once and in order, whatever the kind of its entry. */
static struct madt_counts walk_madt(void)
{
	struct madt_counts n = {0};
	size_t len;
	const uint8_t *madt = xsdt_table(1, "APIC", &len);

	ck_assert_uint_eq(get(madt + 36, 4), FOAL_LAPIC_BASE);
	ck_assert_uint_eq(get(madt + 40, 4), 0); /* no 8259s */
	for (size_t at = 44; at < len; at += madt[at + 1]) {
		const uint8_t *e = madt + at;

		ck_assert_uint_ge(e[1], 6);
		switch (e[0]) {
		case 0:
			ck_assert_uint_le(n.cpus, 254);
			ck_assert_uint_eq(e[2], n.cpus);
			ck_assert_uint_eq(e[3], n.cpus++);
			ck_assert_uint_eq(get(e + 4, 4), 1);
			break;
		case 9:
			ck_assert_uint_ge(n.cpus, 255);
			ck_assert_uint_eq(get(e + 12, 4), n.cpus);
			ck_assert_uint_eq(get(e + 4, 4), n.cpus++);
			ck_assert_uint_eq(get(e + 8, 4), 1);
			break;
		case 1:
			ck_assert_uint_eq(get(e + 4, 4), FOAL_IOAPIC_BASE);
			ck_assert_uint_eq(get(e + 8, 4), 0);
			n.io_apics++;
			break;
		case 2:
			ck_assert_uint_eq(e[3], FOAL_PIN_ACPI);
			ck_assert_uint_eq(get(e + 4, 4), FOAL_PIN_ACPI);
			ck_assert_uint_eq(get(e + 8, 2), 0xd);
			n.overrides++;
			break;
		case 4:
		case 10:
			n.nmis++;
			break;
		default:
			ck_abort_msg("entry of type %u", e[0]);
		}
	}
	return n;
}

/* 255 is the last that 8-bit entries have room for, 300 needs both kinds; 4096 is the most. */
START_TEST(madt_lists_every_cpu)
{
	static const unsigned cpus[] = {1, 8, 64, 255, 300, 2400, EPT_MAX_VCPUS};

	acpi_rig_build(cpus[_i], FOAL_VIRTIO_MMIO_DEVICES);
	ck_assert_uint_ge(acpi_tables.rsdp, cpus[_i] <= 2400 ? 0xe0000 : FOAL_ACPI);
	ck_assert_uint_eq(acpi_tables.rsdp % 16, 0);
	struct madt_counts n = walk_madt();
	ck_assert_uint_eq(n.cpus, cpus[_i]);
	ck_assert_uint_eq(n.io_apics, 1);
	ck_assert_uint_eq(n.overrides, 1);
	ck_assert_uint_eq(n.nmis, cpus[_i] > 255 ? 2 : 1);
}
END_TEST

START_TEST(no_room)
{
	struct foal_error err = {0};
	struct acpi_tables none;

	acpi_opt.cpus = 100;
	acpi_vm.virtio_count = 0;
	ck_assert_int_eq(acpi_build(&acpi_vm, 0x10000, 0x11000, &none, &err), -E2BIG);
	ck_assert_ptr_nonnull(strstr(err.text, "--cpus 100: the ACPI tables need "));
}
END_TEST

/* PCI Firmware 3.3, 4.1.2: bus 0 alone, and only where there is PCI. */
START_TEST(mcfg_with_pci)
{
	size_t len;

	acpi_rig_pci();
	acpi_rig_build(1, 2);
	const uint8_t *mcfg = xsdt_table(2, "MCFG", &len);
	ck_assert_uint_eq(len, HEADER_SIZE + 8 + 16);
	ck_assert_uint_eq(get(mcfg + 44, 8), FOAL_PCI_ECAM);
	ck_assert_uint_eq(get(mcfg + 52, 4), 0); /* segment 0, bus 0 to 0 */
}
END_TEST

/* --- for firmware --------------------------------------------------------------------- */

/* Where this firmware puts the two files; the RSDP where the walk above looks for it. */
#define ACPI_PLACE 0xe0000UL
#define TABLES_AT  (ACPI_PLACE + 0x1000)
#define ROOM	   0x8000

static struct bus *ports;

static void select_item(uint16_t key)
{
	ck_assert(bus_write(ports, FOAL_PORT_FW_CFG, &key, 2));
}

static void read_item(void *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		ck_assert(bus_read(ports, FOAL_PORT_FW_CFG + 1, (char *)data + i, 1));
}

/* Read file @name of fw_cfg into @data; its size. */
static size_t read_fw_file(const char *name, void *data, size_t room)
{
	struct {
		uint32_t size;
		uint16_t key, reserved;
		char name[56];
	} entry;
	uint32_t count;

	select_item(0x19);
	read_item(&count, sizeof(count));
	for (count = be32toh(count); count; count--) {
		read_item(&entry, sizeof(entry));
		if (strcmp(entry.name, name) == 0)
			break;
	}
	ck_assert_msg(count > 0, "no file %s", name);
	size_t size = be32toh(entry.size);
	ck_assert_uint_le(size, room);
	select_item(be16toh(entry.key));
	read_item(data, size);
	return size;
}

static uint64_t address_of(const char *file)
{
	bool rsdp = strcmp(file, "etc/acpi/rsdp") == 0;

	ck_assert(rsdp || strcmp(file, "etc/acpi/tables") == 0);
	return rsdp ? ACPI_PLACE : TABLES_AT;
}

/* Do what a command of 128 bytes says, as SeaBIOS's and qboot's loaders do. */
static void obey(const uint8_t *c)
{
	const char *file = (const char *)c + 4;
	uint8_t *memory = acpi_tables.data, *base = memory + (address_of(file) - ACPI_PLACE),
		sum = 0;

	switch (get(c, 4)) {
	case 1:
		ck_assert_uint_eq(get(c + 60, 4), 16);
		ck_assert_uint_eq(c[64], address_of(file) == ACPI_PLACE ? 2 : 1);
		read_fw_file(file, base, ROOM - (size_t)(base - memory));
		break;
	case 2: {
		uint8_t *at = base + get(c + 116, 4);
		uint64_t value = get(at, c[120]) + address_of((const char *)c + 60);
		memcpy(at, &value, c[120]);
		break;
	}
	case 3:
		for (uint64_t i = 0; i < get(c + 68, 4); i++)
			sum += base[get(c + 64, 4) + i];
		base[get(c + 60, 4)] -= sum;
		break;
	default:
		ck_abort_msg("command %u", (unsigned)get(c, 4));
	}
}

/* The same tables, placed by the script. */
START_TEST(firmware_places_them)
{
	struct device_host host = {.vm_name = "test"};
	struct device *fw_cfg;
	struct foal_error err = {0};
	uint8_t script[128 * 32];
	size_t len;

	acpi_opt.cpus = 3;
	acpi_vm.virtio_count = 2;
	ck_assert_int_eq(fw_cfg_create(&host, &fw_cfg), 0);
	ck_assert_int_eq(acpi_fw_cfg(&acpi_vm, fw_cfg, &err), 0);
	ports = bus_create();
	ck_assert_int_eq(bus_attach(ports, fw_cfg, FOAL_PORT_FW_CFG, FOAL_PORT_FW_CFG_LEN), 0);

	acpi_tables =
	    (struct acpi_tables){.data = calloc(1, ROOM), .size = ROOM, .rsdp = ACPI_PLACE};
	size_t size = read_fw_file("etc/table-loader", script, sizeof(script));
	ck_assert_uint_eq(size % 128, 0);
	for (size_t at = 0; at < size; at += 128)
		obey(script + at);
	bus_destroy(ports);

	check_rsdp();
	ck_assert_uint_eq(walk_madt().cpus, 3);
	const uint8_t *fadt = xsdt_table(0, "FACP", &len);
	ck_assert_uint_eq(get(fadt + 40, 4), get(fadt + 140, 8));
	ck_assert_ptr_nonnull(dsdt(&len));
}
END_TEST

Suite *acpi_suite(void)
{
	Suite *suite = suite_create("acpi");
	TCase *tc = tcase_create("acpi");

	tcase_add_checked_fixture(tc, NULL, acpi_rig_fini);
	tcase_add_test(tc, rsdp_is_found_and_sound);
	tcase_add_test(tc, fadt_describes_reduced_hardware);
	tcase_add_loop_test(tc, madt_lists_every_cpu, 0, 7);
	tcase_add_test(tc, no_room);
	tcase_add_test(tc, mcfg_with_pci);
	tcase_add_test(tc, firmware_places_them);
	suite_add_tcase(suite, tc);
	return suite;
}
