/*
 * RSDP -> XSDT -> FADT -> DSDT
 *              -> MADT
 *              -> MCFG, with PCI
 *
 * FADT and the terms of the DSDT are compiled by iasl (vmm/acpi/); the others
 * hold addresses and counts only.
 */
#include "vmm/acpi.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "acpi/fadt.hex"
#include "vmm/acpi_blob.h"
#include "vmm/acpi_dsdt.h"
#include "vmm/acpi_loader.h"
#include "vmm/vm.h"

/* ACPI 6.5, 5.2.9: where the FADT points at the DSDT. */
#define FADT_DSDT   40
#define FADT_X_DSDT 140

/* ACPI 6.5, 5.2.5.3 */
struct rsdp {
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt;
	uint32_t length;
	uint64_t xsdt;
	uint8_t extended_checksum;
	uint8_t reserved[3];
} __attribute__((packed));

#define RSDP_V1_SIZE 20

static_assert(sizeof(struct rsdp) == 36 && sizeof(struct rsdp) <= BLOB_RSDP, "RSDP");

/* --- MADT (ACPI 6.5, 5.2.12) ------------------------------------------------------- */

enum madt_type {
	MADT_LOCAL_APIC = 0,
	MADT_IO_APIC = 1,
	MADT_OVERRIDE = 2,
	MADT_LOCAL_APIC_NMI = 4,
	MADT_LOCAL_X2APIC = 9,
	MADT_LOCAL_X2APIC_NMI = 10,
};

#define MADT_ENABLED	1
#define MADT_ALL_CPUS	0xff
#define MADT_HIGH_LEVEL 0x0d /* active high, level-triggered */
#define MADT_NMI_LINT	1

/* Its number 255 is broadcast, so the last that an 8-bit entry can name is 254. */
#define LAST_XAPIC_ID	254

struct madt_header {
	uint32_t local_apic_address, flags;
} __attribute__((packed));

struct madt_local_apic {
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
} __attribute__((packed));

struct madt_local_x2apic {
	uint8_t type, length;
	uint16_t reserved;
	uint32_t apic_id, flags, uid;
} __attribute__((packed));

struct madt_io_apic {
	uint8_t type, length, id, reserved;
	uint32_t address, gsi_base;
} __attribute__((packed));

struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));

struct madt_local_apic_nmi {
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));

struct madt_local_x2apic_nmi {
	uint8_t type, length;
	uint16_t flags;
	uint32_t uid;
	uint8_t lint, reserved[3];
} __attribute__((packed));

#define ENTRY(t, e) .type = (t), .length = sizeof(e)

static void put_cpu(struct blob *blob, unsigned i)
{
	struct madt_local_apic xapic = {ENTRY(MADT_LOCAL_APIC, xapic), .uid = (uint8_t)i,
					.apic_id = (uint8_t)i, MADT_ENABLED};
	struct madt_local_x2apic x2apic = {ENTRY(MADT_LOCAL_X2APIC, x2apic), .apic_id = i,
					   .flags = MADT_ENABLED, .uid = i};

	if (i <= LAST_XAPIC_ID)
		blob_put(blob, &xapic, sizeof(xapic));
	else
		blob_put(blob, &x2apic, sizeof(x2apic));
}

/* LINT1 of each local APIC is the NMI's, as everywhere. */
static void put_nmis(struct blob *blob, unsigned cpus)
{
	struct madt_local_apic_nmi xapic = {ENTRY(MADT_LOCAL_APIC_NMI, xapic), .uid = MADT_ALL_CPUS,
					    .lint = MADT_NMI_LINT};
	struct madt_local_x2apic_nmi x2apic = {ENTRY(MADT_LOCAL_X2APIC_NMI, x2apic),
					       .uid = UINT32_MAX, .lint = MADT_NMI_LINT};

	blob_put(blob, &xapic, sizeof(xapic));
	if (cpus > LAST_XAPIC_ID + 1)
		blob_put(blob, &x2apic, sizeof(x2apic));
}

/*
 * The I/O APIC's ID is 0, as its register says; on a system bus it is in no
 * space with those of local APICs. Pins 0 to 15 are the ISA interrupts, edge
 * and active high unless overridden.
 */
static size_t put_madt(struct blob *blob, unsigned cpus)
{
	struct madt_header header = {.local_apic_address = FOAL_LAPIC_BASE};
	struct madt_io_apic io_apic = {ENTRY(MADT_IO_APIC, io_apic), .address = FOAL_IOAPIC_BASE};
	struct madt_override events = {ENTRY(MADT_OVERRIDE, events), .source = FOAL_PIN_ACPI,
				       .gsi = FOAL_PIN_ACPI, .flags = MADT_HIGH_LEVEL};
	size_t table = table_begin(blob, "APIC", 5);

	blob_put(blob, &header, sizeof(header));
	for (unsigned i = 0; i < cpus; i++)
		put_cpu(blob, i);
	blob_put(blob, &io_apic, sizeof(io_apic));
	blob_put(blob, &events, sizeof(events));
	put_nmis(blob, cpus);
	table_end(blob, table);
	return table;
}

/* --- MCFG (PCI Firmware 3.3, 4.1.2) --------------------------------------------------- */

struct mcfg {
	uint64_t reserved;
	uint64_t base; /* of the configuration space */
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved2;
} __attribute__((packed));

static size_t put_mcfg(struct blob *blob)
{
	struct mcfg mcfg = {.base = FOAL_PCI_ECAM};
	size_t table = table_begin(blob, "MCFG", 1);

	blob_put(blob, &mcfg, sizeof(mcfg));
	table_end(blob, table);
	return table;
}

/* --- the others ------------------------------------------------------------------------ */

static size_t put_fadt(struct blob *blob, size_t dsdt)
{
	size_t table = table_copy(blob, fadt_aml_code, sizeof(fadt_aml_code));

	/* Firmware reads the old field; a kernel wants them equal. */
	blob_point(blob, table + FADT_DSDT, 4, dsdt);
	blob_point(blob, table + FADT_X_DSDT, 8, dsdt);
	table_end(blob, table);
	return table;
}

/* @tables holds @nr offsets. */
static size_t put_xsdt(struct blob *blob, const size_t *tables, unsigned nr)
{
	size_t table = table_begin(blob, "XSDT", 1);

	for (unsigned i = 0; i < nr; i++)
		blob_point(blob, blob_put(blob, NULL, 8), 8, tables[i]);
	table_end(blob, table);
	return table;
}

/* At offset 0, where room was left for it. */
static void set_rsdp(struct blob *blob, size_t xsdt)
{
	struct rsdp rsdp = {
	    .signature = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '},
	    .oem_id = "FOAL",
	    .revision = 2,
	    .length = sizeof(rsdp),
	};

	if (blob->failed)
		return;
	memcpy(blob->data, &rsdp, sizeof(rsdp));
	blob_point(blob, offsetof(struct rsdp, xsdt), 8, xsdt);
	blob_sum(blob, offsetof(struct rsdp, checksum), 0, RSDP_V1_SIZE);
	blob_sum(blob, offsetof(struct rsdp, extended_checksum), 0, sizeof(rsdp));
}

static int build(const struct vm *vm, struct blob *blob, struct foal_error *err)
{
	*blob = (struct blob){0};
	blob_put(blob, NULL, BLOB_RSDP);
	unsigned mmio_devices = vm->pci ? 0 : vm->virtio_count, nr = 0;
	size_t tables[3];
	size_t dsdt = dsdt_put(blob, mmio_devices, vm->pci, vm->opt->cpus);

	tables[nr++] = put_fadt(blob, dsdt);
	tables[nr++] = put_madt(blob, vm->opt->cpus);
	if (vm->pci)
		tables[nr++] = put_mcfg(blob);
	set_rsdp(blob, put_xsdt(blob, tables, nr));
	if (!blob->failed)
		return 0;
	free(blob->data);
	return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for ACPI tables");
}

int acpi_build(const struct vm *vm, uint64_t start, uint64_t end, struct acpi_tables *out,
	       struct foal_error *err)
{
	struct blob blob;
	int r = build(vm, &blob, err);

	if (r)
		return r;
	blob_align(&blob);
	if (blob.failed || blob.size > end - start) {
		free(blob.data);
		return error_set(err, FOAL_EXIT_HOST, blob.failed ? -ENOMEM : -E2BIG,
				 "--cpus %u: the ACPI tables need %zu bytes of %" PRIu64,
				 vm->opt->cpus, blob.size, end - start);
	}
	blob_place(&blob, end - blob.size);
	*out = (struct acpi_tables){.data = blob.data, .size = blob.size, .rsdp = end - blob.size};
	return 0;
}

int acpi_fw_cfg(const struct vm *vm, struct device *fw_cfg, struct foal_error *err)
{
	struct blob blob;
	int r = build(vm, &blob, err);

	if (r)
		return r;
	r = blob_offer(&blob, fw_cfg);
	free(blob.data);
	return r ? error_set(err, FOAL_EXIT_HOST, r, "ACPI tables for firmware: %s", strerror(-r))
		 : 0;
}

void acpi_free(struct acpi_tables *tables)
{
	free(tables->data);
	*tables = (struct acpi_tables){0};
}
