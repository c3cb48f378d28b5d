/* A space with a memory limit whose reclaim runs step by step, on the fake installer. */
#ifndef FOAL_TESTS_EPT_RECLAIM_RIG_H
#define FOAL_TESTS_EPT_RECLAIM_RIG_H

#include "tests/ept/fake_install.h"
#include "tests/ept/util.h"

#define ANON (-1) /* an enum ept_file_mode otherwise */
#define R    EPT_READ
#define W    EPT_WRITE
#define AT   20UL /* the page that is looked at */

extern struct ept_swap_file swap;
extern struct ept_resolution res; /* of the last touch() */

/* 64 pages, one a fault; the limit is the lowest. @swaps: to a new file. */
struct vm vm_limited(int mode, bool move, bool swaps);

enum ept_result touch(const struct vm *vm, uint64_t page, enum ept_access access);
/* Touch the page for the first time, and leave a byte of its own in what can be written. */
void first_touch(const struct vm *vm, enum ept_access access, char byte);
/*
 * Touch all pages in the order of @step, and leave a byte in each: how many were not there.
 * @returned: their bytes are, and they come from the swap.
 */
unsigned touch_all(struct vm *vm, uint64_t step, bool returned);

struct ept_leaf *leaf_of(const struct vm *vm);
enum ept_pte pte(const struct vm *vm);
struct ept_sampled sample(const struct vm *vm);
/* Sample and evict until all 64 pages are gone. */
void evict_all(const struct vm *vm);

/* An own page, with 7 as its byte, that the pool has, or the swap file. */
struct vm pooled_page(void);
struct vm swapped_page(void);

#endif
