/* /proc/PID/smaps: what of each mapping is in memory, whose it is, and how it is mapped. */
#include "guest/include/huge.h"
#include "guest/include/swap.h"
#include "guest/include/task.h"
#include "guest/kernel/proc.h"

#define KIB(pages) ((pages) << (PAGE_SHIFT - 10))

/* Pages; pss in pages times SHARES. */
struct usage {
	u64 rss, pss, shared[2], private[2];	   /* by whether they are dirty */
	u64 referenced, anon, huge, swap, pool[2]; /* of the pool, by whether shared */
};

#define SHARES 4096UL /* so that a page is divided among many */

/* n pages from that one on, mapped by one entry. */
static void add_pages(struct usage *u, pte_t pte, const struct page *page, u64 n)
{
	/* Of a tail, whoever still has all 2 MiB by one entry is not among them. */
	const u64 maps = (u64)MAX(READ_ONCE(page->mapcount), 1);
	bool dirty = (pte & PTE_DIRTY) || (page->flags & PG_DIRTY);

	u->rss += n;
	u->pss += n * SHARES / maps;
	*(maps > 1 ? &u->shared[dirty] : &u->private[dirty]) += n;
	u->referenced += pte & PTE_ACCESSED ? n : 0;
	u->anon += page->flags & PG_ANON ? n : 0;
	u->huge += n > 1 ? n : 0;
}

static void measure(struct usage *u, struct mm *mm, const struct vma *vma)
{
	const pte_t *ptep;

	spin_lock(&mm->table_lock);
	for (u64 addr = vma->start; (ptep = pmd_next_huge(&mm->pt, &addr, vma->end));
	     addr += PMD_SIZE)
		if (vma->flags & VM_HUGETLB)
			u->pool[vm_normal_page(*ptep)->mapcount > 1] += HUGE_PAGES;
		else if (vm_normal_page(*ptep))
			add_pages(u, *ptep, vm_normal_page(*ptep), HUGE_PAGES);
	for (u64 addr = vma->start, stop;
	     (ptep = pte_next_span(&mm->pt, &addr, vma->end, &stop));) {
		for (; addr < stop; addr += PAGE_SIZE, ptep++) {
			u->swap += pte_is_swap(*ptep);
			if (vm_normal_page(*ptep))
				add_pages(u, *ptep, vm_normal_page(*ptep), 1);
		}
	}
	spin_unlock(&mm->table_lock);
}

/* proc(5) has the words; those of every mapping are not in the table. */
static void show_flags(struct text *t, const struct vma *vma)
{
	static const struct {
		unsigned flag;
		const char *word;
	} words[] = {
	    {VM_READ, "rd"},	   {VM_WRITE, "wr"},	 {VM_EXEC, "ex"},    {VM_SHARED, "sh"},
	    {VM_MAYWRITE, "mw"},   {VM_GROWSDOWN, "gd"}, {VM_LOCKED, "lo"},  {VM_SEQ_READ, "sr"},
	    {VM_RAND_READ, "rr"},  {VM_DONTCOPY, "dc"},	 {VM_HUGETLB, "ht"}, {VM_HUGEPAGE, "hg"},
	    {VM_NOHUGEPAGE, "nh"},
	};

	text_add(t, "VmFlags: mr me ");
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++)
		if (vma->flags & words[i].flag)
			text_add(t, "%s ", words[i].word);
	text_add(t, "\n");
}

static void show_usage(struct text *t, const struct vma *vma, const struct usage *u)
{
	const u64 page_size = vma->flags & VM_HUGETLB ? PMD_SIZE : PAGE_SIZE;
	const struct {
		const char *name;
		u64 kib;
	} lines[] = {
	    {"Size:", (vma->end - vma->start) >> 10},
	    {"KernelPageSize:", page_size >> 10},
	    {"MMUPageSize:", page_size >> 10},
	    {"Rss:", KIB(u->rss)},
	    {"Pss:", KIB(u->pss) / SHARES},
	    {"Shared_Clean:", KIB(u->shared[0])},
	    {"Shared_Dirty:", KIB(u->shared[1])},
	    {"Private_Clean:", KIB(u->private[0])},
	    {"Private_Dirty:", KIB(u->private[1])},
	    {"Referenced:", KIB(u->referenced)},
	    {"Anonymous:", KIB(u->anon)},
	    {"AnonHugePages:", KIB(u->huge)},
	    {"Shared_Hugetlb:", KIB(u->pool[1])},
	    {"Private_Hugetlb:", KIB(u->pool[0])},
	    {"Swap:", KIB(u->swap)},
	    {"SwapPss:", KIB(u->swap)},
	    {"Locked:", vma->flags & VM_LOCKED ? KIB(u->pss) / SHARES : 0},
	};

	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		text_add(t, "%-15s %8lu kB\n", lines[i].name, lines[i].kib);
	text_add(t, "THPeligible:    %8u\n", huge_allowed(vma, ALIGN_UP(vma->start, PMD_SIZE)));
	show_flags(t, vma);
}

void show_process_smaps(struct text *t, const struct process *p)
{
	struct mm *mm = mm_of(p);

	/* As for maps: not while somebody changes them. */
	if (!mm || !down_read_trylock(&mm->lock))
		return;
	for (unsigned i = 0; i < mm->nr_vmas; i++) {
		struct usage u = {0};

		measure(&u, mm, mm->vmas[i]);
		show_vma(t, mm, mm->vmas[i]);
		show_usage(t, mm->vmas[i], &u);
	}
	up_read(&mm->lock);
}
