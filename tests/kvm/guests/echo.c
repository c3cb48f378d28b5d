/*
 * Say "ready", then for each character typed its code, <hh>. 'q' ends the run
 * with status 7.
 */
#include "tests/kvm/guests/lib/guest.h"

unsigned guest_main(const struct start_info *info)
{
	(void)info;
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("ready\n");
	for (;;) {
		int c = heard();
		if (c == 'q')
			return 7;
		if (c < 0)
			continue;
		say_char('<');
		say_char("0123456789abcdef"[c >> 4]);
		say_char("0123456789abcdef"[c & 15]);
		say_char('>');
	}
}
