/* Kernel images from hostile hands: a good one, then every way to spoil it. */
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/image.h"

#define RAM_END	  (64UL << 20)
#define LOAD_GPA  0x100000UL
#define LOAD_SIZE 0x1800UL

/* As small as a kernel can be: one note, one segment that starts with its entry. */
struct file {
	Elf64_Ehdr eh;
	Elf64_Phdr load, note;
	Elf64_Nhdr nh;
	char owner[4];
	uint64_t entry;
	char text[LOAD_SIZE];
};

static struct file good(void)
{
	return (struct file){
	    .eh = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			       EV_CURRENT},
		   .e_type = ET_EXEC,
		   .e_machine = EM_X86_64,
		   .e_phoff = offsetof(struct file, load),
		   .e_phentsize = sizeof(Elf64_Phdr),
		   .e_phnum = 2},
	    .load = {.p_type = PT_LOAD,
		     .p_flags = PF_R | PF_X,
		     .p_offset = offsetof(struct file, text),
		     .p_paddr = LOAD_GPA,
		     .p_filesz = LOAD_SIZE,
		     .p_memsz = 2 * LOAD_SIZE},
	    .note = {.p_type = PT_NOTE,
		     .p_offset = offsetof(struct file, nh),
		     .p_filesz = sizeof(Elf64_Nhdr) + 4 + 8},
	    .nh = {.n_namesz = 4, .n_descsz = 8, .n_type = FOAL_PVH_NOTE_TYPE},
	    .owner = "Xen",
	    .entry = LOAD_GPA,
	};
}

static int open_bytes(const void *bytes, size_t len, struct image *image, struct foal_error *err)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC), r;
	char path[32];

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, len), len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*err = (struct foal_error){0};
	r = image_open(image, path, BOOT_AUTO, RAM_END, err);
	close(fd);
	return r;
}

/* What every image that was let in keeps to, whatever its bytes say. */
static void check_contract(const struct image *image)
{
	uint64_t end = FOAL_LEGACY_HOLE_END;

	ck_assert_uint_ge(image->count, 1);
	ck_assert_uint_le(image->count, IMAGE_MAX_SEGMENTS);
	for (unsigned i = 0; i < image->count; i++) {
		const struct image_segment *s = &image->segments[i];

		ck_assert_uint_ge(s->gpa, end);
		ck_assert_uint_le(s->filesz, s->memsz);
		ck_assert_uint_le(s->memsz, RAM_END - s->gpa);
		ck_assert_uint_le(s->offset, image->size);
		ck_assert_uint_le(s->filesz, image->size - s->offset);
		end = s->gpa + s->memsz;
	}
	ck_assert_uint_eq(image_end(image), end);
}

START_TEST(a_good_one)
{
	struct file file = good();
	struct foal_error err;
	struct image image;

	ck_assert_int_eq(open_bytes(&file, sizeof(file), &image, &err), 0);
	check_contract(&image);
	ck_assert_uint_eq(image.entry, LOAD_GPA);
	ck_assert_uint_eq(image.count, 1);
	image_close(&image);
}
END_TEST

START_TEST(cut_short_anywhere)
{
	struct file file = good();

	for (size_t len = 0; len < sizeof(file); len += len < 512 ? 1 : 97) {
		struct foal_error err;
		struct image image;

		ck_assert_int_lt(open_bytes(&file, len, &image, &err), 0);
		ck_assert_int_eq(err.status, FOAL_EXIT_KERNEL);
		ck_assert_int_eq(image.fd, -1);
	}
}
END_TEST

/* Whatever the bytes say: the image keeps to the contract, or is refused with a reason. */
static void sound_or_refused(const struct file *file)
{
	struct foal_error err;
	struct image image;

	if (open_bytes(file, sizeof(*file), &image, &err) == 0)
		check_contract(&image);
	else
		ck_assert_int_ne(err.status, 0);
	image_close(&image);
}

/* Each byte of the headers, with each of the values that tend to hurt. */
START_TEST(any_byte_of_the_headers)
{
	static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};

	for (size_t at = 0; at < offsetof(struct file, text); at++)
		for (size_t v = 0; v < sizeof(values); v++) {
			struct file file = good();

			((unsigned char *)&file)[at] = values[v];
			sound_or_refused(&file);
		}
}
END_TEST

/* The fields that are sizes and addresses, at the edges of their type. */
START_TEST(extreme_sizes)
{
	static const uint64_t values[] = {
	    0,
	    1,
	    4096,
	    RAM_END - 1,
	    RAM_END,
	    RAM_END + 1,
	    (uint64_t)1 << 63,
	    UINT64_MAX - 1,
	    UINT64_MAX,
	};
	static const size_t fields[] = {
	    offsetof(struct file, eh.e_phoff),	  offsetof(struct file, load.p_offset),
	    offsetof(struct file, load.p_paddr),  offsetof(struct file, load.p_filesz),
	    offsetof(struct file, load.p_memsz),  offsetof(struct file, note.p_offset),
	    offsetof(struct file, note.p_filesz),
	};

	for (size_t f = 0; f < sizeof(fields) / sizeof(fields[0]); f++)
		for (size_t v = 0; v < sizeof(values) / sizeof(values[0]); v++) {
			struct file file = good();

			memcpy((char *)&file + fields[f], &values[v], sizeof(values[v]));
			sound_or_refused(&file);
		}
}
END_TEST

/* A segment may end where RAM ends, and not one byte behind. */
START_TEST(the_end_of_ram)
{
	struct file file = good();
	struct foal_error err;
	struct image image;

	file.load.p_memsz = RAM_END - LOAD_GPA;
	ck_assert_int_eq(open_bytes(&file, sizeof(file), &image, &err), 0);
	image_close(&image);
	file.load.p_memsz++;
	ck_assert_int_lt(open_bytes(&file, sizeof(file), &image, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_MEMORY);
}
END_TEST

Suite *image_suite(void)
{
	Suite *suite = suite_create("kernel image");
	TCase *tc = tcase_create("image");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_good_one);
	tcase_add_test(tc, cut_short_anywhere);
	tcase_add_test(tc, any_byte_of_the_headers);
	tcase_add_test(tc, extreme_sizes);
	tcase_add_test(tc, the_end_of_ram);
	suite_add_tcase(suite, tc);
	return suite;
}
