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
const struct ept_snapshot *ept_layers_newest(const struct ept_object *obj);

/*
 * Read what pages [first, end), all of one extent, are: into @to, page by page. Bits of
 * *@have: those that came, and are not zeros by themselves. Errors as the file's; -EBADMSG: a
 * checksum is wrong; one line in @why (empty: the origin's own error).
 */
int ept_layers_read(const struct ept_object *obj, uint64_t first, uint64_t end, char *to,
		    uint16_t *have, uint64_t *bytes, char *why, size_t size);

/* The files are told that [gpa, end) will be read. */
void ept_layers_will_need(const struct ept_object *obj, uint64_t gpa, uint64_t end);

/* The first page from @gpa on, in its extent, that has to be read: its address; UINT64_MAX: none.
 */
uint64_t ept_layers_first(const struct ept_object *obj, uint64_t gpa);

/* One page for a writer: 0 (in no layer, of the origin), 1 (zeros), 2 (@to has it), or an error. */
int ept_layers_page(const struct ept_object *obj, uint64_t page, char *to);

#endif
