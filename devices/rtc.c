/*
 * The PC's clock, a Motorola MC146818 with 128 bytes: time of day, and the
 * memory where firmware looks for the size of RAM. An index is written to the
 * first port, the byte is read and written at the second.
 *
 *   0x00..0x09  seconds, minutes, hours, day of week, of month, month, year;
 *               among them the alarm's, which is kept and never rings
 *   0x0a        bit 7: the time is about to change
 *   0x0b        bit 7: time stands, to be set; bit 2: binary; bit 1: 24 hours
 *   0x0c        interrupts pending: none, ever
 *   0x0d        bit 7: the battery is good
 *   0x32        century
 *
 * The clock is the host's, UTC, plus what the guest set it off by. Accesses
 * other than bytes read as 0 and do nothing.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "devices/device.h"
#include "devices/state.h"

enum {
	SECONDS = 0x00,
	MINUTES = 0x02,
	HOURS = 0x04,
	WEEKDAY = 0x06,
	DAY = 0x07,
	MONTH = 0x08,
	YEAR = 0x09,
	REG_A = 0x0a,
	REG_B = 0x0b,
	REG_C = 0x0c,
	REG_D = 0x0d,
	CENTURY = 0x32,
};

#define CMOS_SIZE	  128

#define A_UPDATE	  0x80
#define A_32768_HZ	  0x20 /* the crystal */
#define A_1024_HZ	  0x06
#define B_SET		  0x80
#define B_BINARY	  0x04
#define B_24_HOURS	  0x02
#define D_VALID		  0x80
#define HOURS_PM	  0x80

#define NS_PER_S	  1000000000u
/* How long before the second ends the update bit warns (datasheet: 244 us). */
#define UPDATE_WARNING_NS 244000u

#define SECONDS_A_DAY	  86400
/* The century is two digits; and a guest that adds months for ever adds no years for ever. */
#define YEARS		  10000
/* No guest sets its clock off by more. */
#define MAX_OFFSET	  ((int64_t)YEARS * 2 * 366 * SECONDS_A_DAY)
/* 1 January of the year 0, from which seconds and days are counted: a Saturday. */
#define WEEKDAY_OF_DAY_0  7

/* In the Gregorian calendar, from the year 0 to 9999; Sunday is weekday 1. */
struct date {
	unsigned year, month, day, weekday, hours, minutes, seconds;
};

struct rtc {
	struct device dev;
	uint64_t (*now)(void);
	pthread_mutex_t lock; /* all below */
	uint8_t index;
	uint8_t cmos[CMOS_SIZE]; /* of the clock's registers, those that are kept */
	int64_t offset;		 /* seconds that the guest's clock is ahead of the host's */
	struct date set;	 /* the time while B_SET stands */
};

static struct rtc *rtc_of(struct device *dev)
{
	return device_of(dev, struct rtc, dev);
}

/* --- time --------------------------------------------------------------------------- */

/* libc's gmtime() would read the time zone's file, in the middle of an exit. */
static uint64_t days_before_year(uint64_t year)
{
	return 365 * year + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
}

static unsigned days_in_month(unsigned year, unsigned month)
{
	static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = days_before_year(year + 1) - days_before_year(year) == 366;

	return days[month - 1] + (leap && month == 2);
}

/* Fields past their ranges carry over; those that count from 1 are not 0. */
static int64_t seconds_of(struct date date)
{
	unsigned year = date.year + (date.month - 1) / 12, month = (date.month - 1) % 12 + 1;
	uint64_t days = days_before_year(year) + date.day - 1;

	while (--month)
		days += days_in_month(year, month);
	return (int64_t)(((days * 24 + date.hours) * 60 + date.minutes) * 60 + date.seconds);
}

static struct date date_of(int64_t seconds)
{
	uint64_t s = seconds < 0 ? 0 : (uint64_t)seconds;
	uint64_t days = s / SECONDS_A_DAY % days_before_year(YEARS);
	struct date date = {
	    .hours = s / 3600 % 24,
	    .minutes = s / 60 % 60,
	    .seconds = s % 60,
	    .weekday = (days + WEEKDAY_OF_DAY_0 - 1) % 7 + 1,
	    .year = (unsigned)(days / 366),
	    .month = 1,
	};

	while (days_before_year(date.year + 1) <= days)
		date.year++;
	days -= days_before_year(date.year);
	for (; days >= days_in_month(date.year, date.month); date.month++)
		days -= days_in_month(date.year, date.month);
	date.day = (unsigned)days + 1;
	return date;
}

static int64_t host_seconds(const struct rtc *rtc)
{
	return (int64_t)(rtc->now() / NS_PER_S + days_before_year(1970) * SECONDS_A_DAY);
}

/* The guest's time when the host's is @host. */
static struct date date_at(const struct rtc *rtc, int64_t host)
{
	return rtc->cmos[REG_B] & B_SET ? rtc->set : date_of(host + rtc->offset);
}

/* At @host it is @date. */
static void set_date(struct rtc *rtc, int64_t host, struct date date)
{
	if (rtc->cmos[REG_B] & B_SET)
		rtc->set = date;
	else
		rtc->offset = seconds_of(date) - host;
}

/* --- its registers ---------------------------------------------------------------------- */

static uint8_t encode(const struct rtc *rtc, unsigned value)
{
	if (rtc->cmos[REG_B] & B_BINARY)
		return (uint8_t)value;
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static unsigned decode(const struct rtc *rtc, uint8_t value)
{
	return rtc->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10 + (value & 15);
}

static uint8_t encode_hours(const struct rtc *rtc, unsigned hours)
{
	if (rtc->cmos[REG_B] & B_24_HOURS)
		return encode(rtc, hours);
	return encode(rtc, hours % 12 ? hours % 12 : 12) | (hours >= 12 ? HOURS_PM : 0);
}

static unsigned decode_hours(const struct rtc *rtc, uint8_t value)
{
	if (rtc->cmos[REG_B] & B_24_HOURS)
		return decode(rtc, value);
	return decode(rtc, value & ~HOURS_PM) % 12 + (value & HOURS_PM ? 12 : 0);
}

static uint8_t date_read(const struct rtc *rtc, unsigned index)
{
	struct date date = date_at(rtc, host_seconds(rtc));

	switch (index) {
	case SECONDS:
		return encode(rtc, date.seconds);
	case MINUTES:
		return encode(rtc, date.minutes);
	case HOURS:
		return encode_hours(rtc, date.hours);
	case WEEKDAY:
		return encode(rtc, date.weekday);
	case DAY:
		return encode(rtc, date.day);
	case MONTH:
		return encode(rtc, date.month);
	case YEAR:
		return encode(rtc, date.year % 100);
	default:
		return encode(rtc, date.year / 100);
	}
}

static void date_write(struct rtc *rtc, unsigned index, uint8_t value)
{
	int64_t host = host_seconds(rtc);
	struct date date = date_at(rtc, host);
	unsigned number = decode(rtc, value);

	switch (index) {
	case SECONDS:
		date.seconds = number;
		break;
	case MINUTES:
		date.minutes = number;
		break;
	case HOURS:
		date.hours = decode_hours(rtc, value);
		break;
	case WEEKDAY: /* follows from the date */
		break;
	case DAY:
		date.day = number ? number : 1;
		break;
	case MONTH:
		date.month = number ? number : 1;
		break;
	case YEAR:
		date.year = date.year / 100 * 100 + number % 100;
		break;
	default:
		date.year = number % 100 * 100 + date.year % 100;
		break;
	}
	set_date(rtc, host, date);
}

static bool is_time(unsigned index)
{
	return index == SECONDS || index == MINUTES || index == HOURS ||
	       (index >= WEEKDAY && index <= YEAR) || index == CENTURY;
}

/* --- the other registers ------------------------------------------------------------------------
 */

static uint8_t status_a(const struct rtc *rtc)
{
	bool running = !(rtc->cmos[REG_B] & B_SET);
	bool ends = rtc->now() % NS_PER_S >= NS_PER_S - UPDATE_WARNING_NS;

	return rtc->cmos[REG_A] | (running && ends ? A_UPDATE : 0);
}

static void write_b(struct rtc *rtc, uint8_t value)
{
	int64_t host = host_seconds(rtc);
	struct date date = date_at(rtc, host);

	/* Time stops at what it is, and goes on from what it was set to. */
	rtc->cmos[REG_B] = value;
	set_date(rtc, host, date);
}

static uint8_t cmos_read(const struct rtc *rtc, unsigned index)
{
	if (is_time(index))
		return date_read(rtc, index);
	return index == REG_A ? status_a(rtc) : rtc->cmos[index];
}

static void cmos_write(struct rtc *rtc, unsigned index, uint8_t value)
{
	if (is_time(index))
		date_write(rtc, index, value);
	else if (index == REG_A)
		rtc->cmos[index] = value & ~A_UPDATE;
	else if (index == REG_B)
		write_b(rtc, value);
	else if (index != REG_C && index != REG_D)
		rtc->cmos[index] = value;
}

static uint64_t rtc_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct rtc *rtc = rtc_of(dev);

	if (len != 1)
		return 0;
	pthread_mutex_lock(&rtc->lock);
	uint8_t value = offset == 0 ? rtc->index : cmos_read(rtc, rtc->index);
	pthread_mutex_unlock(&rtc->lock);
	return value;
}

/* Bit 7 of the index masks NMIs on a PC; it is no part of the address. */
static void rtc_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct rtc *rtc = rtc_of(dev);

	if (len != 1)
		return;
	pthread_mutex_lock(&rtc->lock);
	if (offset == 0)
		rtc->index = value % CMOS_SIZE;
	else
		cmos_write(rtc, rtc->index, (uint8_t)value);
	pthread_mutex_unlock(&rtc->lock);
}

static void rtc_destroy(struct device *dev)
{
	struct rtc *rtc = rtc_of(dev);

	pthread_mutex_destroy(&rtc->lock);
	free(rtc);
}

/* Fields past their ranges carry over, and none that a guest writes is past a byte's. */
static void date_state(struct date *date, struct state *s)
{
	state_number(s, &date->year, YEARS - 1, "a year");
	state_number(s, &date->month, UINT8_MAX, "a month");
	state_number(s, &date->day, UINT8_MAX, "a day");
	state_number(s, &date->weekday, 7, "a day of the week");
	state_number(s, &date->hours, UINT8_MAX, "an hour");
	state_number(s, &date->minutes, UINT8_MAX, "a minute");
	state_number(s, &date->seconds, UINT8_MAX, "a second");
}

/* The guest's clock goes on with the host's: how far it is off is what is kept. */
static bool rtc_state(struct device *dev, struct state *s)
{
	struct rtc *rtc = rtc_of(dev);

	pthread_mutex_lock(&rtc->lock);
	state_u8(s, &rtc->index);
	state_check(s, rtc->index < CMOS_SIZE, "an index past the memory");
	state_bytes(s, rtc->cmos, sizeof(rtc->cmos));
	state_i64(s, &rtc->offset);
	state_check(s, rtc->offset <= MAX_OFFSET && rtc->offset >= -MAX_OFFSET,
		    "a clock that is off by too much");
	date_state(&rtc->set, s);
	state_check(s, !(rtc->cmos[REG_B] & B_SET) || (rtc->set.month && rtc->set.day),
		    "a date without month or day");
	pthread_mutex_unlock(&rtc->lock);
	return state_ok(s);
}

const struct device_ops rtc_device = {
    .kind = "rtc",
    .read = rtc_read,
    .write = rtc_write,
    .destroy = rtc_destroy,
    .state = rtc_state,
    .state_version = 1,
};

/* --- what firmware finds --------------------------------------------------------------- */

static void put(struct rtc *rtc, unsigned index, unsigned len, uint64_t value)
{
	uint64_t most = (1ULL << 8 * len) - 1;

	value = value < most ? value : most;
	for (unsigned i = 0; i < len; i++)
		rtc->cmos[index + i] = (uint8_t)(value >> (8 * i));
}

static uint64_t above(uint64_t size, uint64_t start)
{
	return size > start ? size - start : 0;
}

/* As PC firmware has it; the places above 0x3f are those of Bochs and QEMU. */
static void put_sizes(struct rtc *rtc, const struct rtc_config *config)
{
	uint64_t low = config->low_memory;

	put(rtc, 0x15, 2, 640);
	put(rtc, 0x17, 2, above(low, 1 << 20) >> 10);
	put(rtc, 0x30, 2, above(low, 1 << 20) >> 10);
	put(rtc, 0x34, 2, above(low, 16 << 20) >> 16);
	put(rtc, 0x5b, 3, config->high_memory >> 16);
	put(rtc, 0x5f, 1, config->cpus - 1);
}

int rtc_create(const struct device_host *host, const struct rtc_config *config, struct device **out)
{
	struct rtc *rtc = calloc(1, sizeof(*rtc));

	if (!rtc)
		return -ENOMEM;
	device_init(&rtc->dev, &rtc_device, host);
	rtc->now = config->now;
	pthread_mutex_init(&rtc->lock, NULL);
	rtc->cmos[REG_A] = A_32768_HZ | A_1024_HZ;
	rtc->cmos[REG_B] = B_24_HOURS;
	rtc->cmos[REG_D] = D_VALID;
	put_sizes(rtc, config);
	*out = &rtc->dev;
	return 0;
}
