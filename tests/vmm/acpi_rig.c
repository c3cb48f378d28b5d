#include "tests/vmm/acpi_rig.h"

#include <check.h>

struct run_options acpi_opt;
struct vm acpi_vm = {.opt = &acpi_opt};
struct acpi_tables acpi_tables;

void acpi_rig_build(unsigned cpus, unsigned virtio)
{
	struct foal_error err = {0};

	acpi_opt.cpus = cpus;
	acpi_vm.virtio_count = virtio;
	ck_assert_int_eq(acpi_build(&acpi_vm, FOAL_ACPI, FOAL_ACPI_END, &acpi_tables, &err), 0);
	ck_assert_uint_eq(acpi_tables.rsdp + acpi_tables.size, FOAL_ACPI_END);
}

void acpi_rig_pci(void)
{
	acpi_vm.pci = (struct pci *)&acpi_vm;
}

void acpi_rig_fini(void)
{
	acpi_vm.pci = NULL;
	acpi_free(&acpi_tables);
}
