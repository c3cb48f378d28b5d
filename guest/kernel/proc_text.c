/* The texts of /proc, in Linux's form (proc(5)). What this kernel does not count is zero. */
#include "guest/fs/internal.h"
#include "guest/include/counters.h"
#include "guest/include/huge.h"
#include "guest/include/hugetlb.h"
#include "guest/include/mm.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/swap.h"
#include "guest/include/task.h"
#include "guest/include/vma.h"
#include "guest/kernel/proc.h"

#define KIB(pages)   ((pages) << (PAGE_SHIFT - 10))
#define NSEC_PER_SEC 1000000000UL

void text_add(struct text *t, const char *fmt, ...)
{
	size_t left = t->len < t->size ? t->size - t->len : 0;
	va_list ap;

	va_start(ap, fmt);
	t->len += (size_t)vsnprintf(left ? t->buf + t->len : NULL, left, fmt, ap);
	va_end(ap);
}

/* --- the machine
 * ---------------------------------------------------------------------------------- */

static void show_uptime(struct text *t, const struct process *p)
{
	u64 now = ktime_ns();

	(void)p;
	text_add(t, "%lu.%02lu 0.00\n", now / NSEC_PER_SEC, now % NSEC_PER_SEC / 10000000);
}

static void show_loadavg(struct text *t, const struct process *p)
{
	(void)p;
	text_add(t, "0.00 0.00 0.00 1/%d %d\n", process_count(), current->pid);
}

static void show_meminfo(struct text *t, const struct process *p)
{
	u64 cached = fs_cached_pages();
	const struct {
		const char *name;
		u64 pages;
	} lines[] = {
	    {"MemTotal:", nr_total_pages()},
	    {"MemFree:", nr_free_pages()},
	    {"MemAvailable:", nr_free_pages() + cached},
	    {"Buffers:", 0},
	    {"Cached:", cached},
	    {"SwapCached:", 0},
	    {"Shmem:", 0},
	    {"SReclaimable:", 0},
	    {"SwapTotal:", nr_swap_slots()},
	    {"SwapFree:", nr_free_slots()},
	    {"AnonHugePages:", nr_huge_pages() * HUGE_PAGES},
	};
	const struct hugetlb_counts pool = hugetlb_counts();

	(void)p;
	for (unsigned i = 0; i < ARRAY_SIZE(lines); i++)
		text_add(t, "%-15s %8lu kB\n", lines[i].name, KIB(lines[i].pages));
	text_add(t, "HugePages_Total: %7lu\nHugePages_Free:  %7lu\nHugePages_Rsvd:  %7lu\n",
		 pool.total, pool.free, pool.reserved);
	text_add(t, "HugePages_Surp:  %7u\nHugepagesize:    %7lu kB\n", 0, PMD_SIZE >> 10);
}

static void show_vmstat(struct text *t, const struct process *p)
{
	const struct fault_counts sum = sum_fault_counters();

	(void)p;
	text_add(t, "nr_free_pages %lu\nnr_file_pages %lu\n", nr_free_pages(), fs_cached_pages());
	text_add(t, "pgfault %lu\npgmajfault %lu\n", sum.minor + sum.major, sum.major);
	text_add(t, "pswpout %lu\n", sum.swapped_out);
	text_add(t, "nr_anon_transparent_hugepages %lu\n", nr_huge_pages());
	text_add(t, "thp_fault_alloc %lu\nthp_fault_fallback %lu\nthp_collapse_alloc %lu\n",
		 sum.cases[FC_huge_page], sum.thp_fallback, sum.thp_collapse);
	text_add(t, "thp_split_page %lu\nthp_split_pmd %lu\nthp_zero_page_alloc %lu\n",
		 sum.thp_split_page, sum.thp_split_pmd, sum.thp_zero_page_alloc);
	text_add(t, "numa_pte_updates %lu\nnuma_hint_faults %lu\n", sum.numa_pte_updates,
		 sum.cases[FC_numa_hint]);
	text_add(t, "pgsteal_kswapd 0\npgsteal_direct %lu\n", sum.reclaimed);
}

static void show_stat(struct text *t, const struct process *p)
{
	(void)p;
	text_add(t, "cpu  0 0 0 0 0 0 0 0 0 0\n");
	for (unsigned i = 0; i < nr_cpus; i++)
		text_add(t, "cpu%u 0 0 0 0 0 0 0 0 0 0\n", i);
	text_add(t, "intr 0\nctxt 0\n");
	text_add(t, "btime 0\nprocesses %d\nprocs_running 1\nprocs_blocked 0\n", process_count());
}

static void show_cpuinfo(struct text *t, const struct process *p)
{
	(void)p;
	for (unsigned i = 0; i < nr_cpus; i++)
		text_add(t, "processor\t: %u\nmodel name\t: x86-64\n\n", i);
}

static void show_version(struct text *t, const struct process *p)
{
	(void)p;
	text_add(t, "Linux version 6.1.0-foal (tiny guest kernel)\n");
}

static void show_mounts(struct text *t, const struct process *p)
{
	(void)p;
	for (const struct super_block *sb = mounted; sb; sb = sb->next) {
		if (sb->bdev)
			text_add(t, "/dev/%s %s ext2 %s 0 0\n", sb->bdev->name, sb->where,
				 sb->read_only ? "ro" : "rw");
		else
			text_add(t, "%s %s %s rw 0 0\n", sb->where + 1, sb->where, sb->where + 1);
	}
}

const struct proc_file proc_files[] = {
    {.name = "cpuinfo", .show = show_cpuinfo},
    {.name = "loadavg", .show = show_loadavg},
    {.name = "meminfo", .show = show_meminfo},
    {.name = "mounts", .show = show_mounts},
    {.name = "stat", .show = show_stat},
    {.name = "uptime", .show = show_uptime},
    {.name = "version", .show = show_version},
    {.name = "vmstat", .show = show_vmstat},
    {0},
};

/* --- a process
 * ---------------------------------------------------------------------------------------- */

static char state_of(const struct process *p)
{
	const struct task *t;

	if (!p->nr_threads)
		return 'Z';
	if (p->stopped)
		return 'T';
	list_for_each(t, &p->threads, in_process)
	{
		if (t->state == TASK_RUNNING)
			return 'R';
	}
	return 'S';
}

struct mm *mm_of(const struct process *p)
{
	const struct task *t;

	/* A thread that is ending has none. */
	list_for_each(t, &p->threads, in_process)
	{
		if (t->mm)
			return t->mm;
	}
	return NULL;
}

static u64 rss_of(const struct process *p)
{
	const struct mm *mm = mm_of(p);
	u64 pages = 0;

	for (unsigned i = 0; mm && i < NR_RSS; i++)
		pages += mm->rss[i];
	return pages;
}

static u64 size_of(const struct process *p)
{
	const struct mm *mm = mm_of(p);

	return mm ? mm->total_pages : 0;
}

static int parent_of(const struct process *p)
{
	return p->parent ? p->parent->pid : 0;
}

static void show_process_stat(struct text *t, const struct process *p)
{
	const struct fault_sums own = process_faults(p), children = p->children_faults;

	text_add(t, "%d (%s) %c %d %d %d 0 -1 0 %lu %lu %lu %lu 0 0 0 0 20 0 %u 0 0 %lu %lu",
		 p->pid, p->name, state_of(p), parent_of(p), p->pgid, p->sid, own.minor,
		 children.minor, own.major, children.major, p->nr_threads, size_of(p) << PAGE_SHIFT,
		 rss_of(p));
	for (unsigned field = 25; field <= 52; field++)
		text_add(t, " 0");
	text_add(t, "\n");
}

static void show_vma_sums(struct text *t, const struct mm *mm)
{
	text_add(t, "VmLck:\t%8lu kB\nVmData:\t%8lu kB\nVmStk:\t%8lu kB\n",
		 KIB(vma_pages(mm, VM_LOCKED, VM_LOCKED)),
		 KIB(vma_pages(mm, VM_DATA_MASK, VM_WRITE)),
		 KIB(vma_pages(mm, VM_GROWSDOWN, VM_GROWSDOWN)));
}

static void show_process_status(struct text *t, const struct process *p)
{
	struct mm *mm = mm_of(p);

	text_add(t, "Name:\t%s\nState:\t%c\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\n", p->name, state_of(p),
		 p->pid, p->pid, parent_of(p));
	text_add(t, "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n");
	if (!mm)
		return;
	text_add(t, "VmSize:\t%8lu kB\n", KIB(size_of(p)));
	/* Who changes the mappings now is asked for these another time. */
	if (down_read_trylock(&mm->lock)) {
		show_vma_sums(t, mm);
		up_read(&mm->lock);
	}
	text_add(t, "VmRSS:\t%8lu kB\n", KIB(rss_of(p)));
	text_add(t, "RssAnon:\t%8lu kB\nRssFile:\t%8lu kB\nThreads:\t%u\n", KIB(mm->rss[RSS_ANON]),
		 KIB(mm->rss[RSS_FILE]), p->nr_threads);
}

static void show_process_statm(struct text *t, const struct process *p)
{
	const struct mm *mm = mm_of(p);

	text_add(t, "%lu %lu %lu 0 0 0 0\n", size_of(p), rss_of(p), mm ? mm->rss[RSS_FILE] : 0);
}

static void show_process_comm(struct text *t, const struct process *p)
{
	text_add(t, "%s\n", p->name);
}

/* The name stands for the arguments, which are in the process's own memory. */
static void show_process_cmdline(struct text *t, const struct process *p)
{
	if (mm_of(p))
		text_add(t, "%s%c", p->name, 0);
}

static void show_process_exe(struct text *t, const struct process *p)
{
	const struct mm *mm = mm_of(p);

	if (mm && mm->exe)
		text_add(t, "%s", mm->exe);
}

void show_vma(struct text *t, const struct mm *mm, const struct vma *vma)
{
	const char *what = "";

	if (vma->flags & VM_GROWSDOWN)
		what = "[stack]";
	else if (!vma->inode && vma->start < mm->brk && vma->end > mm->brk_start)
		what = "[heap]";
	text_add(t, "%08lx-%08lx %c%c%c%c %08lx 00:%02lx %lu", vma->start, vma->end,
		 vma->flags & VM_READ ? 'r' : '-', vma->flags & VM_WRITE ? 'w' : '-',
		 vma->flags & VM_EXEC ? 'x' : '-', vma->flags & VM_SHARED ? 's' : 'p',
		 vma->inode ? vma->pgoff << PAGE_SHIFT : 0, vma->inode ? fs_device(vma->inode) : 0,
		 vma->inode ? vma->inode->ino : 0);
	text_add(t, *what ? "%26s%s\n" : "%s%s\n", "", what);
}

static void show_process_maps(struct text *t, const struct process *p)
{
	struct mm *mm = mm_of(p);

	/* Who changes it now is asked for another time: waiting is not for here. */
	if (!mm || !down_read_trylock(&mm->lock))
		return;
	for (unsigned i = 0; i < mm->nr_vmas; i++)
		show_vma(t, mm, mm->vmas[i]);
	up_read(&mm->lock);
}

const struct proc_file proc_process_files[] = {
    {.name = "cmdline", .show = show_process_cmdline},
    {.name = "comm", .show = show_process_comm},
    {.name = "exe", .show = show_process_exe, .link = true},
    {.name = "maps", .show = show_process_maps},
    {.name = "mem", .ops = &proc_mem_ops},
    {.name = "smaps", .show = show_process_smaps},
    {.name = "stat", .show = show_process_stat},
    {.name = "statm", .show = show_process_statm},
    {.name = "status", .show = show_process_status},
    {0},
};
