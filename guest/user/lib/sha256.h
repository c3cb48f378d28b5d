/*
 * SHA-256 (FIPS 180-4, section 6.2), in plain C. Whole blocks are taken from the
 * caller's memory as they lie, so summing a mapping touches each page once, in
 * order, and copies nothing.
 */
#ifndef FOAL_USER_SHA256_H
#define FOAL_USER_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_BLOCK = 64, SHA256_DIGEST = 32, SHA256_HEX = 65 };

struct sha256 {
	uint32_t state[8];
	uint64_t len; /* bytes taken so far; the last len % 64 wait in `block` */
	uint8_t block[SHA256_BLOCK];
};

void sha256_init(struct sha256 *ctx);
void sha256_update(struct sha256 *ctx, const void *data, size_t len);
/* Ends the message; `ctx` needs sha256_init before it is used again. */
void sha256_final(struct sha256 *ctx, uint8_t digest[SHA256_DIGEST]);

/* The digest in hexadecimal with an ending zero: of what `ctx` took, or of `data`. */
void sha256_final_hex(struct sha256 *ctx, char hex[SHA256_HEX]);
void sha256_hex(const void *data, size_t len, char hex[SHA256_HEX]);

#endif
