/* bzImages from hostile hands: a good one, then every way to spoil its setup header. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/image.h"

#define RAM_END	    (64UL << 20)
#define SETUP_SECTS 2
#define OFFSET	    ((1 + SETUP_SECTS) * 512UL)
#define KERNEL	    0x3000UL
#define INIT_SIZE   0x8000UL
#define PREFERRED   0x1000000UL
#define HEADER	    offsetof(struct boot_params, hdr)

static unsigned char file[OFFSET + KERNEL];

static struct setup_header *good(void)
{
	struct setup_header hdr = {
	    .setup_sects = SETUP_SECTS,
	    .syssize = KERNEL / 16,
	    .boot_flag = 0xaa55,
	    .header = 0x53726448,
	    .version = 0x20f,
	    .loadflags = LOADED_HIGH,
	    .initrd_addr_max = 0x7fffffff,
	    .kernel_alignment = 0x200000,
	    .relocatable_kernel = 1,
	    .xloadflags = XLF_KERNEL_64,
	    .cmdline_size = 2047,
	    .payload_offset = 0x1000,
	    .payload_length = 0x1000,
	    .pref_address = PREFERRED,
	    .init_size = INIT_SIZE,
	};

	memset(file, 0, sizeof(file));
	memcpy(file + HEADER, &hdr, sizeof(hdr));
	return (struct setup_header *)(file + HEADER);
}

static int open_as(size_t len, enum boot_protocol boot, uint64_t ram_end, struct image *image,
		   struct foal_error *err)
{
	int fd = memfd_create("kernel", MFD_CLOEXEC), r;
	char path[32];

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, file, len), len);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	*err = (struct foal_error){0};
	r = image_open(image, path, boot, ram_end, err);
	close(fd);
	return r;
}

static int open_file(struct image *image, struct foal_error *err)
{
	return open_as(sizeof(file), BOOT_AUTO, RAM_END, image, err);
}

/* What every bzImage that was let in keeps to, whatever its bytes say. */
static void check_contract(const struct image *image, uint64_t ram_end)
{
	const struct image_segment *s = &image->segments[0];

	ck_assert_uint_eq(image->count, 1);
	ck_assert_int_eq(image->boot, BOOT_LINUX64);
	ck_assert_uint_ge(s->gpa, FOAL_LEGACY_HOLE_END);
	ck_assert_uint_le(s->gpa, ram_end);
	ck_assert_uint_le(s->memsz, ram_end - s->gpa);
	ck_assert_uint_le(s->filesz, s->memsz);
	ck_assert_uint_le(s->offset, image->size);
	ck_assert_uint_le(s->filesz, image->size - s->offset);
	ck_assert_uint_gt(image->entry, s->gpa);
	ck_assert_uint_lt(image->entry, s->gpa + s->filesz);
	ck_assert_uint_le(image->initrd_end, ram_end);
	ck_assert_uint_lt(image->cmdline_max, FOAL_CMDLINE_MAX);
}

START_TEST(a_good_one)
{
	struct foal_error err;
	struct image image;

	good();
	ck_assert_int_eq(open_file(&image, &err), 0);
	check_contract(&image, RAM_END);
	ck_assert_uint_eq(image.segments[0].gpa, PREFERRED);
	ck_assert_uint_eq(image.segments[0].offset, OFFSET);
	ck_assert_uint_eq(image.segments[0].filesz, KERNEL);
	ck_assert_uint_eq(image.segments[0].memsz, INIT_SIZE);
	ck_assert_uint_eq(image.entry, PREFERRED + 0x200);
	ck_assert_uint_eq(image.initrd_end, RAM_END);
	ck_assert_uint_eq(image.cmdline_max, 2047);
	image_close(&image);
}
END_TEST

/* setup_sects = 0 means 4, an old habit. */
START_TEST(default_sectors)
{
	struct setup_header *hdr = good();
	struct foal_error err;
	struct image image;

	hdr->setup_sects = 0;
	hdr->syssize = (sizeof(file) - 5 * 512) / 16;
	ck_assert_int_eq(open_file(&image, &err), 0);
	ck_assert_uint_eq(image.segments[0].offset, 5 * 512);
	image_close(&image);
}
END_TEST

/* Where RAM ends below the address it was built for, a relocatable kernel moves down. */
START_TEST(where_it_goes)
{
	struct setup_header *hdr = good();
	struct foal_error err;
	struct image image;
	uint64_t small = 4UL << 20;

	ck_assert_int_eq(open_as(sizeof(file), BOOT_AUTO, small, &image, &err), 0);
	check_contract(&image, small);
	ck_assert_uint_eq(image.segments[0].gpa, 0x200000);
	image_close(&image);
	hdr->relocatable_kernel = 0;
	ck_assert_int_lt(open_as(sizeof(file), BOOT_AUTO, small, &image, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_MEMORY);
}
END_TEST

/* All the memory that its decompressor needs has to be there, and not one byte more. */
START_TEST(the_end_of_ram)
{
	struct foal_error err;
	struct image image;

	good()->relocatable_kernel = 0;
	ck_assert_int_eq(open_as(sizeof(file), BOOT_AUTO, PREFERRED + INIT_SIZE, &image, &err), 0);
	image_close(&image);
	ck_assert_int_lt(open_as(sizeof(file), BOOT_AUTO, PREFERRED + INIT_SIZE - 1, &image, &err),
			 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_MEMORY);
}
END_TEST

START_TEST(initrd_limit)
{
	struct setup_header *hdr = good();
	struct foal_error err;
	struct image image;

	hdr->initrd_addr_max = 0x1ffffff;
	ck_assert_int_eq(open_file(&image, &err), 0);
	ck_assert_uint_eq(image.initrd_end, 0x2000000);
	image_close(&image);
	hdr->initrd_addr_max = UINT32_MAX;
	ck_assert_int_eq(open_file(&image, &err), 0);
	ck_assert_uint_eq(image.initrd_end, RAM_END);
	image_close(&image);
}
END_TEST

static void too_old(struct setup_header *hdr)
{
	hdr->version = 0x20b;
}

static void only_32_bit(struct setup_header *hdr)
{
	hdr->xloadflags = 0;
}

static void loaded_low(struct setup_header *hdr)
{
	hdr->loadflags = 0;
}

static void all_setup(struct setup_header *hdr)
{
	hdr->setup_sects = 255;
}

static void promises_more(struct setup_header *hdr)
{
	hdr->syssize = KERNEL / 16 + 1;
}

static void payload_behind(struct setup_header *hdr)
{
	hdr->payload_offset = KERNEL + 1;
}

static void payload_too_long(struct setup_header *hdr)
{
	hdr->payload_length = KERNEL - 0x1000 + 1;
}

static void payload_wraps(struct setup_header *hdr)
{
	hdr->payload_length = UINT32_MAX;
}

static void odd_alignment(struct setup_header *hdr)
{
	hdr->kernel_alignment = 0x300000;
}

static void no_cmdline(struct setup_header *hdr)
{
	hdr->cmdline_size = 0;
}

static void no_magic(struct setup_header *hdr)
{
	hdr->header = 0;
}

static void preferred_below_1m(struct setup_header *hdr)
{
	hdr->relocatable_kernel = 0;
	hdr->pref_address = 0x10000;
}

static const struct {
	void (*spoil)(struct setup_header *hdr);
	const char *says;
} spoilt[] = {
    {too_old, "older than 2.12"},	   {only_32_bit, "no 64-bit entry point"},
    {loaded_low, "no 64-bit entry point"}, {all_setup, "cut short"},
    {promises_more, "cut short"},	   {payload_behind, "outside of it"},
    {payload_too_long, "outside of it"},   {payload_wraps, "outside of it"},
    {odd_alignment, "no power of two"},	   {no_cmdline, "no command line"},
    {no_magic, "neither a bzImage"},	   {preferred_below_1m, "below 1 MiB"},
};

START_TEST(spoilt_header)
{
	struct foal_error err;
	struct image image;

	spoilt[_i].spoil(good());
	ck_assert_int_lt(open_file(&image, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_KERNEL);
	ck_assert_msg(strstr(err.text, spoilt[_i].says) != NULL, "%s", err.text);
	ck_assert_int_eq(image.fd, -1);
}
END_TEST

START_TEST(no_pvh)
{
	struct foal_error err;
	struct image image;

	good();
	ck_assert_int_lt(open_as(sizeof(file), BOOT_PVH, RAM_END, &image, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.text, "no PVH entry point"));
	ck_assert_int_eq(open_as(sizeof(file), BOOT_LINUX64, RAM_END, &image, &err), 0);
	image_close(&image);
}
END_TEST

START_TEST(cut_short_anywhere)
{
	struct foal_error err;
	struct image image;

	good();
	for (size_t len = 0; len < sizeof(file); len += len < 0x300 ? 1 : 97) {
		ck_assert_int_lt(open_as(len, BOOT_AUTO, RAM_END, &image, &err), 0);
		ck_assert_int_eq(err.status, FOAL_EXIT_KERNEL);
		ck_assert_int_eq(image.fd, -1);
	}
}
END_TEST

/* Each byte of the header, with each of the values that tend to hurt. */
START_TEST(any_byte_of_the_header)
{
	static const unsigned char values[] = {0, 1, 0x7f, 0x80, 0xff};

	for (size_t at = HEADER; at < HEADER + sizeof(struct setup_header); at++)
		for (size_t v = 0; v < sizeof(values); v++) {
			struct foal_error err;
			struct image image;

			good();
			file[at] = values[v];
			if (open_file(&image, &err) == 0)
				check_contract(&image, RAM_END);
			else
				ck_assert_int_ne(err.status, 0);
			image_close(&image);
		}
}
END_TEST

Suite *bzimage_suite(void)
{
	Suite *suite = suite_create("bzImage");
	TCase *tc = tcase_create("bzImage");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_good_one);
	tcase_add_test(tc, default_sectors);
	tcase_add_test(tc, where_it_goes);
	tcase_add_test(tc, the_end_of_ram);
	tcase_add_test(tc, initrd_limit);
	tcase_add_loop_test(tc, spoilt_header, 0, sizeof(spoilt) / sizeof(spoilt[0]));
	tcase_add_test(tc, no_pvh);
	tcase_add_test(tc, cut_short_anywhere);
	tcase_add_test(tc, any_byte_of_the_header);
	suite_add_tcase(suite, tc);
	return suite;
}
