/* States that are not what this host or this machine can load: refused, in one line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "devices/state.h"
#include "tests/restore/life.h"

#define HEADER	 24
#define RECORD	 24
#define CHECKSUM 16
#define FLIPS	 150u

static struct life life;
static uint8_t *bytes;
static size_t len;
static char line[480];

static void begin(char *cpus)
{
	life_begin(&life, (char *[]){"--kernel", "build/tests/guests/lives.elf", "--memory", "32M",
				     "--cpus", cpus, "--rng", "on", "--append", "cpus=1", NULL});
	life_save(&life, &bytes, &len);
}

static void end(void)
{
	free(bytes);
	life_leave(&life);
}

static void seal(void)
{
	XXH128_canonical_t sum;

	XXH128_canonicalFromHash(&sum, XXH3_128bits(bytes, len - CHECKSUM));
	memcpy(bytes + len - CHECKSUM, &sum, sizeof(sum));
}

static void expect_line(const char *part)
{
	life_try(&life, bytes, len, line);
	ck_assert_msg(strstr(line, part) != NULL, "\"%s\" is not in: %s", part, line);
}

/* The saved entry of a leaf of CPUID: function, index, flags, eax, ebx, ecx, edx. */
static uint8_t *leaf(uint32_t function)
{
	uint8_t *at = bytes + HEADER + RECORD + 8 + 4; /* behind two counts */
	uint32_t nr, found;

	memcpy(&nr, at - 4, 4);
	for (; nr-- > 0; at += 28) {
		memcpy(&found, at, 4);
		if (found == function)
			return at;
	}
	ck_abort_msg("no leaf 0x%x", function);
}

static void change(uint8_t *at, uint32_t xor)
{
	uint32_t value;

	memcpy(&value, at, 4);
	value ^= xor;
	memcpy(at, &value, 4);
	seal();
}

START_TEST(features_that_lack)
{
	if (!have_kvm())
		return;
	begin("1");
	life_try(&life, bytes, len, line);
	ck_assert_str_eq(line, "");
	/* Bit 30 of leaf 1's edx, ia64: no host has it. */
	change(leaf(1) + 24, 1u << 30);
	expect_line("cpuid 0: the guest was told of the processor feature ia64, which this host "
		    "lacks");
	change(leaf(1) + 24, 1u << 30);
	change(leaf(0) + 16, 1);
	expect_line("a processor of another maker");
	change(leaf(0) + 16, 1);
	change(leaf(0x80000008) + 12, 0x40);
	expect_line("it has physical addresses of");
	change(leaf(0x80000008) + 12, 0x40);
	life_try(&life, bytes, len, line);
	ck_assert_str_eq(line, "");
	end();
}
END_TEST

/* KVM would tell the guest of one of them, and the other be looked at. */
START_TEST(leaves_twice)
{
	const uint32_t spare = 0x80000002; /* the processor's name: every host has it */
	uint8_t *at;

	if (!have_kvm())
		return;
	begin("1");
	at = leaf(spare);
	change(at, spare ^ 1);
	expect_line("cpuid 0: leaf 0x1, index 0, is there twice");
	change(at + 4, 5); /* which means nothing without its flag */
	expect_line("cpuid 0: leaf 0x1, index 5, is there twice");
	change(at + 8, 1);
	expect_line("cpuid 0: leaf 0x1, index 5, is there twice");
	change(at + 8, 1);
	change(at, spare ^ 1);
	expect_line("cpuid 0: leaf 0x80000002 has no index, and is said to have 5");
	change(at + 4, 5);
	life_try(&life, bytes, len, line);
	ck_assert_str_eq(line, "");
	end();
}
END_TEST

START_TEST(another_machine)
{
	if (!have_kvm())
		return;
	begin("2");
	life.opt.cpus = 1;
	expect_line("the number of vCPUs was 2, and is 1 here");
	life.opt.cpus = 3;
	expect_line("the number of vCPUs was 2, and is 3 here");
	life.opt.cpus = 2;
	life.opt.rng = false;
	expect_line("the number of virtio devices was 1, and is 0 here");
	life.opt.rng = true;
	life.opt.pci = true;
	expect_line("record");
	life.opt.pci = false;
	life.opt.balloon = true;
	expect_line("the number of virtio devices was 1, and is 2 here");
	end();
}
END_TEST

/* Whoever made the checksum, too: refused, or a VM that runs or ends, and nothing else. */
START_TEST(hostile)
{
	unsigned taken = 0;

	if (!have_kvm())
		return;
	begin("1");
	for (unsigned i = 0; i < FLIPS; i++) {
		size_t bit = (HEADER + (size_t)rand() % (len - HEADER - CHECKSUM)) * 8;

		bit += (unsigned)rand() % 8;
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		seal();
		life_try(&life, bytes, len, line);
		taken += line[0] == 0;
		bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	printf("%u of %u were taken\n", taken, FLIPS);
	end();
}
END_TEST

Suite *refused_suite(void)
{
	Suite *suite = suite_create("refused");
	TCase *tc = tcase_create("refused");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, features_that_lack);
	tcase_add_test(tc, leaves_twice);
	tcase_add_test(tc, another_machine);
	tcase_add_test(tc, hostile);
	suite_add_tcase(suite, tc);
	return suite;
}
