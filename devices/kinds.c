/* Every kind of device there is. */
#include "devices/device.h"

const struct device_ops *const devices_kinds[] = {
    &ioapic_device,	&serial_device,	     &exit_port_device,
    &virtio_blk_device, &virtio_pmem_device, NULL,
};

const char *device_broken(struct device *dev)
{
	return atomic_load_explicit(&dev->broken, memory_order_acquire);
}
