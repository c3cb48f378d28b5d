/* SHA-256 against the vectors of FIPS 180-4's examples, and against itself in pieces. */
#include "guest/user/lib/sha256.h"
#include "tests/guest/fs_test.h"
#include <stdlib.h>
#include <string.h>

START_TEST(known_digests)
{
	static const struct {
		const char *text, *hex;
	} vectors[] = {
	    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	};
	char hex[SHA256_HEX];

	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		sha256_hex(vectors[i].text, strlen(vectors[i].text), hex);
		ck_assert_str_eq(hex, vectors[i].hex);
	}
}
END_TEST

START_TEST(a_million_letters)
{
	char *text = malloc(1000000);
	char hex[SHA256_HEX];

	memset(text, 'a', 1000000);
	sha256_hex(text, 1000000, hex);
	ck_assert_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(text);
}
END_TEST

/* Every way to cut 200 bytes in two gives the same digest, and every length is padded right. */
START_TEST(pieces)
{
	uint8_t text[200];
	char whole[SHA256_HEX], cut[SHA256_HEX];

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (uint8_t)(i * 7);
	for (size_t len = 0; len <= sizeof(text); len += 5) {
		sha256_hex(text, len, whole);
		for (size_t at = 0; at <= len; at++) {
			struct sha256 ctx;

			sha256_init(&ctx);
			sha256_update(&ctx, text, at);
			sha256_update(&ctx, text + at, len - at);
			sha256_final_hex(&ctx, cut);
			ck_assert_str_eq(cut, whole);
		}
	}
}
END_TEST

Suite *sha256_suite(void)
{
	Suite *s = suite_create("guest sha256");
	TCase *tc = tcase_create("sha256");

	tcase_add_test(tc, known_digests);
	tcase_add_test(tc, a_million_letters);
	tcase_add_test(tc, pieces);
	suite_add_tcase(s, tc);
	return s;
}
