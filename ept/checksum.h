/* The checksum of a snapshot's memory: XXH3, 128 bits. */
#ifndef FOAL_EPT_CHECKSUM_H
#define FOAL_EPT_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

struct ept_sum {
	uint64_t low, high;
};

struct ept_sum ept_checksum(const void *bytes, size_t len);

static inline int ept_sums_equal(const struct ept_sum *a, const struct ept_sum *b)
{
	return a->low == b->low && a->high == b->high;
}

/* checksum_avx2.c: the same result, for a processor that has AVX2. */
struct ept_sum ept_checksum_avx2(const void *bytes, size_t len);

#endif
