/* Page tables of processes. */
#include "guest/include/pgtable.h"

#define TABLE_FLAGS (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)

/* Faults and scans come in clusters: the last table is likely the right one again. */
static inline pte_t *recent_entry(const struct pgtable *pt, u64 addr)
{
	if (likely(pt->recent && pt->recent_index == addr >> PMD_SHIFT))
		return pt->recent + table_index(addr, 0);
	return NULL;
}

/* Where the addresses end that an entry of that level stands for. */
static u64 span_end(u64 addr, unsigned level)
{
	unsigned shift = PAGE_SHIFT + 9 * level;

	return ((addr >> shift) + 1) << shift;
}

pte_t *pte_find_span(const struct pgtable *pt, u64 addr, u64 *end)
{
	const u64 *table = pt->pgd;
	pte_t *ptep = recent_entry(pt, addr);

	*end = span_end(addr, 1);
	if (ptep)
		return ptep;
	for (unsigned level = 3; level; level--) {
		u64 e = table[table_index(addr, level)];

		if (!pte_present(e) || (e & PTE_HUGE)) {
			*end = span_end(addr, level);
			return NULL;
		}
		table = phys_to_virt(pte_phys(e));
	}
	return (pte_t *)&table[table_index(addr, 0)];
}

pte_t *pte_find(const struct pgtable *pt, u64 addr)
{
	u64 end;

	return pte_find_span(pt, addr, &end);
}

pte_t *pte_alloc(struct pgtable *pt, u64 addr)
{
	pte_t *ptep = recent_entry(pt, addr);
	u64 *table = pt->pgd;

	if (ptep)
		return ptep;
	for (unsigned level = 3; level; level--) {
		u64 *e = &table[table_index(addr, level)];

		if (unlikely(!pte_present(*e))) {
			struct page *page = alloc_page(GFP_ZERO);

			if (!page)
				return NULL;
			page->private = (u64)pt->tables;
			pt->tables = page;
			*e = page_phys(page) | TABLE_FLAGS;
		}
		table = phys_to_virt(pte_phys(*e));
	}
	pt->recent = table;
	pt->recent_index = addr >> PMD_SHIFT;
	return &table[table_index(addr, 0)];
}

bool pgtable_init(struct pgtable *pt)
{
	static const u64 shared[] = {DIRECT_MAP_BASE, IOREMAP_BASE, KERNEL_BASE};
	struct page *page = alloc_page(GFP_ZERO);

	*pt = (struct pgtable){0};
	if (!page)
		return false;
	page->private = 0;
	pt->tables = page;
	pt->pgd = page_kva(page);
	for (unsigned i = 0; i < ARRAY_SIZE(shared); i++)
		pt->pgd[table_index(shared[i], 3)] = kernel_pgd()[table_index(shared[i], 3)];
	return true;
}

void pgtable_free(struct pgtable *pt)
{
	while (pt->tables) {
		struct page *page = pt->tables;

		pt->tables = (struct page *)page->private;
		put_page(page);
	}
}
