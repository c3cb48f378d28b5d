/*
 * One virtio-mmio device. Name, _UID, address and pin are those of the first;
 * vmm/acpi_dsdt.c writes those of each one.
 *
 * Edge, because it saves the exit for the end of the interrupt, and because the
 * device drops its line and raises it again for news that come while it is high
 * (virtio_raise). SeaBIOS finds disks by this _HID and a Memory32Fixed.
 */
#include "guest/abi.h"

DefinitionBlock ("", "SSDT", 2, "FOAL", "VIRTIO", 1)
{
	Scope (\_SB)
	{
		Device (VR00)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 0xFF)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, 0xFFFFFFFF, 0xFFFFFFFF, REGS)
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, , , IRQ)
				{
					FOAL_VIRTIO_MMIO_PIN
				}
			})
		}
	}
}
