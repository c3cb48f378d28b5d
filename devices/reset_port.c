/*
 * The reset control register of PC chipsets, port 0xcf9 (Intel ICH, "RST_CNT"):
 * a write with bit 2 set resets the processor. SeaBIOS for machines without a
 * keyboard controller knows no other way. Where there is PCI the port lies
 * among those of its root, which hands accesses on.
 */
#include "devices/device.h"

#define RESET 0x04

static uint64_t reset_port_read(struct device *dev, uint64_t offset, unsigned len)
{
	(void)dev, (void)offset, (void)len;
	return 0;
}

static void reset_port_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)offset, (void)len;
	if (value & RESET)
		dev->host->guest_reset(dev->host->ctx);
}

const struct device_ops reset_port_device = {
    .kind = "reset-port",
    .read = reset_port_read,
    .write = reset_port_write,
    .destroy = device_free,
};

int reset_port_create(const struct device_host *host, struct device **out)
{
	return device_create(&reset_port_device, host, out);
}
