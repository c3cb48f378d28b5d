/* Every kind of device there is. */
#include "devices/device.h"

const struct device_ops *const devices_kinds[] = {
    &ioapic_device,
    &serial_device,
    &exit_port_device,
    &ready_port_device,
    &fw_cfg_device,
    &acpi_pm_device,
    &i8042_device,
    &reset_port_device,
    &reset_bell_device,
    &rtc_device,
    &virtio_blk_device,
    &virtio_pmem_device,
    &virtio_net_device,
    &virtio_console_device,
    &virtio_rng_device,
    &pci_device,
    &pci_ecam_device,
    &pci_ports_device,
    &virtio_balloon_device,
    &virtio_vsock_device,
    NULL,
};
