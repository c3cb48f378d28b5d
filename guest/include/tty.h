/*
 * The terminal on the console: its line discipline, settings and foreground process group are
 * Linux's (termios(3), tty_ioctl(4)). One terminal, which is the first session's until another
 * session's leader takes it.
 */
#ifndef GUEST_TTY_H
#define GUEST_TTY_H

#include "guest/include/types.h"

/* A character came in; true if somebody may be able to read now. Interrupt context. */
bool tty_input(char c);
/* For whoever waits for that. */
void tty_wake(void);

#endif
