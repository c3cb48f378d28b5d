#include "ept/checksum.h"

#include <xxhash.h>

/* Longer than this it is worth to ask for a faster way. */
#define LONG 1024

struct ept_sum ept_checksum(const void *bytes, size_t len)
{
	if (len > LONG && __builtin_cpu_supports("avx2"))
		return ept_checksum_avx2(bytes, len);
	XXH128_hash_t hash = XXH3_128bits(bytes, len);

	return (struct ept_sum){.low = hash.low64, .high = hash.high64};
}
