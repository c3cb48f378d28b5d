#include "vmm/console.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#define CTRL_A 1

/* For the crash handlers, which have nothing else to go by. */
static struct termios saved;
static volatile sig_atomic_t is_raw;

/* At once: waiting for output to drain would wait for a terminal that nobody reads. */
void console_restore(void)
{
	if (is_raw) {
		is_raw = 0;
		tcsetattr(STDIN_FILENO, TCSANOW, &saved);
	}
}

/* A crash of the monitor still has to leave a usable terminal. */
static void on_crash(int signal)
{
	console_restore();
	raise(signal); /* SA_RESETHAND: the default action now */
}

static void catch_crashes(void)
{
	static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS, SIGTRAP};
	struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND};

	sigemptyset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		sigaction(crashes[i], &action, NULL);
}

void console_open(struct console *con)
{
	struct termios raw;

	*con = (struct console){.in = STDIN_FILENO};
	/* In the background a change of the terminal would stop us (SIGTTOU). */
	if (!isatty(STDIN_FILENO) || tcgetpgrp(STDIN_FILENO) != getpgrp() ||
	    tcgetattr(STDIN_FILENO, &saved))
		return;
	catch_crashes();
	raw = saved;
	cfmakeraw(&raw);
	is_raw = 1;
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

int console_poll_fd(const struct console *con)
{
	return con->count < sizeof(con->queue) ? con->in : -1;
}

/* Take one typed character; true: quit. Escapes exist only on a terminal. */
static bool typed(struct console *con, unsigned char c)
{
	if (is_raw && !con->escape && c == CTRL_A) {
		con->escape = true;
		return false;
	}
	if (con->escape) {
		con->escape = false;
		if (c == 'x' || c == 'X')
			return true;
		if (c != CTRL_A)
			return false;
	}
	con->queue[con->count++] = c;
	return false;
}

bool console_read(struct console *con)
{
	unsigned char buf[sizeof(con->queue)];
	ssize_t n = read(con->in, buf, sizeof(buf) - con->count);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return false;
	if (n <= 0) {
		con->in = -1;
		return false;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (typed(con, buf[i]))
			return true;
	}
	return false;
}

bool console_pump(struct console *con, struct device *serial)
{
	if (con->count == 0)
		return false;
	size_t taken = serial_input(serial, con->queue, con->count);
	con->count -= taken;
	memmove(con->queue, con->queue + taken, con->count);
	return con->count != 0;
}
