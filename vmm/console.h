/*
 * The user's terminal as the guest's serial line. Raw while the guest runs,
 * back as it was on every way out, crashes included.
 */
#ifndef FOAL_VMM_CONSOLE_H
#define FOAL_VMM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>

#include "devices/devices.h"

struct console {
	int in;	     /* -1 once it has ended */
	bool escape; /* Ctrl-A was typed */
	size_t count;
	unsigned char queue[256]; /* typed, not yet taken by the serial port */
};

/* Take stdin; a terminal becomes raw if we are in its foreground. */
void console_open(struct console *con);

/* The descriptor to poll for input, or -1 (ended, or the queue is full). */
int console_poll_fd(const struct console *con);

/* Read what was typed. Returns true if the user asked to quit (Ctrl-A x). */
bool console_read(struct console *con);

/* Give the serial port what it takes; true if something is left to give. */
bool console_pump(struct console *con, struct device *serial);

/* Put the terminal back; async-signal-safe, harmless when nothing was changed. */
void console_restore(void);

#endif
