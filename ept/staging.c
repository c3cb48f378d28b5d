#include "ept/staging.h"

#include "ept/host_pages.h"
#include "ept/install.h"
#include "ept/mirror.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PLACES 8

struct ept_staging {
	pthread_mutex_t lock;
	pthread_cond_t freed;
	unsigned used; /* one bit a place */
	enum { UNKNOWN, TABLES_GO, TABLES_STAY } tables;
	char *base;
	void *map;
};

/* The huge places, then the small ones, then one to try with. */
#define HALF	 (PLACES * EPT_LEAF_BYTES)
#define MAP_SIZE (2 * HALF + 2 * EPT_LEAF_BYTES)

struct ept_staging *ept_staging_create(void)
{
	struct ept_staging *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->map = mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (s->map == MAP_FAILED) {
		free(s);
		return NULL;
	}
	s->base = (char *)(((uintptr_t)s->map + EPT_LEAF_BYTES - 1) & ~(EPT_LEAF_BYTES - 1));
	ept_install_advise(s->base, 2 * HALF + EPT_LEAF_BYTES, true);
	ept_install_want_huge(s->base, HALF, true);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->freed, NULL);
	return s;
}

void ept_staging_free(struct ept_staging *s)
{
	if (!s)
		return;
	munmap(s->map, MAP_SIZE);
	pthread_cond_destroy(&s->freed);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void *ept_staging_get(struct ept_staging *s, bool wait)
{
	void *place = NULL;

	pthread_mutex_lock(&s->lock);
	while (wait && s->used == (1U << PLACES) - 1)
		pthread_cond_wait(&s->freed, &s->lock);
	for (unsigned i = 0; i < PLACES && !place; i++)
		if (!(s->used >> i & 1)) {
			s->used |= 1U << i;
			place = s->base + (size_t)i * EPT_LEAF_BYTES;
		}
	pthread_mutex_unlock(&s->lock);
	return place;
}

void *ept_staging_small(void *place)
{
	return (char *)place + HALF;
}

void ept_staging_put(struct ept_staging *s, void *place)
{
	size_t i = (size_t)((char *)place - s->base) / EPT_LEAF_BYTES;

	if (i < PLACES)
		madvise(place, EPT_LEAF_BYTES, MADV_DONTNEED);
	i %= PLACES;
	pthread_mutex_lock(&s->lock);
	s->used &= ~(1U << i);
	pthread_cond_signal(&s->freed);
	pthread_mutex_unlock(&s->lock);
}

/* A small place leaves its table behind when it is dropped, or not: then a touch makes it huge. */
static bool tables_go(char *place)
{
	bool go;

	*(volatile char *)place = 0;
	madvise(place, EPT_LEAF_BYTES, MADV_DONTNEED);
	ept_install_want_huge(place, EPT_LEAF_BYTES, true);
	go = ept_staging_is_huge(place);
	ept_install_want_huge(place, EPT_LEAF_BYTES, false);
	madvise(place, EPT_LEAF_BYTES, MADV_DONTNEED);
	return go;
}

/* Tried once, with a place that nobody gets: the one behind the last. */
bool ept_staging_tables_go(struct ept_staging *s)
{
	bool go;

	pthread_mutex_lock(&s->lock);
	if (s->tables == UNKNOWN)
		s->tables = tables_go(s->base + 2 * HALF) ? TABLES_GO : TABLES_STAY;
	go = s->tables == TABLES_GO;
	pthread_mutex_unlock(&s->lock);
	return go;
}

bool ept_staging_is_huge(void *place)
{
	unsigned char present[EPT_TABLE_SIZE];

	*(volatile char *)place = 0;
	/* One touch and everything is there; small pages come one by one. */
	return !ept_host_present(place, EPT_LEAF_BYTES, present) && present[EPT_TABLE_SIZE - 1] & 1;
}
