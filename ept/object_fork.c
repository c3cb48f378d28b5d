/*
 * The cache of a private file in a process that forks.
 *
 * The pages that are cached at the fork are frozen: they stay in the memfd, unchanged,
 * for as long as anybody maps it, and both sides use them; until it is known that the
 * child is gone, as one that writes a snapshot soon is. What is read later each
 * side reads for itself. The parent puts it into the memfd, where the child does not
 * look; the child has a cache of its own, from which areas get copies (they map the
 * frozen one). So neither sees what the other has read, or gives back.
 *
 * A child that forks shares with its own child what was frozen at the first fork.
 */
#include "ept/object.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t words(const struct ept_object *obj)
{
	return (ept_object_pages(obj) + 63) / 64;
}

/* Dirty pages of a shared file are nobody else's: it cannot be forked. */
static bool freezes(const struct ept_object *obj)
{
	return obj->cache && obj->mode != EPT_FILE_SHARED;
}

static void add(uint64_t *to, const uint64_t *bits, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] |= bits[i];
}

/* A child's own child uses what was frozen for it itself. */
int ept_object_freeze(struct ept_object *obj, uint64_t fork)
{
	struct ept_freeze *freeze;

	if (!freezes(obj) || obj->base)
		return 0;
	freeze = calloc(1, sizeof(*freeze) + words(obj) * sizeof(*freeze->pages));
	if (!freeze)
		return -ENOMEM;
	freeze->fork = fork;
	pthread_mutex_lock(&obj->users); /* nothing is being given back */
	pthread_mutex_lock(&obj->lock);
	if (!obj->frozen)
		obj->frozen = calloc(words(obj), sizeof(*obj->frozen));
	if (obj->frozen) {
		add(freeze->pages, obj->cached, words(obj));
		add(obj->frozen, freeze->pages, words(obj));
		freeze->next = obj->freezes;
		obj->freezes = freeze;
		freeze = NULL; /* the object's */
	}
	pthread_mutex_unlock(&obj->lock);
	pthread_mutex_unlock(&obj->users);
	free(freeze);
	return obj->frozen ? 0 : -ENOMEM;
}

static struct ept_freeze **find(struct ept_object *obj, uint64_t fork)
{
	struct ept_freeze **at = &obj->freezes;

	while (*at && (*at)->fork != fork)
		at = &(*at)->next;
	return at;
}

void ept_object_keep_frozen(struct ept_object *obj, uint64_t fork)
{
	struct ept_freeze *freeze, **at, *kept;

	pthread_mutex_lock(&obj->lock);
	at = find(obj, fork);
	freeze = *at;
	kept = *find(obj, 0);
	if (freeze && kept) {
		add(kept->pages, freeze->pages, words(obj));
		*at = freeze->next;
		free(freeze);
	} else if (freeze) {
		freeze->fork = 0;
	}
	pthread_mutex_unlock(&obj->lock);
}

void ept_object_thaw(struct ept_object *obj, uint64_t fork)
{
	struct ept_freeze *freeze, **at;

	pthread_mutex_lock(&obj->lock);
	at = find(obj, fork);
	freeze = obj->base ? NULL : *at; /* its parent's */
	if (freeze) {
		*at = freeze->next;
		free(freeze);
		memset(obj->frozen, 0, words(obj) * sizeof(*obj->frozen));
		for (freeze = obj->freezes; freeze; freeze = freeze->next)
			add(obj->frozen, freeze->pages, words(obj));
	}
	pthread_mutex_unlock(&obj->lock);
}

static void count_frozen(struct ept_object *obj)
{
	obj->nr_cached = obj->nr_coming = 0;
	for (size_t i = 0; i < words(obj); i++) {
		obj->cached[i] = obj->frozen[i];
		obj->nr_cached += (uint64_t)__builtin_popcountl(obj->frozen[i]);
	}
	memset(obj->ahead, 0, words(obj) * sizeof(*obj->ahead));
	memset(&obj->ahead_stats, 0, sizeof(obj->ahead_stats));
}

int ept_object_adopt(struct ept_object *obj)
{
	size_t size = ept_object_pages(obj) << EPT_PAGE_SHIFT;

	pthread_cond_init(&obj->read_done, NULL);
	if (!freezes(obj))
		return 0;
	count_frozen(obj);
	close(obj->memfd);
	obj->memfd = -1;
	if (!obj->base) {
		obj->base = obj->cache;
		if (mprotect(obj->base, size, PROT_READ))
			return -errno;
	} else {
		munmap(obj->cache, size); /* the parent's own */
	}
	obj->cache = NULL;
	return ept_object_new_cache(obj);
}
