/* Page tables of processes. */
#include "guest/include/pgtable.h"

#define USER_SLOTS  256
#define TABLE_FLAGS (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)

pte_t *pte_find(const u64 *pgd, u64 addr)
{
	const u64 *table = pgd;

	for (unsigned level = 3; level; level--) {
		u64 e = table[table_index(addr, level)];

		if (!pte_present(e) || (e & PTE_HUGE))
			return NULL;
		table = phys_to_virt(pte_phys(e));
	}
	return (pte_t *)&table[table_index(addr, 0)];
}

pte_t *pte_alloc(u64 *pgd, u64 addr)
{
	u64 *table = pgd;

	for (unsigned level = 3; level; level--) {
		u64 *e = &table[table_index(addr, level)];

		if (unlikely(!pte_present(*e))) {
			struct page *page = alloc_page(GFP_ZERO);

			if (!page)
				return NULL;
			*e = page_phys(page) | TABLE_FLAGS;
		}
		table = phys_to_virt(pte_phys(*e));
	}
	return &table[table_index(addr, 0)];
}

u64 *pgd_alloc(void)
{
	struct page *page = alloc_page(GFP_ZERO);
	const u64 *kernel = kernel_pgd();
	u64 *pgd;

	if (!page)
		return NULL;
	pgd = page_kva(page);
	/* The kernel's half holds three entries; the rest stay zero. */
	pgd[table_index(DIRECT_MAP_BASE, 3)] = kernel[table_index(DIRECT_MAP_BASE, 3)];
	pgd[table_index(IOREMAP_BASE, 3)] = kernel[table_index(IOREMAP_BASE, 3)];
	pgd[table_index(KERNEL_BASE, 3)] = kernel[table_index(KERNEL_BASE, 3)];
	return pgd;
}

static void free_table(u64 *table, unsigned level, unsigned slots)
{
	if (level)
		for (unsigned i = 0; i < slots; i++)
			if (pte_present(table[i]))
				free_table(phys_to_virt(pte_phys(table[i])), level - 1,
					   PTRS_PER_TABLE);
	put_page(virt_to_page(table));
}

void pgd_free(u64 *pgd)
{
	free_table(pgd, 3, USER_SLOTS);
}
