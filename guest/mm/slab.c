/*
 * kmalloc: objects of one size class share frames; larger ones are blocks of the page allocator.
 * A frame's struct page says what is in it, so kfree needs no size.
 */
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/spinlock.h"
#include "guest/include/string.h"

#define SMALLEST_SHIFT 5  /* 32 bytes */
#define LARGEST_SHIFT  11 /* 2048 bytes */
#define NR_CLASSES     (LARGEST_SHIFT - SMALLEST_SHIFT + 1)

struct object {
	struct object *next;
};

/*
 * Frames with at least one free object, by class. In the struct page of such a frame: the number
 * of free objects in index, the list of those that came back in private, and how many were never
 * handed out.
 */
static struct slab_class {
	struct list partial;
} classes[NR_CLASSES] = {
#define EMPTY(i) [i] = {{&classes[i].partial, &classes[i].partial}}
    EMPTY(0), EMPTY(1), EMPTY(2), EMPTY(3), EMPTY(4), EMPTY(5), EMPTY(6),
};

static struct spinlock lock;

static unsigned class_of(size_t size)
{
	unsigned shift = SMALLEST_SHIFT;

	while (1UL << shift < size)
		shift++;
	return shift - SMALLEST_SHIFT;
}

static unsigned objects_per_page(unsigned class)
{
	return PAGE_SIZE >> (class + SMALLEST_SHIFT);
}

static struct page *new_slab(unsigned class)
{
	struct page *page = alloc_page(0);

	if (!page)
		return NULL;
	page->flags = PG_SLAB;
	page->private = 0;
	page->slab_class = class;
	page->slab_fresh = objects_per_page(class);
	page->index = objects_per_page(class);
	list_add(&page->lru, &classes[class].partial);
	return page;
}

static void *take_object(unsigned class)
{
	struct list *partial = &classes[class].partial;
	struct object *obj;
	struct page *page;

	page = list_empty(partial) ? new_slab(class) : list_entry(partial->next, struct page, lru);
	if (!page)
		return NULL;
	obj = (struct object *)page->private;
	if (obj)
		page->private = (u64)obj->next;
	else
		obj = (void *)((char *)page_kva(page) +
			       ((u64)--page->slab_fresh << (class + SMALLEST_SHIFT)));
	if (!--page->index)
		list_del(&page->lru);
	return obj;
}

void *kmalloc(size_t size)
{
	unsigned order = 0;
	void *obj;
	u64 irq;

	if (size > PAGE_SIZE << MAX_ORDER)
		return NULL;
	if (size > 1UL << LARGEST_SHIFT) {
		struct page *page;

		while (PAGE_SIZE << order < size)
			order++;
		page = alloc_pages(order, 0);
		return page ? page_kva(page) : NULL;
	}
	irq = spin_lock_irqsave(&lock);
	obj = take_object(class_of(size));
	spin_unlock_irqrestore(&lock, irq);
	return obj;
}

void *kzalloc(size_t size)
{
	void *p = kmalloc(size);

	return p ? memset(p, 0, size) : NULL;
}

char *kstrdup(const char *s)
{
	char *copy = s ? kmalloc(strlen(s) + 1) : NULL;

	return copy ? memcpy(copy, s, strlen(s) + 1) : NULL;
}

void kfree(void *p)
{
	struct page *page;
	bool empty;
	u64 irq;

	if (!p)
		return;
	page = virt_to_page(p);
	if (!(page->flags & PG_SLAB)) {
		put_page(page);
		return;
	}
	irq = spin_lock_irqsave(&lock);
	((struct object *)p)->next = (struct object *)page->private;
	page->private = (u64)p;
	if (!page->index++)
		list_add(&page->lru, &classes[page->slab_class].partial);
	empty = page->index == objects_per_page(page->slab_class);
	if (empty)
		list_del(&page->lru);
	spin_unlock_irqrestore(&lock, irq);
	if (empty) {
		page->flags = 0;
		put_page(page);
	}
}
