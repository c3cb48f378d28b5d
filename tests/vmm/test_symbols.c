/* Names of a guest's code out of an ELF file, and files that are none or lie. */
#include <check.h>
#include <elf.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/kvm_sums.h"

#define TEXT UINT64_C(0xffffffff81000000)
#define SIZE 0x1000U

static const char strings[] = "\0early\0work\0alias\0data\0bad\nname";

enum { NONE, CODE, DATA, TABLE, NAMES, NR_SECTIONS };

static struct file {
	Elf64_Ehdr head;
	Elf64_Shdr sections[NR_SECTIONS];
	Elf64_Sym syms[9];
	char names[sizeof(strings)];
} file;

static Elf64_Sym symbol(unsigned name, uint64_t at, uint64_t size, unsigned type, uint16_t section)
{
	return (Elf64_Sym){.st_name = name,
			   .st_value = TEXT + at,
			   .st_size = size,
			   .st_info = ELF64_ST_INFO(STB_GLOBAL, type),
			   .st_shndx = section};
}

static void make_file(void)
{
	file = (struct file){
	    .head = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB},
		     .e_machine = EM_X86_64,
		     .e_shoff = offsetof(struct file, sections),
		     .e_shentsize = sizeof(Elf64_Shdr),
		     .e_shnum = NR_SECTIONS},
	    .sections = {[CODE] = {.sh_type = SHT_PROGBITS,
				   .sh_flags = SHF_EXECINSTR,
				   .sh_addr = TEXT,
				   .sh_size = SIZE},
			 [DATA] = {.sh_type = SHT_PROGBITS,
				   .sh_addr = TEXT + SIZE,
				   .sh_size = SIZE},
			 [TABLE] = {.sh_type = SHT_SYMTAB,
				    .sh_offset = offsetof(struct file, syms),
				    .sh_size = sizeof(file.syms),
				    .sh_link = NAMES},
			 [NAMES] = {.sh_type = SHT_STRTAB,
				    .sh_offset = offsetof(struct file, names),
				    .sh_size = sizeof(strings)}},
	    /* In no order; a label without a size, one of data, one whose name is none. */
	    .syms = {[1] = symbol(7, 0x100, 0x80, STT_FUNC, CODE),
		     [2] = symbol(1, 0x10, 0, STT_NOTYPE, CODE),
		     [3] = symbol(12, 0x100, 0x40, STT_FUNC, CODE),
		     [4] = symbol(18, 0x200, 8, STT_OBJECT, CODE),
		     [5] = symbol(23, 0x300, 8, STT_FUNC, CODE),
		     [6] = symbol(7, SIZE, 8, STT_FUNC, CODE),
		     [7] = symbol(7, 0x400, 8, STT_FUNC, SHN_ABS),
		     [8] = symbol(18, SIZE + 0x200, 0, STT_NOTYPE, DATA)}};
	memcpy(file.names, strings, sizeof(strings));
}

static const char *put_file(size_t len)
{
	const char *path = scratch("vmlinux");
	FILE *out = fopen(path, "we");

	ck_assert_uint_eq(fwrite(&file, 1, len, out), len);
	fclose(out);
	return path;
}

static struct symbols *open_file(void)
{
	struct symbols *symbols = NULL;
	struct foal_error err = {0};

	make_file();
	ck_assert_msg(symbols_open(put_file(sizeof(file)), &symbols, &err) == 0, "%s", err.text);
	return symbols;
}

static const struct {
	uint64_t address, offset;
	const char *name; /* NULL: none */
} places[] = {
    {TEXT, 0, NULL},
    {TEXT + 0xf, 0, NULL},
    {TEXT + 0x10, 0, "early"},
    {TEXT + 0xff, 0xef, "early"},
    {TEXT + 0x100, 0, "work"},
    {TEXT + 0x17f, 0x7f, "work"},
    {TEXT + 0x180, 0, NULL},
    {TEXT + 0x200, 0, NULL},
    {TEXT + 0x300, 0, NULL},
    {TEXT + 0x400, 0, NULL},
    {TEXT + SIZE, 0, NULL},
    {TEXT + SIZE + 0x200, 0, NULL},
    {0, 0, NULL},
    {UINT64_MAX, 0, NULL},
};

START_TEST(found)
{
	struct symbols *symbols = open_file();

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		uint64_t offset = 0;
		const char *name = symbols_find(symbols, places[i].address, &offset);
		ck_assert_pstr_eq(name, places[i].name);
		ck_assert_uint_eq(offset, places[i].offset);
	}
	symbols_free(symbols);
	ck_assert_ptr_null(symbols_find(NULL, TEXT, &(uint64_t){0}));
}
END_TEST

/* What foal trace says of RIPs: the one that faults most by its name, others by number alone. */
START_TEST(name_rips)
{
	static struct trace_area ram = {.name = "ram", .file = "", .gpa = 0, .size = SIZE};
	const struct trace_meta meta = {.areas = &ram, .nr_areas = 1};
	const struct trace_kvm_told told = {.counts = {.exits = 1, .entries = 1}};
	struct kvm_sums *sums = calloc(1, sizeof(*sums));
	struct symbols *symbols = open_file();

	sums->told = &told;
	sums->rips.symbols = symbols;
	kvm_sums_add(sums, &meta, &(struct kvm_fault){.rip = 0x1234});
	for (int i = 0; i < 2; i++)
		kvm_sums_add(sums, &meta, &(struct kvm_fault){.rip = TEXT + 0x123});
	json_t *json = kvm_sums_json(sums);
	const json_t *rips = json_object_get(json_object_get(json, "tracepoints"), "rips");
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(rips, 0), "symbol")),
			 "work+0x23");
	ck_assert(json_is_null(json_object_get(json_array_get(rips, 1), "symbol")));
	json_decref(json);
	symbols_free(symbols);
	free(sums);
}
END_TEST

static void refused(const char *path, const char *words)
{
	struct symbols *symbols = NULL;
	struct foal_error err = {0};

	ck_assert_int_lt(symbols_open(path, &symbols, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_TRACE);
	ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
}

START_TEST(none)
{
	make_file();
	refused("/nonexistent", "No such file");
	refused("/dev/null", "not a regular file");
	refused(put_file(sizeof(file.head) - 1), "not an ELF file");
	refused(put_file(offsetof(struct file, syms) - 1), "cut short");
	refused(put_file(sizeof(file) - 20), "cut short");
	file.head.e_ident[0] = 'x';
	refused(put_file(sizeof(file)), "not an ELF file");
}
END_TEST

START_TEST(lies)
{
	make_file();
	file.sections[TABLE].sh_offset = UINT64_MAX;
	refused(put_file(sizeof(file)), "cut short");
	make_file();
	file.sections[NAMES].sh_size = UINT64_MAX;
	refused(put_file(sizeof(file)), "cut short");
	make_file();
	file.sections[TABLE].sh_link = NR_SECTIONS;
	refused(put_file(sizeof(file)), "no names");
	make_file();
	file.head.e_shoff = UINT64_MAX - 8;
	refused(put_file(sizeof(file)), "cut short");
	make_file();
	file.head.e_shnum = 0;
	refused(put_file(sizeof(file)), "no sections");
	make_file();
	file.sections[TABLE].sh_type = SHT_NULL;
	refused(put_file(sizeof(file)), "stripped");
	make_file();
	file.head.e_machine = EM_AARCH64;
	refused(put_file(sizeof(file)), "64-bit x86");
}
END_TEST

/* Any byte wrong, in what says where things are: refused, or names that can be shown. */
START_TEST(any_byte)
{
	for (size_t at = 0; at < offsetof(struct file, names); at++) {
		struct symbols *symbols = NULL;
		struct foal_error err = {0};
		uint64_t offset;

		make_file();
		((unsigned char *)&file)[at] ^= 0xff;
		if (symbols_open(put_file(sizeof(file)), &symbols, &err) == 0)
			for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
				const char *name =
				    symbols_find(symbols, places[i].address, &offset);
				ck_assert(!name || (*name && !strchr(name, '\n')));
			}
		symbols_free(symbols);
	}
}
END_TEST

Suite *symbols_suite(void)
{
	Suite *suite = suite_create("symbols");
	TCase *tc = tcase_create("symbols");

	tcase_add_test(tc, found);
	tcase_add_test(tc, name_rips);
	tcase_add_test(tc, none);
	tcase_add_test(tc, lies);
	tcase_add_test(tc, any_byte);
	suite_add_tcase(suite, tc);
	return suite;
}
