/*
 * The reset bell: a guest sets its reset point and goes back to it, with no command from
 * outside (docs/reset.md). It remembers nothing: how often the guest went back is the
 * monitor's, so that each round can tell itself from the one before.
 */
#include "devices/device.h"
#include "guest/abi.h"

static uint64_t reset_bell_read(struct device *dev, uint64_t offset, unsigned len)
{
	(void)len;
	return offset ? UINT64_MAX : dev->host->resets(dev->host->ctx);
}

static void reset_bell_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)len;
	bool back = value & FOAL_RESET_BACK &&
		    !(value & ~(uint64_t)(FOAL_RESET_BACK | FOAL_RESET_SAME | FOAL_RESET_TABLES |
					  FOAL_RESET_CONTROLS));

	if (offset == 0 && (back || value == FOAL_RESET_POINT))
		dev->host->reset_bell(dev->host->ctx, (uint8_t)value);
}

const struct device_ops reset_bell_device = {
    .kind = "reset-bell",
    .read = reset_bell_read,
    .write = reset_bell_write,
    .destroy = device_free,
};

int reset_bell_create(const struct device_host *host, struct device **out)
{
	return device_create(&reset_bell_device, host, out);
}
