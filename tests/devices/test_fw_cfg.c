/* fw_cfg as firmware reads it, and as a hostile guest does. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/fw_cfg.h"
#include "tests/devices/rig.h"

#define SELECTOR  FOAL_PORT_FW_CFG
#define DATA	  (FOAL_PORT_FW_CFG + 1)
#define DMA_HIGH  (FOAL_PORT_FW_CFG + 4)
#define DMA_LOW	  (FOAL_PORT_FW_CFG + 8)

#define ITEM	  0x15
#define FILE_ITEM 0x11
#define DIRECTORY 0x19
#define FILE_LEN  (3u << 20)
#define FILE_AT	  100u

#define REQUEST	  0x4000UL
#define TARGET	  0x100000UL

enum { ERROR = 1, READ = 2, SKIP = 4, SELECT = 8, WRITE = 16 };

struct request {
	uint32_t control, length;
	uint64_t gpa;
};

static struct rig rig;
static int file;

static uint8_t pattern(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8));
}

static void set_up(void)
{
	uint8_t *bytes = malloc(FILE_AT + FILE_LEN);

	rig_init(&rig);
	ck_assert_int_eq(fw_cfg_create(&rig.host, &rig.dev), 0);
	ck_assert_int_eq(bus_attach(rig.bus, rig.dev, FOAL_PORT_FW_CFG, FOAL_PORT_FW_CFG_LEN), 0);
	file = memfd_create("kernel", MFD_CLOEXEC);
	for (size_t i = 0; i < FILE_AT + FILE_LEN; i++)
		bytes[i] = pattern(i);
	ck_assert_int_eq(write(file, bytes, FILE_AT + FILE_LEN), FILE_AT + FILE_LEN);
	free(bytes);
	ck_assert_int_eq(fw_cfg_add(rig.dev, ITEM, "hello", 5), 0);
	ck_assert_int_eq(fw_cfg_add_range(rig.dev, FILE_ITEM, file, FILE_AT, FILE_LEN), 0);
}

static void tear_down(void)
{
	rig_fini(&rig);
	close(file);
}

static void out(uint64_t port, uint64_t value, unsigned len)
{
	ck_assert(bus_write(rig.bus, port, &value, len));
}

static uint64_t in(uint64_t port, unsigned len)
{
	uint64_t value = 0;

	ck_assert(bus_read(rig.bus, port, &value, len));
	return value;
}

static void read_bytes(uint16_t key, void *buf, size_t len)
{
	out(SELECTOR, key, 2);
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)in(DATA, 1);
}

/* What the device leaves in the request's control word. */
static uint32_t dma(uint32_t control, uint32_t length, uint64_t gpa)
{
	struct request request = {htobe32(control), htobe32(length), htobe64(gpa)};

	memcpy(rig.memory->bytes + REQUEST, &request, sizeof(request));
	out(DMA_LOW, htobe32(REQUEST), 4);
	memcpy(&request, rig.memory->bytes + REQUEST, sizeof(request));
	return be32toh(request.control);
}

static const uint8_t *target(void)
{
	return rig.memory->bytes + TARGET;
}

START_TEST(signature)
{
	char text[4];
	uint32_t id;

	read_bytes(0, text, 4);
	ck_assert_mem_eq(text, "QEMU", 4);
	read_bytes(1, &id, 4);
	ck_assert_uint_eq(le32toh(id), 3);
	ck_assert_uint_eq(be32toh((uint32_t)in(DMA_HIGH, 4)), 0x51454d55);
	ck_assert_uint_eq(be32toh((uint32_t)in(DMA_LOW, 4)), 0x20434647);
}
END_TEST

/* Bytes by port: item after item, zeros behind the end, nothing for a key that is not there. */
START_TEST(by_port)
{
	char text[8];

	read_bytes(ITEM, text, 8);
	ck_assert_mem_eq(text, "hello\0\0", 8);
	read_bytes(0x7777, text, 8);
	ck_assert_mem_eq(text, "\0\0\0\0\0\0\0", 8);
	read_bytes(FILE_ITEM, text, 2);
	ck_assert_uint_eq((uint8_t)text[1], pattern(FILE_AT + 1));
	ck_assert_uint_eq(fw_cfg_reached(rig.dev, FILE_ITEM), 2);
}
END_TEST

START_TEST(numbers)
{
	uint8_t bytes[8];

	ck_assert_int_eq(fw_cfg_add_number(rig.dev, FW_CFG_RAM_SIZE, 0x123456789aULL, 8), 0);
	read_bytes(FW_CFG_RAM_SIZE, bytes, 8);
	ck_assert_mem_eq(bytes, "\x9a\x78\x56\x34\x12\0\0\0", 8);
}
END_TEST

START_TEST(directory)
{
	struct {
		uint32_t count;
		struct {
			uint32_t size;
			uint16_t key, reserved;
			char name[56];
		} files[2];
	} dir;
	char text[3];

	ck_assert_int_eq(fw_cfg_add_file(rig.dev, "etc/one", "1", 1), 0);
	ck_assert_int_eq(fw_cfg_add_file(rig.dev, "etc/two", "22", 2), 0);
	ck_assert_int_eq(fw_cfg_add_file(rig.dev, "etc/two", "22", 2), -EEXIST);
	read_bytes(DIRECTORY, &dir, sizeof(dir));
	ck_assert_uint_eq(be32toh(dir.count), 2);
	ck_assert_str_eq(dir.files[1].name, "etc/two");
	ck_assert_uint_eq(be32toh(dir.files[1].size), 2);
	read_bytes(be16toh(dir.files[1].key), text, 3);
	ck_assert_mem_eq(text, "22", 3);
}
END_TEST

/* One request selects and reads; the next goes on from there. */
START_TEST(by_request)
{
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 2, TARGET), 0);
	ck_assert_mem_eq(target(), "he", 3);
	ck_assert_uint_eq(dma(SKIP, 1, 0), 0);
	ck_assert_uint_eq(dma(READ, 4, TARGET), 0);
	ck_assert_mem_eq(target(), "lo\0\0", 4);
	ck_assert_uint_eq(in(DATA, 1), 0);
}
END_TEST

/* A file of several pieces, and memory that is no multiple of a page from the start. */
START_TEST(a_long_file)
{
	size_t wrong = 0; /* Check takes note of each assertion: not of one a byte */

	rig.memory->run = 4096;
	ck_assert_uint_eq(dma(SELECT | READ | FILE_ITEM << 16, FILE_LEN + 5, TARGET + 3), 0);
	for (size_t i = 0; i < FILE_LEN; i++)
		wrong += target()[3 + i] != pattern(FILE_AT + i);
	ck_assert_uint_eq(wrong, 0);
	ck_assert_uint_eq(target()[3 + FILE_LEN], 0);
	ck_assert_uint_eq(fw_cfg_reached(rig.dev, FILE_ITEM), FILE_LEN);
}
END_TEST

/* A request and its target above 4 GiB are taken at their word: nothing is there. */
START_TEST(high_half)
{
	out(DMA_HIGH, htobe32(1), 4);
	out(DMA_LOW, htobe32(REQUEST), 4);
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 2, TARGET), 0);
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 2, RIG_OUTSIDE), ERROR);
}
END_TEST

START_TEST(hostile_requests)
{
	ck_assert_uint_eq(dma(SELECT | WRITE | ITEM << 16, 5, TARGET), ERROR);
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, UINT32_MAX, TARGET), ERROR);
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 16, UINT64_MAX - 4), ERROR);
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 5, RIG_MEMORY - 4), ERROR);
	ck_assert_uint_eq(dma(SELECT | SKIP | FILE_ITEM << 16, UINT32_MAX, 0), 0);
	ck_assert_uint_eq(dma(SKIP, UINT32_MAX, 0), 0);
	ck_assert_uint_eq(dma(READ, 4, TARGET), 0);
	ck_assert_uint_eq(dma(0, 0, 0), 0);
	for (unsigned bits = 0; bits < 0x40; bits++)
		dma(bits | 0xffffu << 16, 64, TARGET);
	out(DMA_LOW, 0xffffffff, 4);
	/* And it still works. */
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 5, TARGET), 0);
	ck_assert_mem_eq(target(), "hello", 5);
}
END_TEST

/* Requests that lie over what they write: the answer comes last. */
START_TEST(over_itself)
{
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 16, REQUEST), 0);
}
END_TEST

START_TEST(a_file_cut_short)
{
	ck_assert_int_eq(ftruncate(file, FILE_AT + 10), 0);
	ck_assert_uint_eq(dma(SELECT | READ | FILE_ITEM << 16, FILE_LEN, TARGET), ERROR);
	out(SELECTOR, FILE_ITEM, 2);
	for (unsigned i = 0; i < 10; i++)
		ck_assert_uint_eq(in(DATA, 1), pattern(FILE_AT + i));
	ck_assert_uint_eq(in(DATA, 1), 0);
}
END_TEST

/* Every register with every width; the values are those that answer nothing else. */
START_TEST(odd_widths)
{
	for (uint64_t at = 0; at < FOAL_PORT_FW_CFG_LEN; at++)
		for (unsigned len = 1; len <= 8; len++) {
			uint64_t value = UINT64_MAX;

			bus_write(rig.bus, FOAL_PORT_FW_CFG + at, &value, len);
			bus_read(rig.bus, FOAL_PORT_FW_CFG + at, &value, len);
		}
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 5, TARGET), 0);
}
END_TEST

START_TEST(wrong_items)
{
	char name[57];
	int r = 0;

	memset(name, 'n', 56);
	name[56] = 0;
	ck_assert_int_eq(fw_cfg_add(rig.dev, ITEM, "again", 5), -EEXIST);
	ck_assert_int_eq(fw_cfg_add_file(rig.dev, name, "x", 1), -ENAMETOOLONG);
	ck_assert_int_eq(fw_cfg_add_range(rig.dev, 0x99, file, 0, 1ULL << 32), -EFBIG);
	ck_assert_int_eq(fw_cfg_add_range(rig.dev, 0x99, -1, 0, 1), -EBADF);
	for (unsigned i = 0; i < 100 && r == 0; i++)
		r = fw_cfg_add(rig.dev, (uint16_t)(0x100 + i), "x", 1);
	ck_assert_int_eq(r, -ENOSPC);
}
END_TEST

/* A run that ends does not wait for a request to finish. */
START_TEST(stopped)
{
	bus_stop(rig.bus);
	ck_assert_uint_eq(dma(SELECT | READ | ITEM << 16, 5, TARGET), ERROR);
}
END_TEST

Suite *fw_cfg_suite(void)
{
	Suite *suite = suite_create("fw_cfg");
	TCase *tc = tcase_create("fw_cfg");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, signature);
	tcase_add_test(tc, by_port);
	tcase_add_test(tc, numbers);
	tcase_add_test(tc, directory);
	tcase_add_test(tc, by_request);
	tcase_add_test(tc, a_long_file);
	tcase_add_test(tc, high_half);
	tcase_add_test(tc, hostile_requests);
	tcase_add_test(tc, over_itself);
	tcase_add_test(tc, a_file_cut_short);
	tcase_add_test(tc, odd_widths);
	tcase_add_test(tc, wrong_items);
	tcase_add_test(tc, stopped);
	suite_add_tcase(suite, tc);
	return suite;
}
