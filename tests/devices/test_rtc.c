/* The clock, over a host clock that the test turns. */
#include <time.h>

#include "tests/devices/rig.h"

#define INDEX	FOAL_PORT_RTC
#define DATA	(FOAL_PORT_RTC + 1)
#define REG_A	0x0a
#define REG_B	0x0b
#define SET	0x80
#define BINARY	0x04
#define HOURS24 0x02
#define CENTURY 0x32

/* 2031-02-28 23:59:58 UTC, a Friday. */
#define START	1930089598ULL
#define SECOND	1000000000ULL

static struct rig rig;
static uint64_t host_ns;

static uint64_t host_now(void)
{
	return host_ns;
}

static void start(uint64_t low, uint64_t high, unsigned cpus)
{
	struct rtc_config config = {
	    .low_memory = low, .high_memory = high, .cpus = cpus, .now = host_now};

	rig_init(&rig);
	host_ns = START * SECOND;
	ck_assert_int_eq(rtc_create(&rig.host, &config, &rig.dev), 0);
	ck_assert_int_eq(bus_attach(rig.bus, rig.dev, FOAL_PORT_RTC, FOAL_PORT_RTC_LEN), 0);
}

static void set_up(void)
{
	start(256 << 20, 0, 1);
}

static void tear_down(void)
{
	rig_fini(&rig);
}

static unsigned cmos(uint8_t index)
{
	uint8_t value;

	ck_assert(bus_write(rig.bus, INDEX, &index, 1));
	ck_assert(bus_read(rig.bus, DATA, &value, 1));
	return value;
}

static void set_cmos(uint8_t index, uint8_t value)
{
	ck_assert(bus_write(rig.bus, INDEX, &index, 1));
	ck_assert(bus_write(rig.bus, DATA, &value, 1));
}

static unsigned sized(uint8_t index, unsigned len)
{
	unsigned value = 0;

	while (len--)
		value = value << 8 | cmos((uint8_t)(index + len));
	return value;
}

/* Read out, as the registers stand: no conversion. */
static void check_time(unsigned century, unsigned year, unsigned month, unsigned day,
		       unsigned hours, unsigned minutes, unsigned seconds)
{
	ck_assert_uint_eq(cmos(CENTURY), century);
	ck_assert_uint_eq(cmos(9), year);
	ck_assert_uint_eq(cmos(8), month);
	ck_assert_uint_eq(cmos(7), day);
	ck_assert_uint_eq(cmos(4), hours);
	ck_assert_uint_eq(cmos(2), minutes);
	ck_assert_uint_eq(cmos(0), seconds);
}

START_TEST(shows_the_hosts_time)
{
	check_time(0x20, 0x31, 0x02, 0x28, 0x23, 0x59, 0x58);
	ck_assert_uint_eq(cmos(6), 6); /* Friday; Sunday is 1 */
	host_ns += 2 * SECOND;
	check_time(0x20, 0x31, 0x03, 0x01, 0x00, 0x00, 0x00);
	ck_assert_uint_eq(cmos(6), 7);
	ck_assert_uint_eq(cmos(0x0c), 0);
	ck_assert_uint_eq(cmos(0x0d), 0x80);
}
END_TEST

START_TEST(binary_and_12_hours)
{
	set_cmos(REG_B, BINARY | HOURS24);
	check_time(20, 31, 2, 28, 23, 59, 58);
	set_cmos(REG_B, BINARY);
	ck_assert_uint_eq(cmos(4), 0x80 | 11);
	host_ns += 2 * SECOND;
	ck_assert_uint_eq(cmos(4), 12); /* midnight */
	host_ns += 12 * 3600 * SECOND;
	ck_assert_uint_eq(cmos(4), 0x80 | 12); /* noon */
	set_cmos(REG_B, 0);
	ck_assert_uint_eq(cmos(4), 0x92);
	/* Neither mode moves the time. */
	set_cmos(REG_B, HOURS24);
	check_time(0x20, 0x31, 0x03, 0x01, 0x12, 0x00, 0x00);
}
END_TEST

/* While SET stands nothing moves; after it the clock goes on from what was written. */
START_TEST(is_set_as_the_datasheet_says)
{
	static const uint8_t value[][2] = {{CENTURY, 0x19}, {9, 0x99}, {8, 0x12}, {7, 0x31},
					   {4, 0x23},	    {2, 0x59}, {0, 0x30}, {6, 0x01}};

	set_cmos(REG_B, SET | HOURS24);
	for (unsigned i = 0; i < sizeof(value) / sizeof(value[0]); i++)
		set_cmos(value[i][0], value[i][1]);
	host_ns += 100 * SECOND;
	check_time(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x30);
	set_cmos(REG_B, HOURS24);
	check_time(0x19, 0x99, 0x12, 0x31, 0x23, 0x59, 0x30);
	ck_assert_uint_eq(cmos(6), 6); /* a Friday, whatever was written */
	host_ns += 30 * SECOND;
	check_time(0x20, 0x00, 0x01, 0x01, 0x00, 0x00, 0x00);
	/* One field of a running clock. */
	set_cmos(2, 0x15);
	check_time(0x20, 0x00, 0x01, 0x01, 0x00, 0x15, 0x00);
}
END_TEST

START_TEST(warns_before_the_second_ends)
{
	ck_assert_uint_eq(cmos(REG_A), 0x26);
	host_ns += SECOND - 244000 - 1;
	ck_assert_uint_eq(cmos(REG_A), 0x26);
	host_ns += 1;
	ck_assert_uint_eq(cmos(REG_A), 0xa6);
	/* A clock that stands has no update ahead, and the bit is not the guest's. */
	set_cmos(REG_B, SET | HOURS24);
	ck_assert_uint_eq(cmos(REG_A), 0x26);
	set_cmos(REG_A, 0xff);
	ck_assert_uint_eq(cmos(REG_A), 0x7f);
}
END_TEST

/* Every register takes every value, in every mode; the clock still tells some time. */
START_TEST(nonsense_is_taken)
{
	static const uint8_t modes[] = {0, HOURS24, BINARY, BINARY | HOURS24, SET, 0xff};

	for (unsigned m = 0; m < sizeof(modes); m++) {
		for (unsigned index = 0; index < 256; index++) {
			for (unsigned value = 0; value < 256; value += 15) {
				set_cmos(REG_B, modes[m]);
				set_cmos((uint8_t)index, (uint8_t)value);
				cmos((uint8_t)index);
			}
		}
	}
	set_cmos(REG_B, BINARY | HOURS24);
	ck_assert_uint_lt(cmos(0), 60);
	ck_assert_uint_lt(cmos(2), 60);
	ck_assert_uint_lt(cmos(4), 24);
	ck_assert_uint_le(cmos(7), 31);
	ck_assert_uint_le(cmos(8), 12);
	ck_assert_uint_lt(cmos(9), 100);
}
END_TEST

/* Month 255 carries 21 years over each time: 21,000 years, of which the clock shows four digits. */
START_TEST(years_do_not_pile_up)
{
	set_cmos(REG_B, BINARY | HOURS24);
	for (unsigned i = 0; i < 1000; i++) {
		set_cmos(8, 255);
		ck_assert_uint_lt(cmos(CENTURY), 100);
	}
}
END_TEST

START_TEST(odd_widths)
{
	uint16_t both = 0xff0d;
	uint8_t index = 0x10;

	set_cmos(0x10, 0x5a);
	ck_assert(bus_write(rig.bus, INDEX, &both, 2));
	ck_assert(bus_read(rig.bus, INDEX, &both, 2));
	ck_assert_uint_eq(both, 0);
	ck_assert(bus_read(rig.bus, INDEX, &index, 1));
	ck_assert_uint_eq(index, 0x10);
	ck_assert_uint_eq(cmos(0x10 | 0x80), 0x5a); /* bit 7 is no address */
	set_cmos(0x0d, 0);
	ck_assert_uint_eq(cmos(0x0d), 0x80);
}
END_TEST

START_TEST(sizes_for_firmware)
{
	static const struct {
		uint64_t low, high;
		unsigned kib_above_1m, units_above_16m, units_above_4g, cpus;
	} rows[] = {
	    {8 << 20, 0, 7 << 10, 0, 0, 1},
	    {64 << 20, 0, 63 << 10, 48 << 4, 0, 2},
	    {3ULL << 30, 5ULL << 30, 0xffff, (3072 - 16) << 4, 5 << 14, 64},
	    {3ULL << 30, 2ULL << 40, 0xffff, (3072 - 16) << 4, 0xffffff, 300},
	};

	rig_fini(&rig);
	start(rows[_i].low, rows[_i].high, rows[_i].cpus);
	ck_assert_uint_eq(sized(0x15, 2), 640);
	ck_assert_uint_eq(sized(0x17, 2), rows[_i].kib_above_1m);
	ck_assert_uint_eq(sized(0x30, 2), rows[_i].kib_above_1m);
	ck_assert_uint_eq(sized(0x34, 2), rows[_i].units_above_16m);
	ck_assert_uint_eq(sized(0x5b, 3), rows[_i].units_above_4g);
	ck_assert_uint_eq(cmos(0x5f), rows[_i].cpus > 256 ? 255 : rows[_i].cpus - 1);
}
END_TEST

Suite *rtc_suite(void)
{
	Suite *suite = suite_create("rtc");
	TCase *tc = tcase_create("rtc");

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, shows_the_hosts_time);
	tcase_add_test(tc, binary_and_12_hours);
	tcase_add_test(tc, is_set_as_the_datasheet_says);
	tcase_add_test(tc, warns_before_the_second_ends);
	tcase_add_test(tc, nonsense_is_taken);
	tcase_add_test(tc, years_do_not_pile_up);
	tcase_add_test(tc, odd_widths);
	tcase_add_loop_test(tc, sizes_for_firmware, 0, 4);
	suite_add_tcase(suite, tc);
	return suite;
}
