/* Page table entries and the four-level walk (Intel SDM volume 3, section 4.5). */
#ifndef GUEST_PGTABLE_H
#define GUEST_PGTABLE_H

#include "guest/include/asm.h"
#include "guest/include/cpu.h"
#include "guest/include/page.h"
#include "guest/include/types.h"

typedef u64 pte_t;

#define PTE_NX	       (1UL << 63)
#define PTE_ADDR_MASK  0x000ffffffffff000UL

/*
 * Software bit: the frame has no counted struct page behind it for this entry, as for the zero
 * page and persistent memory. Such an entry holds no reference.
 */
#define PTE_SPECIAL    (1UL << 9)

/*
 * Software bit of an entry that the CPU takes for absent: the page is there, and the mapping lets
 * nobody at it. Not a present entry without PTE_USER, which the kernel could read for a program.
 */
#define PTE_PROTNONE   (1UL << 8)

/* Software bit of an absent entry: the page's contents are in that slot of the swap area. */
#define PTE_SWAP       (1UL << 10)

/* Software bit of an absent entry: what was there is lost. */
#define PTE_POISON     (1UL << 11)

#define PTRS_PER_TABLE 512
#define USER_END       0x00007ffffffff000UL /* first address past user mappings */
#define PMD_SHIFT      21
#define PMD_SIZE       (1UL << PMD_SHIFT)
#define PMD_MASK       (~(PMD_SIZE - 1))
#define HUGE_PAGES     (1UL << MAX_ORDER) /* of 4 KiB, in one of 2 MiB */

#define IOREMAP_BASE   0xffffc90000000000UL
#define IOREMAP_END    0xffffc98000000000UL

/* The one kernel address that user mode may execute; see arch/syscall_entry.c. */
#define SYSCALL_STUB   0xffffffffff600000UL

/* What kernel mappings are made of. */
#define PAGE_KERNEL    (PTE_KERNEL_RWX | PTE_GLOBAL | PTE_NX)
#define PAGE_KERNEL_RO ((PAGE_KERNEL & ~(u64)(PTE_WRITE | PTE_DIRTY)))
#define PAGE_KERNEL_RX (PAGE_KERNEL_RO & ~PTE_NX)
#define PAGE_KERNEL_IO (PAGE_KERNEL | PTE_PCD | PTE_PWT)

static inline bool pmd_is_huge(pte_t pmd)
{
	return pmd & PTE_HUGE;
}

static inline u64 pte_phys(pte_t pte)
{
	return pte & PTE_ADDR_MASK;
}

static inline bool pte_present(pte_t pte)
{
	return pte & (PTE_PRESENT | PTE_PROTNONE);
}

static inline bool pte_is_swap(pte_t pte)
{
	return !pte_present(pte) && (pte & PTE_SWAP);
}

static inline u64 pte_slot(pte_t pte)
{
	return pte_phys(pte) >> PAGE_SHIFT;
}

static inline pte_t swap_pte(u64 slot)
{
	return slot << PAGE_SHIFT | PTE_SWAP;
}

static inline unsigned table_index(u64 addr, unsigned level)
{
	return addr >> (PAGE_SHIFT + 9 * level) & (PTRS_PER_TABLE - 1);
}

static inline void set_pte(pte_t *ptep, pte_t pte)
{
	WRITE_ONCE(*ptep, pte);
}

/* The struct page an entry holds a reference to, or NULL. */
static inline struct page *vm_normal_page(pte_t pte)
{
	if (!pte_present(pte) || (pte & PTE_SPECIAL))
		return NULL;
	return pfn_to_page(pte_phys(pte) >> PAGE_SHIFT);
}

/* The page tables of one address space; who changes them holds its locks. */
struct pgtable {
	u64 *pgd;	     /* top level */
	struct page *tables; /* all tables, top level last, linked by page.private */
	u64 recent;	     /* the lowest table used last, and the addresses it is for; 0: none */
	struct list spare;   /* lowest tables out of use, all zero, by page.lru */
	u32 nr_spare;	     /* never fewer than nr_huge: each can be taken apart at any time */
	u32 nr_huge;	     /* entries of 2 MiB */
};

/* An empty user half beside the kernel's. False without memory. */
bool pgtable_init(struct pgtable *pt);

/* Frees all tables; the entries are gone and no CPU uses them. */
void pgtable_free(struct pgtable *pt);

/* The entry of addr in the lowest table, or NULL where a table is missing. */
pte_t *pte_find(const struct pgtable *pt, u64 addr);

/*
 * The same for walks over a range: *end is where the lowest table's addresses end, or those of
 * the highest table missing.
 */
pte_t *pte_find_span(const struct pgtable *pt, u64 addr, u64 *end);

/*
 * The entries one level up ("pmd"), which name a lowest table or map 2 MiB. pmd_next: the next one
 * that is set in [*addr, end), whose first address becomes *addr unless that lies behind it.
 */
pte_t *pmd_find(const struct pgtable *pt, u64 addr);
pte_t *pmd_next(const struct pgtable *pt, u64 *addr, u64 end);
pte_t *pmd_next_huge(const struct pgtable *pt, u64 *addr, u64 end);
/* What maps addr, in the lowest table or for 2 MiB; 0: nothing. */
pte_t pte_get(const struct pgtable *pt, u64 addr);

/* Where an entry of 2 MiB may be set for addr, if it is not set; NULL without memory. */
pte_t *pmd_alloc_huge(struct pgtable *pt, u64 addr);
/* It is set, or cleared; nothing else is done. */
void pmd_set_huge(struct pgtable *pt, pte_t *pmd, pte_t pte);
void pmd_clear_huge(struct pgtable *pt, pte_t *pmd);
/* The cleared one gets a table of its own, all zero. */
pte_t *pmd_set_table(struct pgtable *pt, pte_t *pmd);
/* It loses its table, all of whose entries are zero, and which nobody looks at. */
void pmd_drop_table(struct pgtable *pt, pte_t *pmd);

/* As pte_find, allocating missing tables; NULL without memory, or for 2 MiB mapped as one. */
pte_t *pte_alloc(struct pgtable *pt, u64 addr);

/* Lets user mode execute the kernel page at text, at that address of every process. */
bool map_user_text(u64 addr, const void *text);

/* The top level of the kernel itself, current while there is no process. */
u64 *kernel_pgd(void);

#endif
