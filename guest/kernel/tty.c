/* The terminal: what is typed becomes lines, signals or single characters, as its settings say. */
#include "guest/include/tty.h"
#include "guest/include/console.h"
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/process.h"
#include "guest/include/signal.h"
#include "guest/include/spinlock.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define INPUT_SIZE 1024

/* Settings' bits; others are kept and mean nothing here. */
enum { ICRNL = 0x100 };
enum { OPOST = 0x1, ONLCR = 0x4 };
enum { ISIG = 0x1, ICANON = 0x2, ECHO = 0x8, ECHOE = 0x10, ECHOCTL = 0x200 };

enum { VINTR, VQUIT, VERASE, VKILL, VEOF, VTIME, VMIN, VSUSP = 10, NR_CC = 19 };

enum {
	TCGETS = 0x5401,
	TCSETS,
	TCSETSW,
	TCSETSF,
	TCFLSH = 0x540b,
	TIOCSCTTY = 0x540e,
	TIOCGPGRP,
	TIOCSPGRP,
	TIOCGWINSZ = 0x5413,
	TIOCSWINSZ,
	FIONREAD = 0x541b,
	TIOCGSID = 0x5429,
};

struct termios {
	u32 iflag, oflag, cflag, lflag;
	u8 line, cc[NR_CC];
};

struct winsize {
	u16 rows, columns, x, y;
};

/* [head, end) can be read, [end, tail) is the line being typed. */
static struct {
	struct spinlock lock;
	struct wait_queue readers;
	char buf[INPUT_SIZE];
	u32 head, end, tail;
	struct termios set;
	struct winsize size;
	int pgid, sid; /* whose it is */
} tty = {
    .readers = WAIT_QUEUE_INIT(tty.readers),
    .set = {.iflag = 0x500,
	    .oflag = OPOST | ONLCR,
	    .cflag = 0xbf,
	    .lflag = 0x8a3b,
	    .cc = {3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22}},
    .size = {.rows = 24, .columns = 80},
    .pgid = 1,
    .sid = 1,
};

/* --- input; under tty.lock ----------------------------------------------------------------- */

static bool has(u32 flag)
{
	return tty.set.lflag & flag;
}

static bool is(char c, int which)
{
	return c && (u8)c == tty.set.cc[which];
}

static void echo(char c)
{
	const char shown[2] = {'^', (char)(c ^ 0x40)};

	if (!has(ECHO) || (is(c, VEOF) && has(ICANON)))
		return;
	if ((u8)c < ' ' && c != '\n' && c != '\t' && has(ECHOCTL))
		console_write(shown, 2);
	else
		console_write(&c, 1);
}

static void erase_one(void)
{
	bool control = (u8)tty.buf[--tty.tail % INPUT_SIZE] < ' ' && has(ECHOCTL);

	if (has(ECHO) && has(ECHOE))
		console_write("\b \b\b \b", control ? 6 : 3);
}

static int signal_of(char c)
{
	if (!has(ISIG))
		return 0;
	return is(c, VINTR) ? SIGINT : is(c, VQUIT) ? SIGQUIT : is(c, VSUSP) ? SIGTSTP : 0;
}

static void signal_group(int sig)
{
	const struct siginfo info = {.signo = sig, .code = SI_KERNEL};

	u64 irq = spin_lock_irqsave(&process_lock);

	for (struct process *p = process_next(NULL); p; p = process_next(p))
		if (p->pgid == tty.pgid && p->sid == tty.sid)
			signal_send(p, &info);
	spin_unlock_irqrestore(&process_lock, irq);
}

/* A character of a line; true: the line is complete. */
static bool take_canonical(char c)
{
	if (is(c, VERASE) || c == '\b') {
		if (tty.tail != tty.end)
			erase_one();
		return false;
	}
	if (is(c, VKILL)) {
		while (tty.tail != tty.end)
			erase_one();
		return false;
	}
	/* The last place is the line end's. */
	if (tty.tail - tty.head >= INPUT_SIZE - (u32)(c != '\n' && !is(c, VEOF)))
		return false;
	tty.buf[tty.tail++ % INPUT_SIZE] = c;
	echo(c);
	if (c != '\n' && !is(c, VEOF))
		return false;
	tty.end = tty.tail;
	return true;
}

static bool take_raw(char c)
{
	if (tty.tail - tty.head >= INPUT_SIZE)
		return false;
	tty.buf[tty.tail++ % INPUT_SIZE] = c;
	echo(c);
	tty.end = tty.tail;
	return true;
}

bool tty_input(char c)
{
	u64 irq = spin_lock_irqsave(&tty.lock);
	bool ready = false;
	int sig;

	if (c == '\r' && tty.set.iflag & ICRNL)
		c = '\n';
	sig = signal_of(c);
	if (sig) {
		echo(c);
		tty.head = tty.end = tty.tail; /* what was typed before is forgotten */
	} else {
		ready = has(ICANON) ? take_canonical(c) : take_raw(c);
	}
	spin_unlock_irqrestore(&tty.lock, irq);
	if (sig)
		signal_group(sig);
	return ready;
}

void tty_wake(void)
{
	wake_up(&tty.readers);
	poll_wake();
}

/* --- reading and writing ------------------------------------------------------------------- */

/* Up to n characters, of lines at most one; what ends a file is swallowed. */
static size_t take_out(char *out, size_t n)
{
	u64 irq = spin_lock_irqsave(&tty.lock);
	size_t i = 0;

	while (i < n && tty.head != tty.end) {
		char c = tty.buf[tty.head++ % INPUT_SIZE];

		if (has(ICANON) && is(c, VEOF))
			break;
		out[i++] = c;
		if (has(ICANON) && c == '\n')
			break;
	}
	spin_unlock_irqrestore(&tty.lock, irq);
	return i;
}

/* 0 if the caller is in the foreground, or the terminal not its session's; or it is told off. */
static s64 check_foreground(int sig)
{
	const struct process *own = current->process;
	const struct siginfo info = signal_from(sig, SI_KERNEL);

	if (own->sid != tty.sid || own->pgid == tty.pgid)
		return 0;
	if (current->signals.blocked & signal_bit(sig) || own->action[sig - 1].handler == SIG_IGN)
		return sig == SIGTTIN ? -EIO : 0;
	for (struct process *p = process_next(NULL); p; p = process_next(p))
		if (p->pgid == own->pgid)
			signal_send(p, &info);
	return -ERESTARTSYS;
}

static bool readable(void)
{
	return READ_ONCE(tty.head) != READ_ONCE(tty.end);
}

static s64 tty_read(u64 buf, size_t n)
{
	bool waits = has(ICANON) || tty.set.cc[VMIN] || tty.set.cc[VTIME];
	s64 err = n ? check_foreground(SIGTTIN) : 0;
	char part[256];
	size_t got;

	if (!n || err)
		return err;
	if (waits && wait_event_interruptible(tty.readers, readable()))
		return -ERESTARTSYS;
	got = take_out(part, MIN(n, sizeof(part)));
	return copy_to_user(buf, part, got) ? -EFAULT : (s64)got;
}

static s64 tty_write(u64 buf, size_t n)
{
	u32 post = OPOST | ONLCR;
	char part[256];
	size_t done = 0;

	while (done < n) {
		size_t len = MIN(n - done, sizeof(part));
		size_t bad = copy_from_user(part, buf + done, len);

		if ((tty.set.oflag & post) == post)
			console_write(part, len - bad);
		else
			console_write_raw(part, len - bad);
		done += len - bad;
		if (bad)
			return done ? (s64)done : -EFAULT;
	}
	return (s64)done;
}

/* --- settings ------------------------------------------------------------------------------ */

static void forget_input(void)
{
	u64 irq = spin_lock_irqsave(&tty.lock);

	tty.head = tty.end = tty.tail;
	spin_unlock_irqrestore(&tty.lock, irq);
}

static s64 set_termios(u64 arg, bool flush)
{
	s64 err = check_foreground(SIGTTOU);
	struct termios new;
	u64 irq;

	if (err)
		return err;
	if (copy_from_user(&new, arg, sizeof(new)))
		return -EFAULT;
	if (flush)
		forget_input();
	irq = spin_lock_irqsave(&tty.lock);
	/* A line half typed can be read as it is from now on. */
	if (!(new.lflag &ICANON))
		tty.end = tty.tail;
	tty.set = new;
	spin_unlock_irqrestore(&tty.lock, irq);
	tty_wake();
	return 0;
}

static s64 set_foreground(u64 arg)
{
	s64 err;
	s32 pgid;

	if (copy_from_user(&pgid, arg, sizeof(pgid)))
		return -EFAULT;
	if (current->process->sid != tty.sid)
		return -ENOTTY;
	err = check_foreground(SIGTTOU);
	if (err)
		return err;
	if (pgid <= 0)
		return -EINVAL;
	if (!process_is_group(pgid))
		return -EPERM;
	tty.pgid = pgid;
	return 0;
}

static s64 take_terminal(void)
{
	const struct process *own = current->process;

	if (own->sid != own->pid)
		return -EPERM;
	tty.sid = own->sid;
	tty.pgid = own->pgid;
	return 0;
}

static s64 set_size(u64 arg)
{
	struct winsize new;

	if (copy_from_user(&new, arg, sizeof(new)))
		return -EFAULT;
	tty.size = new;
	signal_group(SIGWINCH);
	return 0;
}

static s64 give(u64 to, const void *what, size_t n)
{
	return copy_to_user(to, what, n) ? -EFAULT : 0;
}

static s64 tty_ioctl(u32 cmd, u64 arg)
{
	s32 n = (s32)(READ_ONCE(tty.end) - READ_ONCE(tty.head));

	switch (cmd) {
	case TCGETS:
		return give(arg, &tty.set, sizeof(tty.set));
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		return set_termios(arg, cmd == TCSETSF);
	case TCFLSH:
		forget_input();
		return 0;
	case TIOCSCTTY:
		return take_terminal();
	case TIOCGPGRP:
		return give(arg, &tty.pgid, sizeof(tty.pgid));
	case TIOCSPGRP:
		return set_foreground(arg);
	case TIOCGSID:
		return give(arg, &tty.sid, sizeof(tty.sid));
	case TIOCGWINSZ:
		return give(arg, &tty.size, sizeof(tty.size));
	case TIOCSWINSZ:
		return set_size(arg);
	case FIONREAD:
		return give(arg, &n, sizeof(n));
	default:
		return -ENOTTY;
	}
}

const struct chardev console_dev = {
    .read = tty_read,
    .write = tty_write,
    .readable = readable,
    .ioctl = tty_ioctl,
    .major = 5,
    .minor = 1,
};
