#include "ept/mirror.h"

/* An entry of a table above the leaves points to the next table down. */
struct table {
	void *slot[EPT_TABLE_SIZE];
};

void ept_mirror_init(struct ept_mirror *mirror, struct ept_arena *arena)
{
	mirror->arena = arena;
	pthread_mutex_init(&mirror->grow, NULL);
}

void ept_mirror_free(struct ept_mirror *mirror)
{
	pthread_mutex_destroy(&mirror->grow); /* the tables go with the arena */
}

/* Which slot of a table at @level (3 is the root, 0 the leaf) covers @gpa. */
static unsigned slot_index(gpa_t gpa, int level)
{
	return (gpa.v >> (EPT_PAGE_SHIFT + level * EPT_LEVEL_SHIFT)) % EPT_TABLE_SIZE;
}

struct ept_leaf *ept_mirror_find(const struct ept_mirror *mirror, gpa_t gpa)
{
	void *const *slots = mirror->root;

	for (int level = EPT_LEVELS - 1; level > 0; level--) {
		void *next = __atomic_load_n(&slots[slot_index(gpa, level)], __ATOMIC_ACQUIRE);

		if (!next || level == 1)
			return next;
		slots = ((struct table *)next)->slot;
	}
	return NULL;
}

static struct ept_leaf *new_leaf(struct ept_arena *arena)
{
	struct ept_leaf *leaf = ept_arena_alloc(arena, sizeof(*leaf));

	if (leaf) {
		pthread_mutex_init(&leaf->lock, NULL);
		pthread_cond_init(&leaf->arrived, NULL);
	}
	return leaf;
}

static struct ept_leaf *grow(struct ept_mirror *mirror, gpa_t gpa)
{
	void **slots = mirror->root;
	void *next = NULL;

	for (int level = EPT_LEVELS - 1; level > 0; level--) {
		void **slot = &slots[slot_index(gpa, level)];

		next = *slot;
		if (!next) {
			next = level == 1 ? (void *)new_leaf(mirror->arena)
					  : ept_arena_alloc(mirror->arena, sizeof(struct table));
			if (!next)
				return NULL;
			__atomic_store_n(slot, next, __ATOMIC_RELEASE);
		}
		slots = ((struct table *)next)->slot;
	}
	return next;
}

struct ept_leaf *ept_mirror_get(struct ept_mirror *mirror, gpa_t gpa)
{
	struct ept_leaf *leaf = ept_mirror_find(mirror, gpa);

	if (leaf)
		return leaf;
	pthread_mutex_lock(&mirror->grow);
	leaf = grow(mirror, gpa);
	pthread_mutex_unlock(&mirror->grow);
	return leaf;
}
