/*
 * The state in which the first vCPU starts, by boot protocol. Without a call it
 * is what KVM gives every vCPU: the processor's reset state (SDM 3A 10.1), from
 * which firmware starts. Functions return 0 or a negative errno with @err filled.
 */
#ifndef FOAL_VMM_ENTRY_H
#define FOAL_VMM_ENTRY_H

#include <stdint.h>

#include "vmm/error.h"

/* PVH (Xen docs/misc/pvh): 32-bit protected mode, flat segments, paging off. */
int entry_pvh(int vcpu_fd, uint32_t entry, uint32_t start_info, struct foal_error *err);

/*
 * Linux's 64-bit boot protocol: long mode on the page tables, GDT and
 * boot_params at FOAL_BOOT_* (guest/abi.h).
 */
int entry_linux64(int vcpu_fd, uint64_t entry, struct foal_error *err);

#define ENTRY_GDT_ENTRIES 4

/* The GDT that entry_linux64() expects at FOAL_BOOT_GDT. */
void entry_gdt(uint64_t gdt[ENTRY_GDT_ENTRIES]);

#endif
