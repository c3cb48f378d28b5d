/*
 * Compiled for AVX2 (Makefile): Debian's library is for every x86-64, and takes 7.4 us for
 * 64 KiB in the cache where this takes 2.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "ept/checksum.h"

struct ept_sum ept_checksum_avx2(const void *bytes, size_t len)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, len);

	return (struct ept_sum){.low = hash.low64, .high = hash.high64};
}
