/*
 * The kernel's own mappings. The direct map takes the largest pages there are, so that describing
 * RAM touches next to none of it.
 */
#include "guest/abi.h"
#include "guest/include/boot.h"
#include "guest/include/cpu.h"
#include "guest/include/io.h"
#include "guest/include/mm_init.h"
#include "guest/include/pgtable.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

#define CPUID_EXT	 0x80000001U
#define CPUID_EXT_EDX_GB (1U << 26)
#define PUD_SIZE	 (1UL << 30)
#define DIRECT_MAP_MAX	 (1UL << 45)
#define EARLY_ROOM	 (1UL << 20) /* more than the tables below ever take */

extern char kernel_start[], text_end[], rodata_end[], kernel_end[];

static u64 kernel_pml4[PTRS_PER_TABLE] __attribute__((aligned(4096)));

static u64 early_next,
    early_limit; /* physical: the next free page of the boot, and its RAM's end */
static bool early_over;
static u64 ioremap_next = IOREMAP_BASE;

u64 *kernel_pgd(void)
{
	return kernel_pml4;
}

void *early_alloc_page(void)
{
	void *p = phys_to_virt(early_next);

	BUG_ON(early_over);
	if (early_limit - early_next < PAGE_SIZE)
		panic("no memory behind the kernel for its page tables");
	early_next += PAGE_SIZE;
	memset(p, 0, PAGE_SIZE);
	return p;
}

u64 early_alloc_end(void)
{
	early_over = true;
	return early_next;
}

static void *table_page(void)
{
	struct page *page;

	if (!early_over)
		return early_alloc_page();
	page = alloc_page(GFP_ZERO);
	return page ? page_kva(page) : NULL;
}

/* The entry of addr in the table of that level (0: lowest), allocating tables; or NULL. */
static u64 *kernel_entry(u64 addr, unsigned level)
{
	u64 *table = kernel_pml4;

	for (unsigned l = 3; l > level; l--) {
		u64 *e = &table[table_index(addr, l)];

		if (!pte_present(*e)) {
			void *p = table_page();

			if (!p)
				return NULL;
			/* The user bit only allows; the entries that map pages do not have it. */
			*e = virt_to_phys(p) | PTE_KERNEL_RWX | PTE_USER;
		}
		BUG_ON(*e & PTE_HUGE);
		table = phys_to_virt(pte_phys(*e));
	}
	return &table[table_index(addr, level)];
}

static void map_kernel_range(const char *start, const char *end, pte_t flags)
{
	u64 *e = NULL;

	for (const char *p = start; p < end; p += PAGE_SIZE) {
		if (!e || IS_ALIGNED((u64)p, PMD_SIZE))
			e = kernel_entry((u64)p, 0);
		*e++ = virt_to_phys(p) | flags;
	}
}

/*
 * [start, end), widened to 2 MiB, at phys_to_virt; what is mapped already stays. False: out of
 * reach, or no memory for tables.
 */
static bool map_direct(u64 start, u64 end)
{
	bool gb_pages = cpuid(CPUID_EXT).edx & CPUID_EXT_EDX_GB;
	u64 phys = ALIGN_DOWN(start, PMD_SIZE);

	if (end > DIRECT_MAP_MAX)
		return false;
	end = ALIGN_UP(end, PMD_SIZE);
	while (phys < end) {
		u64 virt = (u64)phys_to_virt(phys);
		u64 *e = kernel_entry(virt, 2);

		if (!e)
			return false;
		if (gb_pages && IS_ALIGNED(phys, PUD_SIZE) && end - phys >= PUD_SIZE &&
		    !pte_present(*e)) {
			*e = phys | PAGE_KERNEL | PTE_HUGE;
			phys += PUD_SIZE;
			continue;
		}
		if (*e & PTE_HUGE) {
			phys = ALIGN_DOWN(phys, PUD_SIZE) + PUD_SIZE;
			continue;
		}
		e = kernel_entry(virt, 1);
		if (!e)
			return false;
		do {
			if (!pte_present(*e))
				*e = phys | PAGE_KERNEL | PTE_HUGE;
			e++;
			phys += PMD_SIZE;
		} while (phys < end && !IS_ALIGNED(phys, PUD_SIZE));
	}
	return true;
}

bool direct_map_add(u64 phys, u64 len)
{
	return map_direct(phys, phys + len);
}

/* Early pages come from behind the kernel, out of the way of what the loader put there. */
static void early_alloc_init(void)
{
	u64 initrd_end = boot_info.initrd + boot_info.initrd_len;

	early_next = virt_to_phys(kernel_end);
	if (initrd_end > early_next && boot_info.initrd < early_next + EARLY_ROOM)
		early_next = ALIGN_UP(initrd_end, PAGE_SIZE);
	for (u32 i = 0; i < boot_info.nr_ranges; i++) {
		const struct boot_range *r = &boot_info.ranges[i];

		if (r->type == FOAL_MEMMAP_RAM && r->start <= early_next &&
		    early_next - r->start < r->len)
			early_limit = MIN(r->start + r->len, BOOT_MAPPED);
	}
	if (boot_info.initrd > early_next)
		early_limit = MIN(early_limit, boot_info.initrd);
	if (early_limit <= early_next)
		panic("memory map: no RAM behind the kernel at %lx", early_next);
}

void paging_init(void)
{
	early_alloc_init();
	for (u32 i = 0; i < boot_info.nr_ranges; i++) {
		const struct boot_range *r = &boot_info.ranges[i];

		if (r->type == FOAL_MEMMAP_RAM && !map_direct(r->start, r->start + r->len))
			panic("memory map: %lx is more than the direct map takes",
			      r->start + r->len);
	}
	map_kernel_range(kernel_start, text_end, PAGE_KERNEL_RX);
	map_kernel_range(text_end, rodata_end, PAGE_KERNEL_RO);
	map_kernel_range(rodata_end, kernel_end, PAGE_KERNEL);
	/* Every process copies the top level: what it points to must be there by then. */
	kernel_entry(IOREMAP_BASE, 2);
	write_cr3(virt_to_phys(kernel_pml4));
}

bool map_user_text(u64 addr, const void *text)
{
	u64 *e = kernel_entry(addr, 0);

	if (!e)
		return false;
	*e = virt_to_phys(text) | PTE_PRESENT | PTE_USER | PTE_ACCESSED;
	return true;
}

void *ioremap(u64 phys, u64 len)
{
	u64 start = ALIGN_DOWN(phys, PAGE_SIZE);
	u64 end = ALIGN_UP(phys + len, PAGE_SIZE);
	u64 virt = ioremap_next;

	if (!len || phys + len < phys || end <= start || end - start > IOREMAP_END - virt)
		return NULL;
	for (u64 off = 0; off < end - start; off += PAGE_SIZE) {
		u64 *e = kernel_entry(virt + off, 0);

		if (!e)
			return NULL;
		*e = (start + off) | PAGE_KERNEL_IO;
	}
	ioremap_next += end - start;
	return (void *)(virt + (phys - start));
}
