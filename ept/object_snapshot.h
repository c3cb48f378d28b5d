/*
 * An object made of a snapshot's layers: where a page is, and its bytes once the extent
 * they lie in was checked. Page numbers count from the area's first.
 */
#ifndef FOAL_EPT_OBJECT_SNAPSHOT_H
#define FOAL_EPT_OBJECT_SNAPSHOT_H

#include "ept/object.h"
#include "ept/snapshot_read.h"

/* NONE's value in an area of layers: the page was given back. It is zero, not the snapshot's. */
#define EPT_VALUE_DISCARDED ((1UL << 48) - 2)

/* Is it made of layers? Then it has no cache. */
static inline bool ept_object_layered(const struct ept_object *obj)
{
	return obj && obj->layers;
}

/* Is the page zero, whatever may be read? */
bool ept_layers_zero(const struct ept_object *obj, uint64_t page);
const struct ept_object *ept_layers_origin(const struct ept_object *obj);
/* Is it made of these, or of others that say the same of every page? */
bool ept_layers_are(const struct ept_object *obj, struct ept_snapshot *const *layers, size_t count);

/*
 * Read what pages [first, end), all of one extent, are: into @to, page by page. Bits of
 * *@have: those that came, and are not zeros by themselves. Errors as the file's; -EBADMSG: a
 * checksum is wrong; one line in @why (empty: the origin's own error).
 */
int ept_layers_read(const struct ept_object *obj, uint64_t first, uint64_t end, char *to,
		    uint16_t *have, uint64_t *bytes, char *why, size_t size);

/* Pages [first, end) will be read soon: tell the host. */
void ept_layers_will_need(const struct ept_object *obj, uint64_t first, uint64_t end);

enum ept_layers_what { EPT_LAYERS_BELOW, EPT_LAYERS_ZERO, EPT_LAYERS_DATA };

/* Of one page: the origin's, zeros, or in a layer. */
enum ept_layers_what ept_layers_what(const struct ept_object *obj, uint64_t page);

/* The extent that was read last, for who goes through pages in order. */
struct ept_layers_extent {
	const struct ept_index_extent *of; /* NULL: none */
	char bytes[EPT_EXTENT] __attribute__((aligned(EPT_PAGE_SIZE)));
};

/*
 * The same, and its bytes in @to if they are in a layer; or an error, which is negative. An
 * extent that is in @last (NULL: there is none) is not read again.
 */
int ept_layers_page(const struct ept_object *obj, uint64_t page, char *to,
		    struct ept_layers_extent *last);

/* Has @space the areas that @s has, no more and no less? */
bool ept_space_has_areas(const struct ept_space *space, const struct ept_snapshot *s);

#endif
