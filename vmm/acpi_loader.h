/* Tables for firmware: QEMU's loader script in fw_cfg. */
#ifndef FOAL_VMM_ACPI_LOADER_H
#define FOAL_VMM_ACPI_LOADER_H

#include "devices/devices.h"
#include "vmm/acpi_blob.h"

/*
 * Add @blob, not placed, and the script that places it; of no other use after
 * that. Errors: fw_cfg_add_file()'s.
 */
int blob_offer(struct blob *blob, struct device *fw_cfg);

#endif
