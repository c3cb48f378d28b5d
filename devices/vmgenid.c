/*
 * The VM generation ID (Microsoft, "Virtual Machine Generation ID", 2012): 16
 * random bytes in guest memory, other ones whenever the guest may be a second
 * copy of itself. A guest that sees them change reseeds its random numbers.
 */
#include <errno.h>
#include <sys/random.h>

#include "devices/device.h"
#include "guest/abi.h"

int vmgenid_renew(const struct device_host *host, struct device *acpi_pm)
{
	uint8_t id[16];

	/* Up to 256 bytes come whole once the host has seeded its generator. */
	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return errno ? -errno : -EIO;
	int r = ept_write(host->memory, GPA(FOAL_VMGENID), id, sizeof(id), EPT_ORIGIN_DEVICE);
	if (r == 0 && acpi_pm)
		acpi_pm_raise(acpi_pm, FOAL_ACPI_GENERATION);
	return r;
}
