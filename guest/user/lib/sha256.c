/* SHA-256. The schedule is kept as a ring of 16 words, computed as the rounds need it. */
#include "guest/user/lib/sha256.h"

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes (4.2.2). */
static const uint32_t round_constant[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline uint32_t rotr(uint32_t x, unsigned n)
{
	return x >> n | x << (32 - n);
}

static inline uint32_t load_be32(const uint8_t *p)
{
	uint32_t v;

	__builtin_memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

/* The word of the schedule for round `t` >= 16 replaces the one of round t - 16. */
static inline uint32_t schedule(uint32_t w[16], unsigned t)
{
	uint32_t w2 = w[(t - 2) % 16];
	uint32_t w15 = w[(t - 15) % 16];
	uint32_t s1 = rotr(w2, 17) ^ rotr(w2, 19) ^ w2 >> 10;
	uint32_t s0 = rotr(w15, 7) ^ rotr(w15, 18) ^ w15 >> 3;

	return w[t % 16] += s1 + w[(t - 7) % 16] + s0;
}

/*
 * One round. s[] is never moved: the working variables a..h of round t are
 * s[(0 - t) % 8] .. s[(7 - t) % 8], which unrolling turns into registers.
 */
static inline __attribute__((always_inline)) void sha_round(uint32_t s[8], unsigned t, uint32_t w)
{
	uint32_t a = s[(0 - t) % 8], b = s[(1 - t) % 8], c = s[(2 - t) % 8];
	uint32_t e = s[(4 - t) % 8], f = s[(5 - t) % 8], g = s[(6 - t) % 8];
	uint32_t sum1 = rotr(e, 6) ^ rotr(e, 11) ^ rotr(e, 25);
	uint32_t sum0 = rotr(a, 2) ^ rotr(a, 13) ^ rotr(a, 22);
	uint32_t t1 = s[(7 - t) % 8] + sum1 + (g ^ (e & (f ^ g))) + round_constant[t] + w;

	s[(3 - t) % 8] += t1;
	s[(7 - t) % 8] = t1 + sum0 + ((a & b) | (c & (a | b)));
}

static void compress(uint32_t state[8], const uint8_t *data)
{
	uint32_t s[8];
	uint32_t w[16];

	for (unsigned i = 0; i < 8; i++)
		s[i] = state[i];
#pragma GCC unroll 16
	for (unsigned t = 0; t < 16; t++) {
		w[t] = load_be32(data + 4 * t);
		sha_round(s, t, w[t]);
	}
#pragma GCC unroll 48
	for (unsigned t = 16; t < 64; t++)
		sha_round(s, t, schedule(w, t));
	for (unsigned i = 0; i < 8; i++)
		state[i] += s[i];
}

void sha256_init(struct sha256 *ctx)
{
	*ctx = (struct sha256){
	    .state = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c,
		      0x1f83d9ab, 0x5be0cd19},
	};
}

void sha256_update(struct sha256 *ctx, const void *data, size_t len)
{
	const uint8_t *p = data;
	size_t held = ctx->len % SHA256_BLOCK;

	ctx->len += len;
	if (held) {
		size_t take = SHA256_BLOCK - held < len ? SHA256_BLOCK - held : len;

		__builtin_memcpy(ctx->block + held, p, take);
		p += take;
		len -= take;
		if (held + take < SHA256_BLOCK)
			return;
		compress(ctx->state, ctx->block);
	}
	for (; len >= SHA256_BLOCK; len -= SHA256_BLOCK, p += SHA256_BLOCK)
		compress(ctx->state, p);
	__builtin_memcpy(ctx->block, p, len);
}

void sha256_final(struct sha256 *ctx, uint8_t digest[SHA256_DIGEST])
{
	uint64_t bits = __builtin_bswap64(ctx->len * 8);
	static const uint8_t pad[SHA256_BLOCK] = {0x80};

	/* One bit set, zeroes up to 56 of a block, then the length in bits (5.1.1). */
	sha256_update(ctx, pad, 1 + (119 - ctx->len % SHA256_BLOCK) % SHA256_BLOCK);
	sha256_update(ctx, &bits, sizeof(bits));
	for (unsigned i = 0; i < 8; i++) {
		uint32_t v = __builtin_bswap32(ctx->state[i]);

		__builtin_memcpy(digest + 4 * i, &v, sizeof(v));
	}
}

void sha256_final_hex(struct sha256 *ctx, char hex[SHA256_HEX])
{
	uint8_t digest[SHA256_DIGEST];

	sha256_final(ctx, digest);
	for (unsigned i = 0; i < SHA256_DIGEST; i++) {
		hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
		hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
	}
	hex[2 * SHA256_DIGEST] = 0;
}

void sha256_hex(const void *data, size_t len, char hex[SHA256_HEX])
{
	struct sha256 ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, data, len);
	sha256_final_hex(&ctx, hex);
}
