/* The ready port: a guest writes here once it has started (guest/abi.h). */
#include "devices/device.h"

static uint64_t ready_port_read(struct device *dev, uint64_t offset, unsigned len)
{
	(void)dev, (void)offset, (void)len;
	return UINT64_MAX;
}

static void ready_port_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)offset, (void)len, (void)value;
	if (dev->host->guest_ready)
		dev->host->guest_ready(dev->host->ctx);
}

const struct device_ops ready_port_device = {
    .kind = "ready-port",
    .read = ready_port_read,
    .write = ready_port_write,
    .destroy = device_free,
};

int ready_port_create(const struct device_host *host, struct device **out)
{
	return device_create(&ready_port_device, host, out);
}
