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
	uint64_t rsdp; /* gpa of the RSDP, inside of them */
};

/*
 * Build the tables of @vm for guest-physical address @gpa, a multiple of 16
 * below 4 GiB: less than 1 KiB, 69 bytes more for each device on MMIO (or 600 for
 * PCI) and 45 for each vCPU. All devices are attached before, since the DSDT
 * names them. Errors: -ENOMEM; nothing to free then.
 */
int acpi_build(const struct vm *vm, uint64_t gpa, struct acpi_tables *out, struct foal_error *err);
void acpi_free(struct acpi_tables *tables);

/*
 * Offer the same tables to firmware, which chooses where they lie: files
 * etc/acpi/rsdp, etc/acpi/tables and etc/table-loader of @fw_cfg.
 */
int acpi_fw_cfg(const struct vm *vm, struct device *fw_cfg, struct foal_error *err);

#endif
