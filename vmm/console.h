/*
 * The user's terminal as the guest's console. Raw while the guest runs,
 * back as it was on every way out, crashes included.
 */
#ifndef FOAL_VMM_CONSOLE_H
#define FOAL_VMM_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/devices.h"

struct console {
	int in;	     /* -1 once it has ended */
	bool escape; /* Ctrl-A was typed */
	bool button; /* the power button is to be pressed */
	size_t count;
	unsigned char queue[256]; /* typed, not yet taken by the console */
};

/* Take stdin; a terminal becomes raw if we are in its foreground. */
void console_open(struct console *con);

/* The descriptor to poll for input, or -1 (ended, or the queue is full). */
int console_poll_fd(const struct console *con);

/* What the user asks of foal, typed after Ctrl-A. */
enum console_request {
	CONSOLE_NOTHING,
	CONSOLE_QUIT,	      /* x */
	CONSOLE_POWER_BUTTON, /* p */
};

/* Read what was typed; returns the last request among it, but nothing after a quit. */
enum console_request console_read(struct console *con);

/* Give @device what it takes by @input; true if something is left to give. */
bool console_pump(struct console *con,
		  size_t (*input)(struct device *device, const void *data, size_t len),
		  struct device *device);

/*
 * A descriptor of its own for output to what @fd is: one that never blocks where
 * that can be had (a terminal or a pipe; the shell's own stays as it is). Or a
 * negative errno.
 */
int console_output(int fd);

/* Columns and rows of the terminal that @fd is; 0 if it is none. */
void console_size(int fd, uint16_t *cols, uint16_t *rows);

/* Put the terminal back; async-signal-safe, harmless when nothing was changed. */
void console_restore(void);

#endif
