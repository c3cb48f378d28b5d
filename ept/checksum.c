#include "ept/checksum.h"

#include <sys/platform/x86.h>
#include <xxhash.h>

/* Longer than this it is worth to ask for a faster way. */
#define LONG 1024

/*
 * libc knows what the processor has. The compiler's __builtin_cpu_supports() would ask it once
 * more, in every process and before main(): seven CPUID, which a host that is a VM pays for
 * with an exit each (23 us).
 */
struct ept_sum ept_checksum(const void *bytes, size_t len)
{
	if (len > LONG && CPU_FEATURE_ACTIVE(AVX2))
		return ept_checksum_avx2(bytes, len);
	XXH128_hash_t hash = XXH3_128bits(bytes, len);

	return (struct ept_sum){.low = hash.low64, .high = hash.high64};
}
