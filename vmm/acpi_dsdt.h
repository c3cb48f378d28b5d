/* The DSDT: what every machine has, then virtio-mmio devices or the PCI root, then vCPUs. */
#ifndef FOAL_VMM_ACPI_DSDT_H
#define FOAL_VMM_ACPI_DSDT_H

#include "vmm/acpi_blob.h"

/* Append it, with @mmio_devices of virtio-mmio; returns its offset. */
size_t dsdt_put(struct blob *blob, unsigned mmio_devices, bool pci, unsigned cpus);

#endif
