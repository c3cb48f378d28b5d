/*
 * What boot*.c share: the memory map and writing before the first KVM_RUN.
 * Private to them; vm.h has what others call.
 *
 *   0x6000       hvm_start_info and its module list, or GDT and seed
 *   0x7000       its memory map, or boot_params
 *   0x8000..     page tables of a 64-bit entry
 *   0x20000      command line
 *   ..0xffff0    ACPI tables
 *   0xffff0      the reset vector
 *   1 MiB..      kernel segments: whole pages are file areas, read only where
 *                touched; the ragged ends of a segment are copied
 *   top          initrd, a file area
 *   above        the rest of RAM, then pmem files at 1 GiB steps
 */
#ifndef FOAL_VMM_BOOT_H
#define FOAL_VMM_BOOT_H

#include "vmm/acpi.h"
#include "vmm/vm.h"

/* hvm_memmap_table_entry (Xen public headers, hvm/start_info.h); types are e820's. */
struct memmap_entry {
	uint64_t gpa, size;
	uint32_t type, reserved;
};

#define MEMMAP_MAX 5

/* Where low RAM ends, and how much there is from 4 GiB on. */
uint64_t boot_low_end(const struct vm *vm);
uint64_t boot_high_size(const struct vm *vm);

/*
 * The memory map that a guest is given: returns how many of @map are filled. Pmem
 * is not in it: Linux would take it for NVDIMMs of its own, away from virtio-pmem.
 */
uint32_t boot_memmap(const struct vm *vm, struct memmap_entry map[MEMMAP_MAX]);

/* A file's bytes as an area; the object's page cache is the area's alone. */
int boot_file_area(struct vm *vm, int fd, const char *path, const char *name, gpa_t gpa,
		   uint64_t offset, uint64_t size, enum ept_file_mode mode, struct ept_area **area,
		   struct foal_error *err);

/* Write into guest memory as the loader. */
int boot_put(struct vm *vm, uint64_t gpa, const void *data, size_t len, struct foal_error *err);

/* What a protocol's entry point is told; @rsdp is where the ACPI tables start. */
int boot_pvh_write(struct vm *vm, uint64_t rsdp, struct foal_error *err);
int boot_linux64_write(struct vm *vm, uint64_t rsdp, struct foal_error *err);

#endif
