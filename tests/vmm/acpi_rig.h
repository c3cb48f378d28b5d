/* A VM that has no more than its ACPI tables are built from. */
#ifndef FOAL_TESTS_VMM_ACPI_RIG_H
#define FOAL_TESTS_VMM_ACPI_RIG_H

#include "vmm/acpi.h"
#include "vmm/vm.h"

/* Check runs each test in a process of its own, so each has these to itself. */
extern struct run_options acpi_opt;
extern struct vm acpi_vm;
extern struct acpi_tables acpi_tables;

/* Make the tables of a VM with that many vCPUs and virtio devices. */
void acpi_rig_build(unsigned cpus, unsigned virtio);
/* From now on it has PCI: the tables ask no more of it than whether it is there. */
void acpi_rig_pci(void);
void acpi_rig_fini(void);

#endif
