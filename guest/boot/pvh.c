/*
 * PVH boot information: Xen's public/arch-x86/hvm/start_info.h, version 1. It is copied into
 * boot_info before the memory that holds it is given to the page allocator.
 */
#include "guest/abi.h"
#include "guest/include/boot.h"
#include "guest/include/mm_init.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

struct hvm_start_info {
	u32 magic;
	u32 version;
	u32 flags;
	u32 nr_modules;
	u64 modlist_paddr;
	u64 cmdline_paddr;
	u64 rsdp_paddr;
	u64 memmap_paddr; /* from version 1 on */
	u32 memmap_entries;
	u32 reserved;
};

struct hvm_modlist_entry {
	u64 paddr, size, cmdline_paddr, reserved;
};

struct hvm_memmap_table_entry {
	u64 addr, size;
	u32 type, reserved;
};

struct boot_info boot_info;

/* A pointer to what the loader left at phys, through the boot tables' first GiB. */
static const void *boot_ptr(u64 phys, u64 len, const char *what)
{
	if (phys >= BOOT_MAPPED || len > BOOT_MAPPED - phys)
		panic("boot information: %s at %lx+%lx is above 1 GiB", what, phys, len);
	return phys_to_virt(phys);
}

static void take_memmap(const struct hvm_start_info *si)
{
	const struct hvm_memmap_table_entry *e;
	u32 n = si->memmap_entries;

	if (n > BOOT_MEMMAP_MAX) {
		printk("memory map: %u entries, only the first %u are used\n", n, BOOT_MEMMAP_MAX);
		n = BOOT_MEMMAP_MAX;
	}
	e = boot_ptr(si->memmap_paddr, n * sizeof(*e), "memory map");
	for (u32 i = 0; i < n; i++) {
		struct boot_range *r = &boot_info.ranges[boot_info.nr_ranges];

		if (!e[i].size || e[i].addr + e[i].size < e[i].addr)
			continue;
		r->start = e[i].addr;
		r->len = e[i].size;
		r->type = e[i].type;
		boot_info.nr_ranges++;
	}
}

static void take_cmdline(u64 phys)
{
	const char *s = boot_ptr(phys, sizeof(boot_info.cmdline), "command line");
	size_t i;

	for (i = 0; i < sizeof(boot_info.cmdline) - 1 && s[i]; i++)
		boot_info.cmdline[i] = s[i];
	boot_info.cmdline[i] = '\0';
	boot_info.quiet = cmdline_has("quiet");
}

void pvh_parse(u64 start_info_phys)
{
	const struct hvm_start_info *si = boot_ptr(start_info_phys, sizeof(*si), "hvm_start_info");

	if (si->magic != FOAL_PVH_MAGIC || si->version < 1)
		panic("boot information: no PVH start info, version 1 (magic %x, version %u)",
		      si->magic, si->version);
	if (si->cmdline_paddr)
		take_cmdline(si->cmdline_paddr);
	take_memmap(si);
	acpi_parse(si->rsdp_paddr);
	if (si->nr_modules) {
		const struct hvm_modlist_entry *m =
		    boot_ptr(si->modlist_paddr, sizeof(*m), "module list");

		boot_info.initrd = m->paddr;
		boot_info.initrd_len = m->size;
	}
}
