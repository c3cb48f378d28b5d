#include "tests/guest/fake_kernel.h"
#include "guest/include/file_rw.h"
#include "guest/include/mm.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"
#include "guest/include/string.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
	NR_FRAMES = 8192,
	NR_GUARDED = 4096, /* the first half: every other frame is a guard */
	MAX_IMAGE = 512 << 20,
};
/* Images lie above the frames, each with a guard behind it. */
#define IMAGE_PHYS(slot) ((u64)((slot) + 1) << 32)

static struct page frames[NR_FRAMES];
struct page *mem_map = frames;
u64 max_pfn = NR_FRAMES;
char fake_log[4096];

static size_t log_len;
static long allocated, fail_in;
static bool contiguous;
static u32 next_guarded, next_contiguous;
static struct list free_guarded;
static struct bio *pending;

/* --- memory --------------------------------------------------------------------------------- */

static void map_at(u64 phys, size_t len)
{
	void *want = phys_to_virt(phys);
	void *got = mmap(want, len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);

	if (got != want)
		abort();
}

void fake_reset(void)
{
	map_at(0, NR_FRAMES * PAGE_SIZE);
	for (u64 i = 0; i < NR_GUARDED; i += 2)
		mprotect(phys_to_virt(i << PAGE_SHIFT), PAGE_SIZE, PROT_NONE);
	list_init(&free_guarded);
	next_guarded = 1;
	next_contiguous = NR_GUARDED;
	allocated = 0;
	fail_in = -1;
	contiguous = false;
	pending = NULL;
	log_len = 0;
	fake_log[0] = 0;
}

long fake_allocated(void)
{
	return allocated;
}

void fake_fail_allocation(long n)
{
	fail_in = n;
}

void fake_contiguous_frames(bool on)
{
	contiguous = on;
}

static bool fails_now(void)
{
	return fail_in >= 0 && fail_in-- == 0;
}

struct page *alloc_pages(unsigned order, unsigned flags)
{
	struct page *page;

	if (fails_now())
		return NULL;
	if (contiguous || order) {
		if (next_contiguous + (1U << order) > NR_FRAMES)
			abort();
		page = &frames[next_contiguous];
		next_contiguous += 1U << order;
	} else if (!list_empty(&free_guarded)) {
		page = list_entry(free_guarded.next, struct page, lru);
		list_del(&page->lru);
	} else {
		if (next_guarded >= NR_GUARDED)
			abort();
		page = &frames[next_guarded];
		next_guarded += 2;
	}
	*page = (struct page){.refcount = 1};
	memset(page_kva(page), flags & GFP_ZERO ? 0 : 0xa5, PAGE_SIZE << order);
	allocated++;
	return page;
}

void put_page(struct page *page)
{
	if (page->refcount <= 0)
		abort();
	if (--page->refcount)
		return;
	allocated--;
	if (page < frames + NR_GUARDED)
		list_add(&page->lru, &free_guarded);
}

void *kmalloc(size_t size)
{
	if (fails_now())
		return NULL;
	void *p = malloc(size);
	if (!p)
		abort();
	memset(p, 0x5a, size);
	allocated++;
	return p;
}

void *kzalloc(size_t size)
{
	void *p = kmalloc(size);

	if (p)
		memset(p, 0, size);
	return p;
}

void kfree(void *p)
{
	allocated -= p != NULL;
	free(p);
}

/* --- messages ------------------------------------------------------------------------------- */

static void log_message(const char *fmt, va_list ap)
{
	int n = vsnprintf(fake_log + log_len, sizeof(fake_log) - log_len, fmt, ap);

	log_len = MIN(log_len + (size_t)n, sizeof(fake_log) - 1);
}

void printk(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_message(fmt, ap);
	va_end(ap);
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

/* --- waiting: the only thing to wait for is the disk ---------------------------------------- */

void wait_prepare(struct wait_queue *q, struct waiter *w)
{
	(void)q, (void)w;
}

void wait_finish(struct wait_queue *q, struct waiter *w)
{
	(void)q, (void)w;
}

void wake_up_waiters(struct wait_queue *q)
{
	(void)q;
}

/* One thread: a spinlock that is taken already is never given back. */
void spin_wait(const struct spinlock *l)
{
	(void)l;
	abort();
}

/* One task: a lock that is taken already would never be had. */
void mutex_init(struct mutex *m)
{
	m->owner = NULL;
}

void mutex_lock(struct mutex *m)
{
	if (m->owner)
		panic("a lock is taken twice\n");
	m->owner = (struct task *)1;
}

void mutex_unlock(struct mutex *m)
{
	if (!m->owner)
		panic("a lock that is not held is given back\n");
	m->owner = NULL;
}

u64 ktime_ns(void)
{
	return 0;
}

static void complete(struct bio *bio);

void (*fake_idle)(void);

void schedule(void)
{
	static unsigned idle; /* times in a row */
	struct bio *bio = pending;

	if (!bio && fake_idle && idle++ < 1000) {
		fake_idle();
		return;
	}
	if (!bio)
		panic("waiting for what will never happen\n");
	idle = 0;
	pending = bio->next;
	complete(bio);
}

/* --- the page cache's part ------------------------------------------------------------------ */

void address_space_init(struct address_space *as, struct inode *host,
			const struct address_space_ops *ops)
{
	as->host = host;
	as->ops = ops;
}

int filemap_write_back(struct address_space *as)
{
	(void)as;
	return 0;
}

void filemap_release(struct address_space *as)
{
	if (!as->ops)
		panic("an inode without a mapping\n");
}

void filemap_truncate(struct address_space *as, u64 size)
{
	(void)as, (void)size;
}

int file_set_size(struct inode *inode, u64 size)
{
	inode->size = size;
	return inode->ops->truncate(inode);
}

/* No inode here is without a filesystem. */
void shmem_free(struct inode *inode)
{
	panic("inode %lu is nobody's", inode->ino);
}

void page_end_read(struct page *page, int error)
{
	if (!(page->flags & PG_LOCKED))
		panic("a page was finished twice\n");
	page->flags &= ~(u32)PG_LOCKED;
	page->flags |= error ? PG_ERROR : PG_UPTODATE;
	page->private = (u64)(s64)error;
}

void fake_read_pages(struct inode *inode, u64 pgoff, struct page **pages, int *errors, unsigned n)
{
	struct wait_queue unused;

	for (unsigned i = 0; i < n; i++)
		pages[i]->flags = PG_LOCKED;
	inode->mapping.ops->read_pages(inode, pgoff, pages, n);
	for (unsigned i = 0; i < n; i++) {
		wait_event(unused, !(pages[i]->flags & PG_LOCKED));
		errors[i] = (int)(s64)pages[i]->private;
	}
}

/* --- the disk ------------------------------------------------------------------------------- */

static bool is_bad(const struct fake_disk *disk, u64 sector, u64 sectors)
{
	return disk->bad_last && sector <= disk->bad_last && sector + sectors > disk->bad_first;
}

static void transfer(struct fake_disk *disk, struct bio *bio)
{
	u64 sector = bio->sector;

	for (u32 i = 0; i < bio->nr_vecs; i++) {
		u32 len = bio->vecs[i].len;
		u64 sectors = len >> SECTOR_SHIFT;
		void *mem = phys_to_virt(bio->vecs[i].phys);
		char *at = disk->image + (sector << SECTOR_SHIFT);

		if (!len || len & 511 || !blkdev_range_ok(&disk->bdev, sector, sectors))
			panic("a bio past the end of the device\n");
		if (is_bad(disk, sector, sectors))
			bio->status = -EIO;
		else if (bio->write)
			memcpy(at, mem, len);
		else
			memcpy(mem, at, len);
		sector += sectors;
	}
}

static void complete(struct bio *bio)
{
	bio->done(bio);
}

static void fake_submit(struct block_device *bdev, struct bio *bio)
{
	struct fake_disk *disk = bdev->private;

	if (!bio->nr_vecs || bio->nr_vecs > BIO_MAX_VECS)
		panic("a bio with %u pieces\n", bio->nr_vecs);
	if (++disk->bios > disk->limit)
		panic("more bios than any sane reader needs\n");
	disk->vecs += bio->nr_vecs;
	bio->status = 0;
	transfer(disk, bio);
	if (disk->async) {
		bio->next = pending;
		pending = bio;
	} else {
		complete(bio);
	}
}

static int fake_flush(struct block_device *bdev)
{
	struct fake_disk *disk = bdev->private;

	disk->flushes++;
	return 0;
}

static int fake_direct(struct block_device *bdev, u64 sector, u64 *phys)
{
	struct fake_disk *disk = bdev->private;

	if (sector >= bdev->sectors)
		return -ERANGE;
	*phys = (u64)(disk->image - (char *)phys_to_virt(0)) + (sector << SECTOR_SHIFT);
	return 0;
}

static const struct block_ops disk_ops = {.submit = fake_submit, .flush = fake_flush};
static const struct block_ops pmem_ops = {
    .submit = fake_submit, .flush = fake_flush, .direct = fake_direct};

void fake_disk_load(struct fake_disk *disk, unsigned slot, const char *path, bool pmem)
{
	FILE *f = fopen(path, "rb");

	if (!f || fseek(f, 0, SEEK_END) || ftell(f) > MAX_IMAGE) {
		perror(path);
		abort();
	}
	*disk = (struct fake_disk){.size = (size_t)ftell(f), .limit = 1000000};
	rewind(f);
	map_at(IMAGE_PHYS(slot), ALIGN_UP(disk->size, PAGE_SIZE) + PAGE_SIZE);
	disk->image = phys_to_virt(IMAGE_PHYS(slot));
	mprotect(disk->image + ALIGN_UP(disk->size, PAGE_SIZE), PAGE_SIZE, PROT_NONE);
	if (fread(disk->image, 1, disk->size, f) != disk->size)
		abort();
	fclose(f);
	snprintf(disk->bdev.name, sizeof(disk->bdev.name), "fake%u", slot);
	disk->bdev.sectors = disk->size >> SECTOR_SHIFT;
	disk->bdev.ops = pmem ? &pmem_ops : &disk_ops;
	disk->bdev.private = disk;
}

void fake_disk_save(const struct fake_disk *disk, const char *path)
{
	FILE *f = fopen(path, "wb");

	if (!f || fwrite(disk->image, 1, disk->size, f) != disk->size || fclose(f))
		abort();
}
