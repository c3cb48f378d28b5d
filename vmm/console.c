#include "vmm/console.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
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

/* But for SIGSYS, which is the sandbox's (sandbox.c), and SIGBUS (bus_error.c). */
static void catch_crashes(void)
{
	static const int crashes[] = {SIGSEGV, SIGABRT, SIGILL, SIGFPE, SIGTRAP};
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

/* Take one typed character. Escapes exist only on a terminal. */
static enum console_request typed(struct console *con, unsigned char c)
{
	if (is_raw && !con->escape && c == CTRL_A) {
		con->escape = true;
		return CONSOLE_NOTHING;
	}
	if (con->escape) {
		con->escape = false;
		if (c == 'x' || c == 'X')
			return CONSOLE_QUIT;
		if (c == 'p' || c == 'P')
			return CONSOLE_POWER_BUTTON;
		if (c != CTRL_A)
			return CONSOLE_NOTHING;
	}
	con->queue[con->count++] = c;
	return CONSOLE_NOTHING;
}

enum console_request console_read(struct console *con)
{
	enum console_request request = CONSOLE_NOTHING;
	unsigned char buf[sizeof(con->queue)];
	ssize_t n = read(con->in, buf, sizeof(buf) - con->count);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return CONSOLE_NOTHING;
	if (n <= 0) {
		con->in = -1;
		return CONSOLE_NOTHING;
	}
	for (ssize_t i = 0; i < n && request != CONSOLE_QUIT; i++) {
		enum console_request r = typed(con, buf[i]);
		if (r != CONSOLE_NOTHING)
			request = r;
	}
	return request;
}

bool console_pump(struct console *con,
		  size_t (*input)(struct device *device, const void *data, size_t len),
		  struct device *device)
{
	if (con->count == 0)
		return false;
	size_t taken = input(device, con->queue, con->count);
	con->count -= taken;
	memmove(con->queue, con->queue + taken, con->count);
	return con->count != 0;
}

int console_output(int fd)
{
	char path[32];
	struct stat st;
	int own = -1;

	/* A file opened anew would be written from its start. */
	if (fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || isatty(fd))) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	}
	if (own < 0)
		own = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return own < 0 ? -errno : own;
}

void console_size(int fd, uint16_t *cols, uint16_t *rows)
{
	struct winsize size = {0};

	*cols = *rows = 0;
	if (ioctl(fd, TIOCGWINSZ, &size) == 0) {
		*cols = size.ws_col;
		*rows = size.ws_row;
	}
}
