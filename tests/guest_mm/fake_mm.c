#include "tests/guest_mm/fake_mm.h"
#include "guest/include/errno.h"
#include "guest/include/hugetlb.h"
#include "guest/include/printk.h"
#include "guest/include/signal.h"
#include "guest/include/smp.h"
#include "guest/include/smp_lock.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { NR_FRAMES = 4096 };

static struct page frames[NR_FRAMES];
static u64 next_frame;
static long used;
static u64 kernel_table[PTRS_PER_TABLE];
static struct address_space_ops file_ops;

struct page *mem_map = frames;
u64 max_pfn = NR_FRAMES;
u64 host_cr3;
unsigned host_flushes;
bool host_irqs_off;
void (*fake_interrupt)(void), (*fake_event)(void), (*fake_call)(void), (*fake_huge_alloc)(void);
bool fake_no_huge;
struct fake_signal fake_signal;
struct mm fake_mm;
struct vma fake_vma;
struct inode fake_inode;
struct cpu cpus[NR_CPUS];
unsigned nr_cpus = 1;

/*
 * --- frames: handed out one after the other, never twice; 2 MiB only as long as there are any ----
 */

struct page *alloc_pages(unsigned order, unsigned flags)
{
	struct page *page;
	u64 first;

	if (fake_huge_alloc && order == MAX_ORDER)
		fake_huge_alloc();
	first = ALIGN_UP(next_frame, 1UL << order);
	page = &frames[first];
	if (order == MAX_ORDER && (fake_no_huge || first + (1UL << order) > NR_FRAMES))
		return NULL;
	next_frame = first + (1UL << order);
	if (next_frame > NR_FRAMES)
		abort();
	used += 1L << order;
	*page = (struct page){.refcount = 1, .order = order};
	memset(page_kva(page), flags & GFP_ZERO ? 0 : 0xa5, PAGE_SIZE << order);
	return page;
}

void split_pages(struct page *page)
{
	for (unsigned i = 0, n = 1U << page->order; i < n; i++)
		page[i] = (struct page){.refcount = 1};
}

void put_page(struct page *page)
{
	page = compound_head(page);
	if (page->refcount <= 0 || (page->refcount == 1 && page->mapcount))
		abort();
	if (page->refcount == 1 && (page->flags & PG_ANON))
		anon_page_free(page);
	if (--page->refcount)
		return;
	if (page->flags & PG_HUGETLB)
		hugetlb_page_free(page);
	else if (!(page->flags & PG_HWPOISON))
		used -= 1L << page->order;
}

long fake_frames(void)
{
	return used;
}

u64 nr_free_pages(void)
{
	return NR_FRAMES - (u64)used;
}

u64 nr_total_pages(void)
{
	return NR_FRAMES;
}

void *kzalloc(size_t size)
{
	return calloc(1, size);
}

void kfree(void *p)
{
	free(p);
}

void clear_page(void *page)
{
	memset(page, 0, PAGE_SIZE);
}

void copy_page(void *dst, const void *src)
{
	memcpy(dst, src, PAGE_SIZE);
}

/* --- waiting --------------------------------------------------------------------------------- */

static bool happens(void (**what)(void))
{
	void (*fn)(void) = *what;

	*what = NULL;
	if (fn)
		fn();
	return fn;
}

void wait_queue_init(struct wait_queue *q)
{
	list_init(&q->waiters);
}

void wait_prepare(struct wait_queue *q, struct waiter *w)
{
	(void)q, (void)w;
	happens(&fake_interrupt);
}

void wait_finish(struct wait_queue *q, struct waiter *w)
{
	(void)q, (void)w;
}

void wake_up_waiters(struct wait_queue *q)
{
	(void)q;
}

void schedule(void)
{
	if (!happens(&fake_event))
		panic("waiting for what never comes\n");
}

/* --- other CPUs ------------------------------------------------------------------------------ */

void smp_call_function_many(u32 mask, void (*fn)(void *arg), void *arg)
{
	(void)fn, (void)arg;
	if (mask && fake_call)
		fake_call();
}

void lock_kernel(void)
{
}

void unlock_kernel(void)
{
}

/* --- signals --------------------------------------------------------------------------------- */

void signal_force(int sig, int code, u64 addr)
{
	fake_signal = (struct fake_signal){sig, code, addr};
}

bool signal_unhandled(int sig)
{
	(void)sig;
	return true;
}

/* --- messages -------------------------------------------------------------------------------- */

void printk(const char *fmt, ...)
{
	(void)fmt;
}

void pr_info(const char *fmt, ...)
{
	(void)fmt;
}

void panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	abort();
}

/* --- one mapping ----------------------------------------------------------------------------- */

u64 *kernel_pgd(void)
{
	return kernel_table;
}

/* The reads of the file end at once, each page full of its index. */
static void read_pages(struct inode *inode, u64 pgoff, struct page **pages, unsigned n)
{
	(void)inode;
	for (unsigned i = 0; i < n; i++) {
		memset(page_kva(pages[i]), (int)(pgoff + i), PAGE_SIZE);
		page_end_read(pages[i], 0);
	}
}

void fake_setup(unsigned flags, const struct vm_ops *ops)
{
	static struct vma *vmas[] = {&fake_vma};
	void *want = phys_to_virt(0);

	if (mmap(want, NR_FRAMES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != want)
		abort();
	memset(frames, 0, sizeof(frames));
	next_frame = 1;
	used = 0;
	fault_counters = (struct fault_counts){0};
	fake_interrupt = fake_event = fake_call = fake_huge_alloc = NULL;
	nr_cpus = 1;
	fake_no_huge = false;
	memory_init();

	file_ops.read_pages = read_pages;
	fake_inode = (struct inode){.size = FAKE_PAGES * PAGE_SIZE, .mode = S_IFREG};
	address_space_init(&fake_inode.mapping, &fake_inode, &file_ops);

	fake_mm = (struct mm){.group = &root_group, .vmas = vmas, .nr_vmas = 1};
	rwsem_init(&fake_mm.lock);
	if (!pgtable_init(&fake_mm.pt))
		abort();
	host_cr3 = virt_to_phys(fake_mm.pt.pgd);
	fake_vma = (struct vma){
	    .mm = &fake_mm,
	    .start = FAKE_START,
	    .end = FAKE_START + FAKE_PAGES * PAGE_SIZE,
	    .flags = flags,
	    .inode = ops ? &fake_inode : NULL,
	    .ops = ops,
	};
	list_init(&fake_vma.mapping_link);
	list_init(&fake_vma.anon_link);
	if (ops)
		list_add(&fake_vma.mapping_link, &fake_inode.mapping.mappings);
	fake_entry(0);
	host_flushes = 0;
}

struct vma *find_vma(struct mm *mm, u64 addr)
{
	return mm == &fake_mm && addr < fake_vma.end ? &fake_vma : NULL;
}

pte_t *fake_entry(unsigned page)
{
	return pte_alloc(&fake_mm.pt, FAKE_START + page * PAGE_SIZE);
}

struct page *fake_cached(u64 index)
{
	struct page *page = alloc_page(0);

	page->flags = PG_UPTODATE;
	memset(page_kva(page), (int)index, PAGE_SIZE);
	if (filemap_add(&fake_inode.mapping, page, index, 1) != 1)
		abort();
	return page;
}
