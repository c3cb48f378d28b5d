/*
 * What is left of the keyboard controller: command 0xfe at port 0x64, which
 * pulses the processor's reset line. Its status says that output is there
 * however often it is read, so whoever probes for a keyboard gives up at the
 * first step, emptying the buffer, and that it takes input, so whoever wants
 * the reset does not wait.
 */
#include "devices/device.h"
#include "guest/abi.h"

#define STATUS_OUTPUT_FULL 1

static uint64_t i8042_read(struct device *dev, uint64_t offset, unsigned len)
{
	(void)dev, (void)offset, (void)len;
	return STATUS_OUTPUT_FULL;
}

static void i8042_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	(void)offset, (void)len;
	if (value == FOAL_I8042_RESET)
		dev->host->guest_reset(dev->host->ctx);
}

const struct device_ops i8042_device = {
    .kind = "i8042",
    .read = i8042_read,
    .write = i8042_write,
    .destroy = device_free,
};

int i8042_create(const struct device_host *host, struct device **out)
{
	return device_create(&i8042_device, host, out);
}
