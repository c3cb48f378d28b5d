/* The exit port: a guest writes its status here to end the run (guest/abi.h). */
#include "devices/device.h"
#include "guest/abi.h"

static uint64_t exit_port_read(struct device *dev, uint64_t offset, unsigned len)
{
	(void)dev, (void)offset, (void)len;
	return UINT64_MAX;
}

static void exit_port_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	unsigned status = value & 0xff;

	(void)offset, (void)len;
	/* The statuses above are the monitor's: a guest cannot pass for it. */
	if (status >= FOAL_EXIT_RESERVED)
		status = FOAL_EXIT_RESERVED - 1;
	dev->host->guest_exit(dev->host->ctx, (int)status);
}

const struct device_ops exit_port_device = {
    .kind = "exit-port",
    .read = exit_port_read,
    .write = exit_port_write,
    .destroy = device_free,
};

int exit_port_create(const struct device_host *host, struct device **out)
{
	return device_create(&exit_port_device, host, out);
}
