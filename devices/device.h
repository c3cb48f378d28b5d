/*
 * What every device of this room is made of. Private to devices/.
 */
#ifndef FOAL_DEVICES_DEVICE_H
#define FOAL_DEVICES_DEVICE_H

#include <stdatomic.h>
#include <stddef.h>

#include "devices/devices.h"

/* The head of every device's own struct. */
struct device {
	const struct device_ops *ops;
	const struct device_host *host;
	/* Why the device needs a reset: a string literal, so a reader may keep it. */
	_Atomic(const char *) broken;
};

#define device_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void device_init(struct device *dev, const struct device_ops *ops,
			       const struct device_host *host)
{
	dev->ops = ops;
	dev->host = host;
	atomic_init(&dev->broken, NULL);
}

/* For a device that is its struct device and nothing else: create one, -ENOMEM; .destroy. */
int device_create(const struct device_ops *ops, const struct device_host *host,
		  struct device **out);
void device_free(struct device *dev);

extern const struct device_ops ioapic_device;
extern const struct device_ops serial_device;
extern const struct device_ops exit_port_device;
extern const struct device_ops ready_port_device;
extern const struct device_ops fw_cfg_device;
extern const struct device_ops acpi_pm_device;
extern const struct device_ops reset_port_device;
extern const struct device_ops reset_bell_device;
extern const struct device_ops i8042_device;
extern const struct device_ops rtc_device;
extern const struct device_ops virtio_blk_device;
extern const struct device_ops virtio_pmem_device;
extern const struct device_ops virtio_balloon_device;
extern const struct device_ops virtio_vsock_device;
extern const struct device_ops virtio_net_device;
extern const struct device_ops virtio_console_device;
extern const struct device_ops virtio_rng_device;
extern const struct device_ops pci_device;
extern const struct device_ops pci_ecam_device;
extern const struct device_ops pci_ports_device;

#endif
