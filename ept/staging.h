/*
 * Where 2 MiB are made ready before they go into guest memory in one step: a few
 * places of this process that want to be huge pages. Empty but while in use.
 */
#ifndef FOAL_EPT_STAGING_H
#define FOAL_EPT_STAGING_H

#include <stdbool.h>
#include <stddef.h>

struct ept_staging;

/* NULL without memory. Takes no memory until a place is used. */
struct ept_staging *ept_staging_create(void);
void ept_staging_free(struct ept_staging *staging);

/*
 * A place that reads as zeros, EPT_LEAF_BYTES aligned and long; NULL if none is free
 * and @wait is false. Who waits holds no leaf's lock: who has a place may want it.
 */
void *ept_staging_get(struct ept_staging *staging, bool wait);

/* Instead of the place itself, for less than 2 MiB: small pages, which hold anything. */
void *ept_staging_small(void *place);

/* Back again, either of the two; what was not moved out of the first is dropped. */
void ept_staging_put(struct ept_staging *staging, void *place);

/*
 * Does the host free a page table that is empty (Linux 6.14)? Where it does not, an event
 * in memory that is to be small leaves one behind, and no huge page fits any more.
 */
bool ept_staging_tables_go(struct ept_staging *staging);

/* Touch it: is it one huge page of the host? */
bool ept_staging_is_huge(void *place);

#endif
