/* A circular doubly linked list that lives inside its elements. */
#ifndef GUEST_LIST_H
#define GUEST_LIST_H

#include "guest/include/types.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Puts item directly after pos: with pos the head, at the front. */
static inline void list_add(struct list *item, struct list *pos)
{
	item->next = pos->next;
	item->prev = pos;
	pos->next->prev = item;
	pos->next = item;
}

/* Puts item directly before pos: with pos the head, at the end. */
static inline void list_add_tail(struct list *item, struct list *pos)
{
	list_add(item, pos->prev);
}

/* Takes item out and leaves it an empty list, so that taking it out twice is harmless. */
static inline void list_del(struct list *item)
{
	item->prev->next = item->next;
	item->next->prev = item->prev;
	list_init(item);
}

#define list_entry(l, type, member) container_of(l, type, member)

#define list_for_each(pos, head, member) \
	for (pos = list_entry((head)->next, __typeof__(*pos), member); &pos->member != (head); \
	     pos = list_entry(pos->member.next, __typeof__(*pos), member))

/* The same, for a body that may remove or free pos. */
#define list_for_each_safe(pos, n, head, member) \
	for (pos = list_entry((head)->next, __typeof__(*pos), member), \
	    n = list_entry(pos->member.next, __typeof__(*pos), member); \
	     &pos->member != (head); \
	     pos = n, n = list_entry(n->member.next, __typeof__(*n), member))

#endif
