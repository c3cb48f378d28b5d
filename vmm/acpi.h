/*
 * The ACPI tables of a VM (ACPI 6.5): RSDP, XSDT, FADT, DSDT and MADT of a
 * hardware-reduced platform. docs/acpi.md says what is in them and why.
 */
#ifndef FOAL_VMM_ACPI_H
#define FOAL_VMM_ACPI_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

struct device;
struct vm;

struct acpi_tables {
	void *data; /* to be copied to the address they were built for; owned */
	size_t size;
	uint64_t rsdp; /* gpa that they were built for; they start with the RSDP */
};

/*
 * Build the tables of @vm to end at guest-physical address @end, a multiple of 16
 * below 4 GiB: less than 1 KiB, 69 bytes more for each device on MMIO (or 600 for
 * PCI), and for each vCPU 45, from the 256th on 53. All devices are attached before,
 * since the DSDT names them. Errors: -ENOMEM; -E2BIG, they would start below @start.
 * Nothing to free then.
 */
int acpi_build(const struct vm *vm, uint64_t start, uint64_t end, struct acpi_tables *out,
	       struct foal_error *err);
void acpi_free(struct acpi_tables *tables);

/*
 * Offer the same tables to firmware, which chooses where they lie: files
 * etc/acpi/rsdp, etc/acpi/tables and etc/table-loader of @fw_cfg.
 */
int acpi_fw_cfg(const struct vm *vm, struct device *fw_cfg, struct foal_error *err);

#endif
