/* What devices of all kinds have in common. */
#include "devices/device.h"

#include <errno.h>
#include <stdlib.h>

int device_create(const struct device_ops *ops, const struct device_host *host, struct device **out)
{
	struct device *dev = calloc(1, sizeof(*dev));

	if (!dev)
		return -ENOMEM;
	device_init(dev, ops, host);
	*out = dev;
	return 0;
}

void device_free(struct device *dev)
{
	free(dev);
}

const char *device_kind(const struct device *dev)
{
	return dev->ops->kind;
}

const char *device_broken(struct device *dev)
{
	return atomic_load_explicit(&dev->broken, memory_order_acquire);
}
