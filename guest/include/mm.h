/*
 * Address spaces: mappings (VMAs), page tables and the fault path. Names follow Linux's.
 *
 * Lock order: mm.lock, page lock, rmap_lock, mm.table_lock, address_space.lock.
 */
#ifndef GUEST_MM_H
#define GUEST_MM_H

#include "guest/include/counters.h"
#include "guest/include/fs.h"
#include "guest/include/pgtable.h"
#include "guest/include/rwsem.h"
#include "guest/include/sched.h"
#include "guest/include/types.h"

/* mmap's arguments and madvise's, Linux's values. */
#define PROT_READ	    0x1
#define PROT_WRITE	    0x2
#define PROT_EXEC	    0x4

#define MAP_SHARED	    0x01
#define MAP_PRIVATE	    0x02
#define MAP_TYPE	    0x0f
#define MAP_FIXED	    0x10
#define MAP_ANONYMOUS	    0x20
#define MAP_GROWSDOWN	    0x0100
#define MAP_POPULATE	    0x8000
#define MAP_NORESERVE	    0x4000
#define MAP_STACK	    0x20000
#define MAP_HUGETLB	    0x40000
#define MAP_HUGE_SHIFT	    26 /* above it: the size's logarithm, 0 for 2 MiB */
#define MAP_HUGE_MASK	    0x3fU
#define MAP_FIXED_NOREPLACE 0x100000

#define MS_ASYNC	    1
#define MS_INVALIDATE	    2
#define MS_SYNC		    4

#define MADV_NORMAL	    0
#define MADV_RANDOM	    1
#define MADV_SEQUENTIAL	    2
#define MADV_WILLNEED	    3
#define MADV_DONTNEED	    4
#define MADV_FREE	    8
#define MADV_DONTFORK	    10
#define MADV_DOFORK	    11
#define MADV_HUGEPAGE	    14
#define MADV_NOHUGEPAGE	    15
#define MADV_COLD	    20
#define MADV_PAGEOUT	    21
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#define MADV_COLLAPSE	    25

#define MREMAP_MAYMOVE	    1
#define MREMAP_FIXED	    2
#define MREMAP_DONTUNMAP    4

#define MCL_CURRENT	    1
#define MCL_FUTURE	    2
#define MCL_ONFAULT	    4

enum vma_flags {
	VM_READ = 1 << 0, /* the first three are PROT_*'s bits */
	VM_WRITE = 1 << 1,
	VM_EXEC = 1 << 2,
	VM_SHARED = 1 << 3,
	VM_GROWSDOWN = 1 << 4,
	VM_RAND_READ = 1 << 5,
	VM_SEQ_READ = 1 << 6,
	VM_MAYWRITE = 1 << 7,  /* mprotect may allow writes */
	VM_LOCKED = 1 << 8,    /* its pages stay in memory */
	VM_DONTCOPY = 1 << 9,  /* fork leaves it out */
	VM_HUGEPAGE = 1 << 10, /* 2 MiB pages are wanted */
	VM_NOHUGEPAGE = 1 << 11,
	VM_HUGETLB = 1 << 12,	/* of the pool's pages; hugetlb.h */
	VM_NORESERVE = 1 << 13, /* such a one without any reserved */
};

#define VM_ACCESS	(VM_READ | VM_WRITE | VM_EXEC)

#define STACK_GUARD_GAP (256 * PAGE_SIZE)
#define MAX_MAP_COUNT	65530

struct mm;
struct vma;
struct fault;

/* How a fault ended. The caller of handle_mm_fault sees none of the last four. */
enum fault_result {
	FAULT_RESOLVED, /* the access can be repeated */
	FAULT_RETRY,	/* mm.lock was dropped to wait; look the mapping up again */
	FAULT_OOM,
	FAULT_SIGBUS,
	FAULT_HWPOISON, /* what was there is lost */
	FAULT_SIGSEGV,
	FAULT_NOPAGE,	/* the entry is set already */
	FAULT_LOCKED,	/* fault.page is there, locked, with a reference */
	FAULT_DIRECT,	/* fault.phys is there: storage, without a struct page */
	FAULT_FALLBACK, /* no 2 MiB: the lowest table is to be used */
};

enum fault_flags {
	FAULT_WRITE = 1 << 0,
	FAULT_USER = 1 << 1,
	FAULT_FETCH = 1 << 2,
	FAULT_ALLOW_RETRY = 1 << 3,
	FAULT_TRIED = 1 << 4,
};

/* The question; nobody rewrites it. */
struct fault_request {
	struct vma *vma;
	u64 address; /* as the CPU reported it */
	u64 page;    /* page-aligned */
	u64 pgoff;   /* of the page in the object */
	unsigned flags;
};

/* The answer, as it comes about. */
struct fault {
	const struct fault_request *req;
	pte_t *ptep;
	pte_t orig_pte;	       /* *ptep when the case was chosen */
	struct page *page;     /* the object's */
	struct page *cow_page; /* the own copy */
	u64 phys;	       /* FAULT_DIRECT */
	enum fault_case kind;
	bool major;
};

/* What a mapping's object does. Called with mm.lock held; fault may drop it for FAULT_RETRY. */
struct vm_ops {
	const char *name;
	/* Brings the page: FAULT_LOCKED, FAULT_DIRECT, or why not. */
	enum fault_result (*fault)(struct fault *f);
	/*
	 * Maps what is at hand in [start, end), which lies in one page table and in the mapping.
	 * Allocates no page and reads no data. Takes mm.table_lock. Returns the entries set.
	 */
	unsigned (*map_pages)(struct fault *f, u64 start, u64 end);
	/*
	 * A shared page is about to become writable; it is locked (if there is one). 0 or errno.
	 * NULL: nobody wants to know, and shared pages are writable from the start.
	 */
	int (*page_mkwrite)(struct fault *f);
};

extern const struct vm_ops filemap_vm_ops;
extern const struct vm_ops dax_vm_ops;
extern const struct vm_ops shmem_vm_ops;

/* The object of a shared anonymous mapping, len bytes of holes, with a reference; or NULL. */
struct inode *shmem_create(u64 len);
/* Its last reference is gone. */
void shmem_free(struct inode *inode);

/* Where readahead of one mapping stands, in pages of the file. */
struct readahead {
	u64 start, size; /* the last window */
	u64 async_size;	 /* of its end: its first page carries the marker */
	u32 misses;
};

/*
 * Where own pages may be mapped: the mapping they were made in, and what fork, splits and mremap
 * made of it. All of them place a page's index by their pgoff.
 */
struct anon_vma {
	u32 nr_vmas;
	struct list vmas; /* by vma.anon_link */
};

struct vma {
	struct mm *mm;
	u64 start, end;	     /* page-aligned, half open */
	unsigned flags;	     /* enum vma_flags */
	u64 pgoff;	     /* of start in the object; anonymous: start's own page number */
	struct inode *inode; /* NULL: anonymous */
	const struct vm_ops *ops;
	struct anon_vma *anon_vma; /* NULL: there never was an own page */
	struct list anon_link;	   /* in anon_vma.vmas */
	struct list mapping_link;  /* in address_space.mappings */
	struct readahead ra;
};

enum rss_kind { RSS_ANON, RSS_FILE, RSS_SWAP, NR_RSS };

struct mm {
	u32 users;		    /* tasks: threads, and a vfork's parent that waits */
	u32 cpumask;		    /* the CPUs that have it loaded, by their id */
	struct rwsem lock;	    /* the mappings: read by faults, written by who changes them */
	struct spinlock table_lock; /* page tables, their entries and rss */
	struct pgtable pt;
	struct mem_group *group; /* whose limit its own pages count for */
	struct vma **vmas;	 /* sorted by address, disjoint */
	unsigned nr_vmas, max_vmas;
	struct vma *recent; /* found last, or NULL */
	u64 brk_start, brk;
	u64 mmap_base;	    /* mappings go below this */
	u64 rss[NR_RSS];    /* pages */
	u64 total_pages;    /* mapped size */
	u64 numa_scan;	    /* where the next scan begins */
	u32 numa_faults;    /* since there is one */
	unsigned def_flags; /* of mappings to come: VM_LOCKED after mlockall */
	char *exe;	    /* the program's path, for /proc; NULL: not known */
};

/* An address space with nothing in the user half, of that group; NULL without memory. */
struct mm *mm_create(struct mem_group *group);
/* It joins the group instead, with the reference; its pages so far stay the old one's. */
void mm_set_group(struct mm *mm, struct mem_group *group);
/* One more task uses it. */
void mm_get(struct mm *mm);
/* Behind its last user: unmaps everything and frees it; must not be the current CR3 then. */
void mm_put(struct mm *mm);
/* fork's: same mappings, own pages shared copy-on-write. parent->lock is taken. 0 or -ENOMEM. */
int mm_fork(struct mm *parent, struct mm **out);
/* Makes it the CPU's address space; NULL: the kernel's own. */
void mm_activate(struct mm *mm);
/* Of no task: other CPUs that still have it loaded load the kernel's. */
void mm_leave_all(struct mm *mm);

/* --- mappings; mm.lock held ------------------------------------------------------------------ */

/* The first mapping that ends above addr, or NULL: addr may lie below its start. */
struct vma *find_vma(struct mm *mm, u64 addr);
/* Grows a stack down to cover addr. 0, -ENOMEM past a limit. */
int expand_stack(struct vma *vma, u64 addr);
/* For a new program: its mappings go below the room that its stack may grow into. */
void mm_place_stack(struct mm *mm, u64 stack_limit);
/* Removes what [start, end) maps, splitting mappings at the ends. */
int unmap_range(struct mm *mm, u64 start, u64 end);

/* --- system calls; mm.lock is taken ---------------------------------------------------------- */

/* Returns the address or negative errno. inode NULL: anonymous. Takes its own inode reference. */
s64 do_mmap(struct mm *mm, u64 addr, u64 len, unsigned prot, unsigned flags, struct inode *inode,
	    u64 pgoff, bool may_write);
int do_munmap(struct mm *mm, u64 addr, u64 len);
int do_mprotect(struct mm *mm, u64 addr, u64 len, unsigned prot);
s64 do_mremap(struct mm *mm, u64 addr, u64 old_len, u64 new_len, unsigned flags, u64 new_addr);
int do_madvise(struct mm *mm, u64 addr, u64 len, int advice);
/* Locks or unlocks; pages come in at once if populate. */
int do_mlock(struct mm *mm, u64 addr, u64 len, bool lock, bool populate);
int do_mlockall(struct mm *mm, unsigned flags);
/* vec: a byte a page in user memory. */
int do_mincore(struct mm *mm, u64 addr, u64 len, u64 vec);
int do_msync(struct mm *mm, u64 addr, u64 len, int flags);
u64 do_brk(struct mm *mm, u64 brk);

/* --- the fault path, memory.c ---------------------------------------------------------------- */

/*
 * The mapping at the address, a stack grown to it if need be; or NULL. mm.lock is had for reading,
 * and may be given up meanwhile.
 */
struct vma *vma_at(struct mm *mm, u64 address);
/*
 * access.c: so many bytes at the address of any address space, from or to the kernel's buf,
 * whatever its mappings allow; only a shared one has to allow writes. How many could be: 0, and so
 * on, where nothing is mapped or nothing could come. Takes mm.lock; sleeps.
 */
size_t access_remote_vm(struct mm *mm, u64 addr, void *buf, size_t n, bool write);

/* mm.lock held; dropped if and only if the result is FAULT_RETRY. */
enum fault_result handle_mm_fault(struct vma *vma, u64 address, unsigned flags, bool *major);

/* --- hinting faults, numa.c ------------------------------------------------------------------ */

extern bool numa_balancing;
/* After a fault, mm.lock held: some entries lose their rights, every now and then. */
void task_numa_work(struct mm *mm);
/* Such an entry: the rights are given back. */
enum fault_result do_numa_page(struct fault *f);
/* Of a mapping that gives rights, an entry that has none. */
static inline bool is_numa_hint(const struct vma *vma, pte_t pte)
{
	return (pte & PTE_PRESENT) == 0 && (pte & PTE_PROTNONE) && (vma->flags & VM_ACCESS);
}

/* A fault of the current task completed; in_kernel: a system call's. */
void count_fault(bool major, bool in_kernel);

/*
 * Under table_lock: the entries from *addr on, up to *stop, of the next page table that there is
 * before end; NULL: none. For a loop that leaves *addr at *stop.
 */
pte_t *pte_next_span(const struct pgtable *pt, u64 *addr, u64 end, u64 *stop);
/* Under table_lock: removes the entries of [start, end) and drops what they held. */
void zap_range(struct vma *vma, u64 start, u64 end);
/*
 * The entries of the range get the rights that vma->flags now gives; to write, only where no
 * fault has to see to it first.
 */
void protect_range(struct vma *vma, u64 start, u64 end);
/* The entry with the rights that the mapping now gives. */
pte_t pte_modify(const struct vma *vma, pte_t pte);
/* For fork: the entries of a mapping with private pages, which both share from now on. Or -ENOMEM.
 */
int copy_range(struct vma *dst, struct vma *src);

/*
 * Moves what [start, start + len) of src maps to dst, where it has the same index. rmap_lock and
 * table_lock held; dst's tables are there wherever src's are (prepare_move).
 */
void move_range(struct vma *dst, u64 to, u64 start, u64 len);
int prepare_move(struct mm *mm, u64 to, u64 start, u64 len);

/* --- the mappings of a page, rmap.c; the page is locked, no spinlock held ----------------------
 */

/* Guards address_space.mappings, anon_vma and its lists, and where the mappings in them lie. */
extern struct spinlock rmap_lock;

/* Before the first own page of a mapping; false without memory. */
bool anon_vma_prepare(struct vma *vma);
/* Under rmap_lock: the mapping is found from its object's pages; from own pages; no more. */
void vma_link(struct vma *vma);
void anon_vma_join(struct vma *vma, struct anon_vma *anon_vma);
void vma_unlink(struct vma *vma);

/* An entry that maps the page, under table_lock. */
typedef bool (*entry_fn)(struct vma *vma, u64 addr, pte_t *ptep);
/* Calls fn for each entry; whether it was true of any. */
bool rmap_walk(const struct page *page, entry_fn fn);
/* Makes them read-only, so that the next write is noticed. */
void page_mkclean(struct page *page);
/* Whether one was used since this was asked last. */
bool page_referenced(struct page *page);
/*
 * Takes the page out of all of them, with their references. An own page is in the swap cache by
 * then: its entries become its slot's.
 */
void page_unmap(struct page *page);
/*
 * Takes pages first to last of a file out of all mappings, own copies of them too. The page locks
 * are not held.
 */
void unmap_mapping_range(struct address_space *as, u64 first, u64 last);

/* --- reclaim, vmscan.c; may sleep, no spinlock held, pages that the caller has locked stay -----
 */

/* Frees about want pages, of the page cache and, where there is swap, own ones; how many. */
u64 reclaim_pages(u64 want);
/* Programs' memory leaves the kernel a reserve; false: as if there were no memory. */
bool may_alloc_user_pages(u64 n);
/* The same if few are free: called before what is going to need some. */
void reclaim_if_low(void);
/* The file has pages from now on. */
void reclaim_add_cache(struct address_space *as);

/* --- mappings counted; under table_lock --------------------------------------------------------
 */

/* Counts one mapping of the page in the entry that is about to be set. */
void page_add_mapping(struct mm *mm, struct page *page);
/* And takes it back, with the reference the entry held. Both under table_lock. */
void page_remove_mapping(struct mm *mm, struct page *page);
/* The entry's flags for a mapping, without PTE_WRITE. */
pte_t vma_pte_flags(const struct vma *vma);
/* A page that may be written by who maps it: writable where the mapping lets it be. */
static inline pte_t vma_mkwrite(pte_t pte, const struct vma *vma)
{
	return vma->flags & VM_WRITE ? pte | PTE_WRITE : pte;
}
/* The same for the object's own pages: writable if nobody wants to know of a first write. */
pte_t object_pte_flags(const struct vma *vma);
/* In filemap's way: those of the object's pages that are up to date and not locked. */
unsigned filemap_map_pages(struct fault *f, u64 start, u64 end);

/* No CPU has translations of the range any more that are not what the entries say now. */
void flush_tlb_range(struct mm *mm, u64 start, u64 end);
/* The same for one page of the current address space. */
void flush_tlb_page(struct mm *mm, u64 addr);
/* No other CPU uses its user half, nor will until who asks sleeps. */
bool mm_is_local(const struct mm *mm);

extern struct page *zero_page;
void memory_init(void);

#endif
