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
 *   above RAM, 1 GiB steps persistent memory (--pmem), announced in the
 *                          memory map as FOAL_MEMMAP_PMEM and by virtio-pmem
 */
#define FOAL_MMIO_GAP_START	 0xc0000000UL
#define FOAL_MMIO_GAP_END	 0x100000000UL

/* The legacy hole: not RAM in the memory map that the guest is given. */
#define FOAL_LEGACY_HOLE_START	 0x9fc00UL
#define FOAL_LEGACY_HOLE_END	 0x100000UL

/* Boot information, written by the loader before the first KVM_RUN. */
#define FOAL_START_INFO		 0x6000UL
#define FOAL_MEMMAP		 0x7000UL
#define FOAL_CMDLINE		 0x20000UL
#define FOAL_CMDLINE_MAX	 0x1000UL /* with the terminating zero */
#define FOAL_PVH_MAGIC		 0x336ec578U
#define FOAL_PVH_NOTE_TYPE	 18 /* XEN_ELFNOTE_PHYS32_ENTRY */

/* hvm_memmap_table_entry.type (Xen public headers, hvm/start_info.h) */
#define FOAL_MEMMAP_RAM		 1
#define FOAL_MEMMAP_RESERVED	 2
#define FOAL_MEMMAP_PMEM	 7

/*
 * virtio-mmio devices: one page apart, one IOAPIC pin each. The command line
 * names each as virtio_mmio.device=<size>@<address>:<pin>, Linux's syntax.
 */
#define FOAL_VIRTIO_MMIO_BASE	 0xd0000000UL
#define FOAL_VIRTIO_MMIO_STRIDE	 0x1000UL
#define FOAL_VIRTIO_MMIO_SIZE	 0x200UL
#define FOAL_VIRTIO_MMIO_PIN	 16
#define FOAL_VIRTIO_MMIO_DEVICES 32

#define FOAL_IOAPIC_BASE	 0xfec00000UL
#define FOAL_IOAPIC_PINS	 48
#define FOAL_LAPIC_BASE		 0xfee00000UL

/* Ports. */
#define FOAL_PORT_COM1		 0x3f8
#define FOAL_PORT_COM1_LEN	 8
#define FOAL_PIN_COM1		 4

/*
 * A byte written here ends the run; it becomes foal's exit status. Statuses
 * from FOAL_EXIT_RESERVED up are the monitor's own (docs/exit-statuses.md): a
 * guest that writes one of those ends with FOAL_EXIT_RESERVED - 1.
 */
#define FOAL_PORT_EXIT		 0xf4
#define FOAL_EXIT_RESERVED	 100

/* CPUID leaf whose EAX is the TSC's and EBX the local APIC timer's rate, kHz. */
#define FOAL_CPUID_TIMING	 0x40000010U

#endif
