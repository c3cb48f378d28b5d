/*
 * The one header that monitor and guest share: where things lie in
 * guest-physical space, which ports mean what, and how a run ends.
 *
 * Everything else a guest learns comes from standards: the PVH boot
 * information (Xen's hvm_start_info, version 1), the command line, CPUID,
 * and the devices' own registers (virtio 1.2, 16550, IOAPIC, local APIC).
 *
 * Freestanding: nothing but integer constants and fixed-width fields.
 */
#ifndef FOAL_ABI_H
#define FOAL_ABI_H

/*
 * Guest-physical layout (bytes).
 *
 *   0                      low RAM, up to FOAL_MMIO_GAP_START
 *   FOAL_MMIO_GAP_START    device registers, up to 4 GiB; never RAM
 *   4 GiB                  the RAM that did not fit below the gap
 *   above RAM, 1 GiB steps persistent memory (--pmem), announced by virtio-pmem
 */
#define FOAL_MMIO_GAP_START	 0xc0000000UL
#define FOAL_MMIO_GAP_END	 0x100000000UL

/* The legacy hole: not RAM in the memory map that the guest is given. */
#define FOAL_LEGACY_HOLE_START	 0x9fc00UL
#define FOAL_LEGACY_HOLE_END	 0x100000UL

/*
 * The VM generation ID, 16 bytes of a page in the hole that no firmware claims:
 * with a display it would be video memory, and there is none.
 */
#define FOAL_VMGENID		 0xa0000

/*
 * The ACPI tables end where the reset vector is, and start with the RSDP as far below
 * as they need: up to 2400 vCPUs where kernels look that are not told, from 0xe0000.
 */
#define FOAL_ACPI		 0xc0000UL
#define FOAL_ACPI_END		 FOAL_RESET_VECTOR
#define FOAL_RESET_VECTOR	 0xffff0UL /* f000:fff0, and ffff:0 */

/* Boot information, written by the loader before the first KVM_RUN. */
#define FOAL_START_INFO		 0x6000UL
#define FOAL_MEMMAP		 0x7000UL
#define FOAL_BOOT_GDT		 0x6000UL /* Linux's 64-bit boot protocol: GDT, boot_params, */
#define FOAL_BOOT_SEED		 0x6100UL
#define FOAL_BOOT_PARAMS	 0x7000UL
#define FOAL_BOOT_PAGE_TABLES	 0x8000UL /* and page tables, up to 5 pages */
#define FOAL_CMDLINE		 0x20000UL
#define FOAL_CMDLINE_MAX	 0x1000UL /* with the terminating zero */
#define FOAL_PVH_MAGIC		 0x336ec578U
#define FOAL_PVH_NOTE_TYPE	 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

/* hvm_memmap_table_entry.type (Xen public headers, hvm/start_info.h) */
#define FOAL_MEMMAP_RAM		 1
#define FOAL_MEMMAP_RESERVED	 2

/*
 * virtio-mmio devices: one page apart, one IOAPIC pin each, without a gap. ACPI
 * says so too (docs/acpi.md), for kernels that do not know this header.
 */
#define FOAL_VIRTIO_MMIO_BASE	 0xd0000000UL
#define FOAL_VIRTIO_MMIO_STRIDE	 0x1000UL
#define FOAL_VIRTIO_MMIO_SIZE	 0x200UL
#define FOAL_VIRTIO_MMIO_PIN	 16
#define FOAL_VIRTIO_MMIO_DEVICES 32

/*
 * PCI, where virtio devices are reached that way (--transport pci): bus 0 alone.
 * The device in slot n interrupts, without MSI-X, on pin FOAL_PCI_PIN + n.
 */
#define FOAL_PCI_WINDOW		 0xc0000000 /* of the memory BARs */
#define FOAL_PCI_WINDOW_SIZE	 0x10000000
#define FOAL_PCI_WINDOW_END	 0xcfffffff /* its last byte */
#define FOAL_PCI_BAR_STRIDE	 0x10000    /* where BARs lie at first, a slot */
#define FOAL_PCI_ECAM		 0xe0000000
#define FOAL_PCI_ECAM_SIZE	 0x100000
#define FOAL_PCI_SLOTS		 32
#define FOAL_PCI_PIN		 16
#define FOAL_PORT_PCI		 0xcf8
#define FOAL_PORT_PCI_LEN	 8
/* "QEMU PCIe host bridge": what the id list has for a bridge without hardware. */
#define FOAL_PCI_BRIDGE_VENDOR	 0x1b36
#define FOAL_PCI_BRIDGE_DEVICE	 0x0008

#define FOAL_IOAPIC_BASE	 0xfec00000UL
#define FOAL_IOAPIC_PINS	 48
#define FOAL_LAPIC_BASE		 0xfee00000UL

/* Ports. */
#define FOAL_PORT_COM1		 0x3f8
#define FOAL_PORT_COM1_LEN	 8
#define FOAL_PIN_COM1		 4

#define FOAL_PORT_I8042		 0x64
#define FOAL_I8042_RESET	 0xfe
/* fw_cfg, with firmware only (devices/fw_cfg.h). */
#define FOAL_PORT_FW_CFG	 0x510
#define FOAL_PORT_FW_CFG_LEN	 12

#define FOAL_PORT_RESET		 0xcf9
#define FOAL_PORT_RTC		 0x70
#define FOAL_PORT_RTC_LEN	 2

/*
 * ACPI's registers (devices/acpi_pm.c). EVENTS is 32 bits, a bit an event; a
 * read takes what is pending and lets the pin fall. The others are bytes, as
 * the FADT describes them.
 */
#define FOAL_PORT_ACPI		 0x600
#define FOAL_PORT_ACPI_LEN	 8
#define FOAL_PORT_ACPI_EVENTS	 0x600
#define FOAL_PORT_ACPI_SLEEP_CTL 0x604
#define FOAL_PORT_ACPI_SLEEP_STS 0x605
#define FOAL_PORT_ACPI_RESET	 0x606
#define FOAL_PIN_ACPI		 9
#define FOAL_ACPI_POWER_BUTTON	 1
#define FOAL_ACPI_GENERATION	 2
#define FOAL_ACPI_S5		 5
#define FOAL_ACPI_RESET_VALUE	 1

/*
 * A byte written here ends the run; it becomes foal's exit status. Statuses
 * from FOAL_EXIT_RESERVED up are the monitor's own (docs/exit-statuses.md): a
 * guest that writes one of those ends with FOAL_EXIT_RESERVED - 1.
 */
#define FOAL_PORT_EXIT		 0xf4
#define FOAL_EXIT_RESERVED	 100

/*
 * A byte written here says that the guest is ready: it has started, and begins what it is for.
 * Which byte does not matter. The first write since the VM began, was restored or copied is noted
 * (docs/stats.md, fault debt); nothing else happens. Read: all ones.
 */
#define FOAL_PORT_READY		 0xec

/*
 * The reset bell (--reset-port on): POINT written sets the reset point behind the instruction
 * that writes; BACK, and what holds of the others, goes back to it. Read, 32 bits: how often the
 * guest went back to this point; all ones: there is none.
 */
#define FOAL_PORT_RESET_BELL	 0xe8
#define FOAL_PORT_RESET_BELL_LEN 4
#define FOAL_RESET_POINT	 1
#define FOAL_RESET_BACK		 2
#define FOAL_RESET_SAME		 4  /* with the same VM generation ID, and random numbers */
#define FOAL_RESET_TABLES	 8  /* no page table was written since, nor its accessed bits */
#define FOAL_RESET_CONTROLS	 16 /* nor, on this processor, XCR0 and debug registers */

/* CPUID leaf whose EAX is the TSC's and EBX the local APIC timer's rate, kHz. */
#define FOAL_CPUID_TIMING	 0x40000010U

#endif
