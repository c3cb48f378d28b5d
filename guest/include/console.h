/* The serial console: a 16550 at COM1. */
#ifndef GUEST_CONSOLE_H
#define GUEST_CONSOLE_H

#include "guest/include/types.h"

/* Output works from the first instruction on; this adds input, by interrupt. */
void console_init(void);
/* Any context; '\n' goes out as "\r\n". */
void console_write(const char *s, size_t n);
/* As it is. */
void console_write_raw(const char *s, size_t n);

/* What goes wrong while it is written to is told all the same: no CPU is to go on. */
void console_break_lock(void);

#endif
