/*
 * What reclaim took is asked for: it comes from the pool (minor) or the swap file (major),
 * and its place there is free again when the page is installed.
 *
 * Who touches pages in order is given those that follow along with it (stream.h), as
 * far as they are where the asked one is: of the file, what one read brings. One install
 * puts all of them in. A page by which nobody came in order comes alone.
 */
#include "ept/handlers.h"

#include <errno.h>
#include <string.h>

#define MOST EPT_SWAP_AHEAD

/* Entries [index, index + n), all in the pool or all in the file. */
struct swap_in {
	unsigned n;
	struct {
		uint64_t value;
		unsigned age;
	} was[MOST];
	char page[MOST][EPT_PAGE_SIZE] __attribute__((aligned(EPT_PAGE_SIZE)));
};

static gpa_t gpa_of(const struct fault *f, unsigned i)
{
	return GPA(f->req->gpa.v + ((uint64_t)i << EPT_PAGE_SHIFT));
}

/* How many pages this fault may bring: as many as its stream says and the limit has room for. */
static unsigned most_of(struct fault *f)
{
	unsigned n = ept_return_ahead(f);

	n = n < MOST ? n : MOST;
	return n > 1 && ept_reclaim_admit(f->area->space, n) ? n : 1;
}

static void add(const struct fault *f, struct swap_in *in)
{
	in->was[in->n].value = ept_pte_value(f->leaf, f->index + in->n);
	in->was[in->n].age = ept_pte_age(f->leaf, f->index + in->n);
	in->n++;
}

/* The page that was asked for, and what may come with it. */
static void gather(struct fault *f, struct swap_in *in)
{
	enum ept_pte pte = ept_pte_get(f->leaf, f->index);
	unsigned most = most_of(f);

	in->n = 0;
	add(f, in);
	while (in->n < most && ept_pte_get(f->leaf, f->index + in->n) == pte &&
	       (pte == EPT_PTE_POOLED ||
		ept_swap_near(in->was[0].value, ept_pte_value(f->leaf, f->index + in->n))))
		add(f, in);
}

static void free_place(struct fault *f, bool pooled, uint64_t value)
{
	struct ept_reclaim *r = &f->area->space->reclaim;

	if (pooled)
		ept_pool_drop(&r->pool, value);
	else
		ept_swap_release(&r->swap, value);
}

/* The first @n pages go in; those that do give their places back. */
static int install(struct fault *f, const struct swap_in *in, unsigned n, bool pooled)
{
	struct ept_reclaim *r = &f->area->space->reclaim;
	size_t done;
	int err = ept_install_copies(fault_installer(f), fault_hva(f, f->index), in->page,
				     (size_t)n << EPT_PAGE_SHIFT, &done);
	unsigned put = (unsigned)(done >> EPT_PAGE_SHIFT);

	if (err == -EEXIST && !put) /* the page that was asked for is there */
		put = 1;
	else
		f->res->installed += put;
	for (unsigned i = 0; i < put; i++) {
		/* What nobody touched yet has one visit of the hand to be touched in. */
		unsigned age = i ? 1 : ept_reclaim_returns(r, in->was[i].age);

		ept_area_put_pte(f->area, f->leaf, f->index + i, EPT_PTE_PRIVATE, age, 0);
		free_place(f, pooled, in->was[i].value);
	}
	if (!put)
		return err;
	f->res->around += put - 1;
	ept_reclaim_count(r, refaults, 1);
	ept_reclaim_count(r, ahead, put - 1);
	ept_write_moved(f);
	return err == -EEXIST && !done ? err : 0;
}

/* Also of a pool's image, if it was spoilt: a bug of ours, and no page is better than a wrong one.
 */
static int unreadable(struct fault *f, const char *where, int err)
{
	struct ept_space *space = f->area->space;

	f->unreadable = true;
	if (ept_space_can_poison(space))
		return err;
	ept_space_fail(space, EPT_CASE_IO_ERROR, f->req->gpa, err,
		       "%s: cannot read the page of %s at %#lx from %s: %s; "
		       "check the storage and start the VM again",
		       space->name, f->area->name, (unsigned long)f->req->gpa.v, where,
		       strerrordesc_np(-err));
	return err;
}

static int from_pool(struct fault *f, struct swap_in *in)
{
	const struct ept_pool *pool = &f->area->space->reclaim.pool;
	unsigned n = 0;
	int err = 0;

	while (n < in->n && !err) {
		size_t max;
		const struct ept_image *image = ept_pool_get(pool, in->was[n].value, &max);

		err = ept_image_page(image, max, gpa_of(f, n), in->page[n]);
		n += !err;
	}
	if (!n)
		return unreadable(f, "the pool", err);
	return install(f, in, n, true);
}

/* Read with no lock held: how many pages from the first on are good; 0: *@err says why. */
static unsigned read_pages(struct fault *f, struct swap_in *in, uint64_t *bytes, int *err)
{
	const struct ept_swap *swap = &f->area->space->reclaim.swap;
	char buf[EPT_SWAP_READ] __attribute__((aligned(EPT_SWAP_BLOCK)));
	struct ept_swap_piece piece;
	unsigned n = 0;

	ept_swap_piece_begin(&piece, buf, in->was[0].value);
	for (unsigned i = 1; i < in->n; i++)
		ept_swap_piece_add(&piece, in->was[i].value);
	*err = ept_swap_piece_read(swap, &piece, bytes);
	while (n < in->n && !*err) {
		*err = ept_swap_piece_page(&piece, in->was[n].value, gpa_of(f, n), in->page[n]);
		n += !*err;
	}
	return n;
}

/* In transit meanwhile: who else wants one of the pages waits for this read. */
static int from_file(struct fault *f, struct swap_in *in)
{
	struct ept_reclaim *r = &f->area->space->reclaim;
	uint64_t bytes = 0;
	unsigned good;
	int err;

	ept_area_set_ptes(f->area, f->leaf, f->index, f->index + in->n, EPT_PTE_TRANSIT);
	pthread_mutex_unlock(&f->leaf->lock);
	fault_waits(f, EPT_WAIT_SWAP);
	good = read_pages(f, in, &bytes, &err);
	fault_read_ended(f);
	fault_lock_leaf(f);
	pthread_cond_broadcast(&f->leaf->arrived);
	for (unsigned i = 0; i < in->n; i++)
		ept_area_put_pte(f->area, f->leaf, f->index + i, EPT_PTE_SWAPPED, in->was[i].age,
				 in->was[i].value);
	f->res->bytes_read += bytes;
	f->res->major = true;
	ept_reclaim_count(r, read, good ? good : 1);
	ept_reclaim_count(r, read_bytes, bytes);
	if (!good)
		err = unreadable(f, r->swap.name, err);
	else
		err = ept_dying(f->area->space) ? -ESHUTDOWN : install(f, in, good, false);
	/* Who found one in transit that is not there now has to come again. */
	if (in->n > 1)
		ept_install_wake(fault_installer(f), fault_hva(f, f->index + 1),
				 (size_t)(in->n - 1) << EPT_PAGE_SHIFT);
	return err;
}

enum ept_result ept_swap_in(struct fault *f)
{
	bool pooled = ept_pte_get(f->leaf, f->index) == EPT_PTE_POOLED;
	enum ept_result result;
	struct swap_in in;

	gather(f, &in);
	result = ept_fault_finish(f, pooled ? from_pool(f, &in) : from_file(f, &in));
	if (ept_pte_get(f->leaf, f->index) == EPT_PTE_POISON)
		free_place(f, pooled, in.was[0].value);
	return result;
}
