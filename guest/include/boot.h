/* What the loader told the kernel (PVH, hvm_start_info), copied out at boot and checked. */
#ifndef GUEST_BOOT_H
#define GUEST_BOOT_H

#include "guest/include/types.h"

#define BOOT_MEMMAP_MAX 32
#define BOOT_CPUS_MAX	8

struct boot_range {
	u64 start, len; /* bytes, as given; start + len does not wrap */
	u32 type;	/* FOAL_MEMMAP_* of guest/abi.h */
};

struct boot_info {
	u32 nr_ranges;
	struct boot_range ranges[BOOT_MEMMAP_MAX];
	u64 initrd, initrd_len; /* physical; length 0: none */
	char cmdline[4096];	/* terminated */
	u32 nr_cpus;		/* enabled ones that ACPI names; 0: it says nothing */
	u32 apic_ids[BOOT_CPUS_MAX];
	bool quiet; /* the word is on the command line */
};

/* Fills in the CPUs, from ACPI's tables. */
void acpi_parse(u64 rsdp_phys);

/* Filled once before anything else runs, then only read. */
extern struct boot_info boot_info;

/*
 * Calls fn(value, arg) for each word key=value of the command line before "--", in order, until
 * one returns nonzero, and returns that, else 0. value is terminated, valid during the call only.
 */
int cmdline_each(const char *key, int (*fn)(const char *value, void *arg), void *arg);

/* The last key=value's value into buf, cut to size; false (buf empty) if there is none. */
bool cmdline_get(const char *key, char *buf, size_t size);

/* Whether the bare word is there before "--". */
bool cmdline_has(const char *word);

#endif
