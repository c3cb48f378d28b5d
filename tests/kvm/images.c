/* Kernels that are no kernels: made by changing a good one. */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* A good kernel in memory, to be damaged. */
struct kernel {
	unsigned char *data;
	size_t len;
	Elf64_Ehdr *header;
	Elf64_Phdr *segments; /* 0: the note; 1: text; 2: constants; 3: data */
	uint32_t *note;	      /* name size, description size, type, name, entry */
};

static void load(struct kernel *k)
{
	k->data = read_file(guest_path("exit.elf"), &k->len);
	k->header = (Elf64_Ehdr *)k->data;
	k->segments = (Elf64_Phdr *)(k->data + k->header->e_phoff);
	ck_assert_uint_eq(k->segments[0].p_type, PT_NOTE);
	ck_assert_uint_eq(k->segments[1].p_type, PT_LOAD);
	k->note = (uint32_t *)(k->data + k->segments[0].p_offset);
}

static void run_damaged(struct run *run, struct kernel *k, const char *limit)
{
	const char *path = scratch("damaged.elf");

	write_file(path, k->data, k->len);
	run_foal(run, ARGS("--kernel", path, "--boot", "pvh", "--time-limit", limit));
}

static void cut_header(struct kernel *k)
{
	k->len = 40;
}

static void cut_segments(struct kernel *k)
{
	k->len = k->header->e_phoff + 100;
}

static void cut_data(struct kernel *k)
{
	k->len = k->segments[3].p_offset + 100;
}

static void no_magic(struct kernel *k)
{
	k->data[0] = 'X';
}

static void garbage(struct kernel *k)
{
	for (size_t i = 0; i < k->len; i++)
		k->data[i] = (unsigned char)(i * 7919 >> 3);
}

static void class_32(struct kernel *k)
{
	k->header->e_ident[EI_CLASS] = ELFCLASS32;
}

static void big_endian(struct kernel *k)
{
	k->header->e_ident[EI_DATA] = ELFDATA2MSB;
}

static void other_machine(struct kernel *k)
{
	k->header->e_machine = EM_AARCH64;
}

static void no_segments(struct kernel *k)
{
	k->header->e_phnum = 0;
}

static void segments_far_off(struct kernel *k)
{
	k->header->e_phoff = ~0UL - 10;
}

static void segments_behind_the_end(struct kernel *k)
{
	k->header->e_phoff = k->len - 8;
}

static void short_entries(struct kernel *k)
{
	k->header->e_phentsize = 1;
}

static void nothing_to_load(struct kernel *k)
{
	for (unsigned i = 1; i < k->header->e_phnum; i++)
		k->segments[i].p_type = PT_NULL;
}

static void no_note(struct kernel *k)
{
	k->segments[0].p_type = PT_NULL;
}

static void other_note(struct kernel *k)
{
	k->note[2] = 17;
}

static void endless_note(struct kernel *k)
{
	k->note[0] = ~0u;
}

static void huge_note(struct kernel *k)
{
	k->segments[0].p_filesz = ~0UL;
}

static void entry_outside(struct kernel *k)
{
	k->note[4] = 0x10;
}

static void segment_low(struct kernel *k)
{
	k->segments[1].p_paddr = 0x6000;
}

static void segment_outside_memory(struct kernel *k)
{
	k->segments[3].p_paddr = 1UL << 30;
}

static void segment_wraps(struct kernel *k)
{
	k->segments[3].p_paddr = ~0xfffUL;
}

static void segment_endless(struct kernel *k)
{
	k->segments[3].p_memsz = ~0UL;
}

static void segment_larger_in_file(struct kernel *k)
{
	k->segments[1].p_filesz = k->segments[1].p_memsz + 1;
}

static void segment_behind_the_end(struct kernel *k)
{
	k->segments[3].p_offset = ~0xfffUL;
}

static void segments_overlap(struct kernel *k)
{
	k->segments[2].p_paddr = k->segments[1].p_paddr + 16;
}

static void segments_descend(struct kernel *k)
{
	k->segments[3].p_paddr = k->segments[1].p_paddr;
	k->segments[1].p_paddr += 64 << 20;
}

static const struct {
	void (*damage)(struct kernel *k);
	int status;
	const char *words;
} damages[] = {
    {cut_header, 102, "cut short"},
    {cut_segments, 102, "cut short"},
    {cut_data, 102, "cut short"},
    {no_magic, 102, "neither a bzImage"},
    {garbage, 102, "neither a bzImage"},
    {class_32, 102, "not a 64-bit x86 kernel"},
    {big_endian, 102, "not a 64-bit x86 kernel"},
    {other_machine, 102, "not a 64-bit x86 kernel"},
    {no_segments, 102, "no program headers"},
    {segments_far_off, 102, "cut short"},
    {segments_behind_the_end, 102, "cut short"},
    {short_entries, 102, "no program headers"},
    {nothing_to_load, 102, "nothing to load"},
    {no_note, 102, "no PVH entry point"},
    {other_note, 102, "no PVH entry point"},
    {endless_note, 102, "no PVH entry point"},
    {huge_note, 102, "its notes are too long"},
    {entry_outside, 102, "entry point lies outside"},
    {segment_low, 102, "below 1 MiB"},
    {segment_outside_memory, 104, "does not fit"},
    {segment_wraps, 104, "does not fit"},
    {segment_endless, 104, "does not fit"},
    {segment_larger_in_file, 102, "larger in the file than in memory"},
    {segment_behind_the_end, 102, "cut short"},
    {segments_overlap, 102, "overlap or are not in ascending order"},
    {segments_descend, 102, "overlap or are not in ascending order"},
};

START_TEST(damaged)
{
	struct run run;
	struct kernel k;

	load(&k);
	damages[_i].damage(&k);
	run_damaged(&run, &k, GUEST_LIMIT);
	expect_end(&run, damages[_i].status, damages[_i].words);
	run_free(&run);
	free(k.data);
}
END_TEST

/* Segments that share a page, begin and end inside one, or leave a hole: all legal. */
START_TEST(ragged_segments)
{
	struct run run;
	struct kernel k;

	load(&k);
	/* Text in two parts that meet inside its first page; an empty segment gives its entry.
	 */
	Elf64_Phdr *text = &k.segments[1];
	Elf64_Phdr first = *text, second = *text;
	first.p_filesz = first.p_memsz = 0x123;
	second.p_offset += 0x123;
	second.p_paddr += 0x123;
	second.p_filesz = second.p_memsz -= 0x123;
	memmove(&k.segments[3], &k.segments[2], 2 * sizeof(*text));
	k.segments[1] = first;
	k.segments[2] = second;
	run_damaged(&run, &k, GUEST_LIMIT);
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	run_free(&run);
	free(k.data);
}
END_TEST

/* Small and the same everywhere, so that a failure can be repeated by its round. */
static unsigned noise(unsigned *state)
{
	*state = *state * 1103515245 + 12345;
	return *state >> 8;
}

#define ROUNDS	     300
#define ROUNDS_A_RUN 30

/*
 * Headers, note and text with a few bits flipped: foal ends with a status it
 * documents, never by a signal, and the guest may do what it likes.
 */
START_TEST(flipped_bits)
{
	for (unsigned round = (unsigned)_i * ROUNDS_A_RUN;
	     round < (unsigned)(_i + 1) * ROUNDS_A_RUN; round++) {
		struct run run;
		struct kernel k;
		unsigned state = round;

		load(&k);
		size_t note = k.segments[0].p_offset, text = k.segments[1].p_offset;
		for (unsigned n = 1 + round % 3; n > 0; n--) {
			size_t at = noise(&state) % 600;
			/* 64 + 6 * 56 bytes of headers, then 20 of the note, then text. */
			at = at < 400 ? at : at < 420 ? note + at - 400 : text + at - 420;
			k.data[at] ^= (unsigned char)(1 << noise(&state) % 8);
		}
		run_damaged(&run, &k, "1");
		ck_assert_msg((run.status >= 0 && run.status < 111) && run.status != 110,
			      "round %u: status %d: %s", round, run.status, run.err_text);
		ck_assert_msg(run.status < 100 || foal_lines(&run) > 0,
			      "round %u: status %d without a line", round, run.status);
		run_free(&run);
		free(k.data);
	}
}
END_TEST

Suite *images_suite(void)
{
	Suite *suite = suite_create("images");
	TCase *tc = tcase_create("images");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, damaged, 0, sizeof(damages) / sizeof(damages[0]));
	tcase_add_test(tc, ragged_segments);
	tcase_add_loop_test(tc, flipped_bits, 0, ROUNDS / ROUNDS_A_RUN);
	suite_add_tcase(suite, tc);
	return suite;
}
