/*
 * What every machine has. foal appends to these terms one of virtio.asl for
 * each virtio-mmio device and one of processor.asl for each vCPU.
 */
#include "guest/abi.h"

DefinitionBlock ("", "DSDT", 2, "FOAL", "FOALDSDT", 1)
{
	/* The value for SLP_TYP in the sleep control register; devices/acpi_pm.c knows it. */
	Name (\_S5, Package () { FOAL_ACPI_S5, 0, 0, 0 })

	Scope (\_SB)
	{
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, FOAL_PORT_COM1, FOAL_PORT_COM1, 1, FOAL_PORT_COM1_LEN)
				IRQNoFlags () { FOAL_PIN_COM1 }
			})
		}

		/* No interrupt: the clock has no alarm. */
		Device (RTC0)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, FOAL_PORT_RTC, FOAL_PORT_RTC, 1, FOAL_PORT_RTC_LEN)
			})
		}

		Device (PWRB)
		{
			Name (_HID, EisaId ("PNP0C0C"))
		}

		/* Microsoft, "Virtual Machine Generation ID", 2012. */
		Device (VGEN)
		{
			Name (_HID, "FOAL0001")
			Name (_CID, "VM_Gen_Counter")
			Name (_DDN, "VM_Gen_Counter")
			Name (ADDR, Package () { FOAL_VMGENID, 0 })
		}

		/* Without the fixed hardware's SCI, this device tells of events (ACPI 6.5, 5.6.9). */
		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Level, ActiveHigh, Exclusive)
				{
					FOAL_PIN_ACPI
				}
			})
			OperationRegion (REGS, SystemIO, FOAL_PORT_ACPI_EVENTS, 4)
			Field (REGS, DWordAcc, NoLock, WriteAsZeros)
			{
				EVTS, 32
			}

			/* A read takes the events that are pending and lets the pin fall. */
			Method (_EVT, 1, Serialized)
			{
				Local0 = EVTS
				If (Local0 & FOAL_ACPI_POWER_BUTTON)
				{
					Notify (PWRB, 0x80)
				}
				If (Local0 & FOAL_ACPI_GENERATION)
				{
					Notify (VGEN, 0x80)
				}
			}
		}
	}
}
