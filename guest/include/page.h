/*
 * Physical memory: frames, the direct map, the page allocator and kmalloc.
 *
 * Every frame of RAM has a struct page. RAM comes from the monitor lazily, so a frame (and its
 * struct page) that was never handed out is never touched.
 */
#ifndef GUEST_PAGE_H
#define GUEST_PAGE_H

#include "guest/include/list.h"
#include "guest/include/types.h"

#define PAGE_SHIFT 12
#define PAGE_SIZE  (1UL << PAGE_SHIFT)
#define PAGE_MASK  (~(PAGE_SIZE - 1))

/*
 * All of RAM and of persistent memory, cached, writable, not executable. The filesystem's tests,
 * which run on the build machine, have it elsewhere.
 */
#ifndef DIRECT_MAP_BASE
#	define DIRECT_MAP_BASE 0xffff888000000000UL
#endif
/* The kernel image: virtual address = physical address + KERNEL_BASE. */
#define KERNEL_BASE 0xffffffff80000000UL

/* Blocks of 1 << order frames; the largest is 2 MiB. */
#define MAX_ORDER   9

enum page_flags {
	PG_BUDDY = 1 << 0,	/* head of a free block, allocator only */
	PG_SLAB = 1 << 1,	/* kmalloc's */
	PG_RESERVED = 1 << 2,	/* never freed: the shared zero page */
	PG_LOCKED = 1 << 3,	/* under I/O, or being changed */
	PG_UPTODATE = 1 << 4,	/* holds what its file holds */
	PG_ERROR = 1 << 5,	/* the read failed */
	PG_DIRTY = 1 << 6,	/* to be written back */
	PG_READAHEAD = 1 << 7,	/* the marker that starts the next window */
	PG_ANON = 1 << 8,	/* a process's own page */
	PG_LRU = 1 << 9,	/* on a list of swap.h's groups */
	PG_ACTIVE = 1 << 10,	/* on the list of those in use */
	PG_SWAPCACHE = 1 << 11, /* private is its slot, whose contents are the page's */
	PG_TAIL = 1 << 12,     /* inside an own page of 2 MiB whose first frame private points to */
	PG_TAILS = 1 << 13,    /* of such a page's first: the others are set up as PG_TAIL */
	PG_HWPOISON = 1 << 15, /* the frame failed: it is kept from all use */
	PG_HUGETLB = 1 << 14,  /* the pool's of 2 MiB pages; goes back there */
};

struct address_space;
struct anon_vma;
struct mem_group;

/* 64 bytes, so that going between page and frame number is a shift. */
struct page {
	u32 flags;    /* enum page_flags; changed atomically once others can see the page */
	s32 refcount; /* page cache, page tables and users; freed at zero */
	s32 mapcount; /* entries in user page tables; those of 2 MiB count for the first frame */
	u32 order;    /* of the free or allocated block, in its first page */
	union {
		struct address_space *mapping; /* of a file page, else NULL */
		struct anon_vma *anon_vma;     /* PG_ANON: valid while mapcount is not 0 */
	};
	u64 index;	 /* in the file or, PG_ANON, by the pgoff of its mappings; in pages */
	struct list lru; /* free list, dirty list, or its holder's */
	u64 private;	 /* the holder's */
	union {
		struct {
			u32 slab_class, slab_fresh; /* kmalloc's */
		};
		struct mem_group *group; /* PG_ANON: who is charged */
	};
};
_Static_assert(sizeof(struct page) == 64, "struct page is indexed by shifts");

extern struct page *mem_map; /* indexed by frame number */
extern u64 max_pfn;	     /* first frame number past the last RAM */

static inline void *phys_to_virt(u64 phys)
{
	return (void *)(DIRECT_MAP_BASE + phys);
}

/*
 * Add what a device announced, whole pages behind all RAM, to the direct map. For probing, before
 * the first process: those that come have their top level copied. False: out of reach, or no
 * memory for tables.
 */
bool direct_map_add(u64 phys, u64 len);

/* For pointers into the direct map or the kernel image; anything else is a bug. */
static inline u64 virt_to_phys(const void *p)
{
	u64 v = (u64)p;

	return v >= KERNEL_BASE ? v - KERNEL_BASE : v - DIRECT_MAP_BASE;
}

static inline struct page *pfn_to_page(u64 pfn)
{
	return mem_map + pfn;
}

static inline u64 page_to_pfn(const struct page *page)
{
	return (u64)(page - mem_map);
}

static inline u64 page_phys(const struct page *page)
{
	return page_to_pfn(page) << PAGE_SHIFT;
}

static inline void *page_kva(const struct page *page)
{
	return phys_to_virt(page_phys(page));
}

static inline struct page *virt_to_page(const void *p)
{
	return pfn_to_page(virt_to_phys(p) >> PAGE_SHIFT);
}

/* Allocation flags. */
#define GFP_ZERO 1U /* contents zero; else they are whatever was there */

/*
 * A block of 1 << order frames, naturally aligned, with one reference; NULL if there is none.
 * Never sleeps; callable from interrupt handlers.
 */
struct page *alloc_pages(unsigned order, unsigned flags);
static inline struct page *alloc_page(unsigned flags)
{
	return alloc_pages(0, flags);
}

/* Makes a block that alloc_pages just returned 1 << order single pages with a reference each. */
void split_pages(struct page *page);

/* The first frame of the page it is part of: all references are counted there. */
static inline struct page *compound_head(struct page *page)
{
	return unlikely(page->flags & PG_TAIL) ? (struct page *)page->private : page;
}

static inline void get_page(struct page *page)
{
	__atomic_fetch_add(&compound_head(page)->refcount, 1, __ATOMIC_RELAXED);
}

/* Whoever asks has the only reference. */
static inline bool page_is_sole(struct page *page)
{
	return READ_ONCE(compound_head(page)->refcount) == 1;
}

/* Drops a reference; the last one frees the block. Any context. */
void put_page(struct page *page);

/* Frames that alloc_pages could still hand out, touched or not. */
u64 nr_free_pages(void);
/* Frames the allocator was given at boot. */
u64 nr_total_pages(void);

/*
 * Small kernel objects. kmalloc returns 16-byte aligned memory (4096-byte aligned from 4096 bytes
 * on), or NULL; kzalloc the same, zeroed; kfree takes NULL. At most 2 MiB. Any context.
 */
void *kmalloc(size_t size);
void *kzalloc(size_t size);
/* A copy of the string; NULL without memory, or of NULL. */
char *kstrdup(const char *s);
void kfree(void *p);

#endif
