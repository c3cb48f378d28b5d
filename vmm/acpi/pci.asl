/*
 * The PCI root, appended to dsdt.asl where virtio is reached through PCI. No
 * port window: no function has ports.
 */
#include "guest/abi.h"

DefinitionBlock ("", "SSDT", 2, "FOAL", "PCI", 1)
{
	Scope (\_SB)
	{
		/* What the configuration space occupies, as the PCI Firmware Specification wants it told. */
		Device (ECAM)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, "ECAM")
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, FOAL_PCI_ECAM, FOAL_PCI_ECAM_SIZE)
			})
		}

		/* A conventional bus: no function has PCI Express capabilities. */
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_SEG, 0)
			Name (_BBN, 0)
			Name (_CRS, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				IO (Decode16, FOAL_PORT_PCI, FOAL_PORT_PCI, 1, FOAL_PORT_PCI_LEN)
				DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite, 0, FOAL_PCI_WINDOW,
					FOAL_PCI_WINDOW_END, 0, FOAL_PCI_WINDOW_SIZE)
			})

			/* Each slot's INTA has a pin of its own: nothing is shared. */
			Name (_PRT, Package ()
			{
				Package () { 0x0001FFFF, 0, 0, FOAL_PCI_PIN + 1 },
				Package () { 0x0002FFFF, 0, 0, FOAL_PCI_PIN + 2 },
				Package () { 0x0003FFFF, 0, 0, FOAL_PCI_PIN + 3 },
				Package () { 0x0004FFFF, 0, 0, FOAL_PCI_PIN + 4 },
				Package () { 0x0005FFFF, 0, 0, FOAL_PCI_PIN + 5 },
				Package () { 0x0006FFFF, 0, 0, FOAL_PCI_PIN + 6 },
				Package () { 0x0007FFFF, 0, 0, FOAL_PCI_PIN + 7 },
				Package () { 0x0008FFFF, 0, 0, FOAL_PCI_PIN + 8 },
				Package () { 0x0009FFFF, 0, 0, FOAL_PCI_PIN + 9 },
				Package () { 0x000AFFFF, 0, 0, FOAL_PCI_PIN + 10 },
				Package () { 0x000BFFFF, 0, 0, FOAL_PCI_PIN + 11 },
				Package () { 0x000CFFFF, 0, 0, FOAL_PCI_PIN + 12 },
				Package () { 0x000DFFFF, 0, 0, FOAL_PCI_PIN + 13 },
				Package () { 0x000EFFFF, 0, 0, FOAL_PCI_PIN + 14 },
				Package () { 0x000FFFFF, 0, 0, FOAL_PCI_PIN + 15 },
				Package () { 0x0010FFFF, 0, 0, FOAL_PCI_PIN + 16 },
				Package () { 0x0011FFFF, 0, 0, FOAL_PCI_PIN + 17 },
				Package () { 0x0012FFFF, 0, 0, FOAL_PCI_PIN + 18 },
				Package () { 0x0013FFFF, 0, 0, FOAL_PCI_PIN + 19 },
				Package () { 0x0014FFFF, 0, 0, FOAL_PCI_PIN + 20 },
				Package () { 0x0015FFFF, 0, 0, FOAL_PCI_PIN + 21 },
				Package () { 0x0016FFFF, 0, 0, FOAL_PCI_PIN + 22 },
				Package () { 0x0017FFFF, 0, 0, FOAL_PCI_PIN + 23 },
				Package () { 0x0018FFFF, 0, 0, FOAL_PCI_PIN + 24 },
				Package () { 0x0019FFFF, 0, 0, FOAL_PCI_PIN + 25 },
				Package () { 0x001AFFFF, 0, 0, FOAL_PCI_PIN + 26 },
				Package () { 0x001BFFFF, 0, 0, FOAL_PCI_PIN + 27 },
				Package () { 0x001CFFFF, 0, 0, FOAL_PCI_PIN + 28 },
				Package () { 0x001DFFFF, 0, 0, FOAL_PCI_PIN + 29 },
				Package () { 0x001EFFFF, 0, 0, FOAL_PCI_PIN + 30 },
				Package () { 0x001FFFFF, 0, 0, FOAL_PCI_PIN + 31 }
			})
		}
	}
}
