/*
 * What a stock kernel finds besides the exit port, driven by hand:
 *
 *   do=off | do=reset | do=keyboard   end the run that way
 *   do=id                             say the VM generation ID
 *   do=clock                          say the clock: century, year, ... seconds, in BCD
 *   do=button                         say "ready", wait for an event, say which
 *
 * Each of the first three returns 99 if it is still there afterwards.
 */
#include "tests/kvm/guests/lib/guest.h"

#define STILL_THERE 99

static uint32_t in32(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static uint8_t cmos(uint8_t index)
{
	out8(FOAL_PORT_RTC, index);
	return in8(FOAL_PORT_RTC + 1);
}

/* Read again if a second passed meanwhile. */
static void say_clock(void)
{
	static const uint8_t fields[] = {0x32, 9, 8, 7, 4, 2, 0};
	uint64_t time;
	uint8_t seconds;

	do {
		time = 0;
		seconds = cmos(0);
		for (unsigned i = 0; i < sizeof(fields); i++)
			time = time << 8 | cmos(fields[i]);
	} while (seconds != (time & 0xff));
	say_hex(time);
}

static void say_event(void)
{
	uint32_t events;

	say("ready\n");
	while (!(events = in32(FOAL_PORT_ACPI_EVENTS)))
		;
	say_hex(events);
	/* Taken, so gone. */
	expect(in32(FOAL_PORT_ACPI_EVENTS) == 0, GUEST_BAD_VALUE);
}

/* The emulator needs some instructions more to see that the run has ended. */
static unsigned linger(void)
{
	for (unsigned i = 0; i < 1000; i++)
		in8(FOAL_PORT_ACPI_SLEEP_STS);
	return STILL_THERE;
}

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	if (param_is("do", "off")) {
		out8(FOAL_PORT_ACPI_SLEEP_CTL, FOAL_ACPI_S5 << 2 | 0x20);
		return linger();
	}
	if (param_is("do", "reset")) {
		out8(FOAL_PORT_ACPI_RESET, FOAL_ACPI_RESET_VALUE);
		return linger();
	}
	if (param_is("do", "keyboard")) {
		expect(!(in8(FOAL_PORT_I8042) & 2), GUEST_BAD_VALUE);
		out8(FOAL_PORT_I8042, 0xfe);
		return linger();
	}
	if (param_is("do", "id")) {
		say_hex(peek(FOAL_VMGENID));
		say(" ");
		say_hex(peek(FOAL_VMGENID + 8));
	} else if (param_is("do", "clock")) {
		say_clock();
	} else if (param_is("do", "button")) {
		say_event();
	}
	say("\n");
	return GUEST_OK;
}
