/*
 * The serial console: a 16550 UART (National Semiconductor PC16550D data sheet). Output is polled,
 * a FIFO's worth at a time by string I/O, since each access leaves the guest. Input comes by
 * interrupt, is echoed, and is handed out by the line.
 */
#include "guest/include/console.h"
#include "guest/abi.h"
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/io.h"
#include "guest/include/irq.h"
#include "guest/include/printk.h"
#include "guest/include/sched.h"
#include "guest/include/uaccess.h"

enum uart_reg {
	UART_DATA = 0,
	UART_IER = 1,
	UART_IIR = 2,
	UART_FCR = 2,
	UART_MCR = 4,
	UART_LSR = 5
};

#define IER_RX	    0x01
#define FCR_ENABLE  0x01
#define MCR_DTR_RTS 0x03
#define MCR_OUT2    0x08 /* gates the interrupt line on a PC */
#define LSR_DATA    0x01
#define LSR_THRE    0x20
#define FIFO_SIZE   16
#define THRE_POLLS  100000 /* a UART that never empties does not hold the kernel up */
#define INPUT_SIZE  1024
#define CTRL_D	    4
#define BACKSPACE   8
#define DEL	    127

static struct spinlock out_lock;

/* Input: [head, line_end) can be read, [line_end, tail) is the line being typed. */
static struct {
	struct spinlock lock;
	struct wait_queue readers;
	char buf[INPUT_SIZE];
	u32 head, line_end, tail;
} input = {.readers = WAIT_QUEUE_INIT(input.readers)};

static void uart_out(const char *s, size_t n)
{
	u16 port = FOAL_PORT_COM1 + UART_DATA;

	for (int i = 0; i < THRE_POLLS; i++)
		if (inb(FOAL_PORT_COM1 + UART_LSR) & LSR_THRE)
			break;
	__asm__ volatile("rep outsb" : "+S"(s), "+c"(n) : "d"(port) : "memory");
}

void console_write(const char *s, size_t n)
{
	u64 flags = spin_lock_irqsave(&out_lock);
	char fifo[FIFO_SIZE];
	size_t fill = 0;

	for (size_t i = 0; i < n; i++) {
		if (fill >= FIFO_SIZE - 1) {
			uart_out(fifo, fill);
			fill = 0;
		}
		if (s[i] == '\n')
			fifo[fill++] = '\r';
		fifo[fill++] = s[i];
	}
	if (fill)
		uart_out(fifo, fill);
	spin_unlock_irqrestore(&out_lock, flags);
}

/* One typed character; true when it completes a line. Under input.lock. */
static bool take_char(char c)
{
	if (c == '\r')
		c = '\n';
	if (c == BACKSPACE || c == DEL) {
		if (input.tail != input.line_end) {
			input.tail--;
			console_write("\b \b", 3);
		}
		return false;
	}
	if (input.tail - input.head >= INPUT_SIZE - 1 && c != '\n')
		return false;
	if (input.tail - input.head >= INPUT_SIZE)
		return false;
	input.buf[input.tail++ % INPUT_SIZE] = c;
	if (c != CTRL_D)
		console_write(&c, 1);
	if (c != '\n' && c != CTRL_D)
		return false;
	input.line_end = input.tail;
	return true;
}

static void uart_interrupt(void *arg)
{
	u64 flags = spin_lock_irqsave(&input.lock);
	bool line = false;

	(void)arg;
	for (int i = 0; i < INPUT_SIZE; i++) {
		if (!(inb(FOAL_PORT_COM1 + UART_LSR) & LSR_DATA))
			break;
		line |= take_char((char)inb(FOAL_PORT_COM1 + UART_DATA));
	}
	inb(FOAL_PORT_COM1 + UART_IIR);
	spin_unlock_irqrestore(&input.lock, flags);
	if (line) {
		wake_up(&input.readers);
		poll_wake();
	}
}

void console_init(void)
{
	int err = irq_request(FOAL_PIN_COM1, uart_interrupt, NULL);

	if (err) {
		printk("console: no interrupt (%d), no input\n", err);
		return;
	}
	outb(FOAL_PORT_COM1 + UART_FCR, FCR_ENABLE);
	outb(FOAL_PORT_COM1 + UART_MCR, MCR_DTR_RTS | MCR_OUT2);
	outb(FOAL_PORT_COM1 + UART_IER, IER_RX);
	/* What was typed before raised no edge. */
	uart_interrupt(NULL);
}

/* Moves up to n characters of one line out; a lone ^D is an end of file. */
static size_t take_line(char *out, size_t n)
{
	u64 flags = spin_lock_irqsave(&input.lock);
	size_t i = 0;

	while (i < n && input.head != input.line_end) {
		char c = input.buf[input.head++ % INPUT_SIZE];

		if (c == CTRL_D)
			break;
		out[i++] = c;
		if (c == '\n')
			break;
	}
	spin_unlock_irqrestore(&input.lock, flags);
	return i;
}

static s64 console_read(u64 buf, size_t n)
{
	char line[256];
	size_t got;

	if (!n)
		return 0;
	if (wait_event_interruptible(input.readers,
				     READ_ONCE(input.head) != READ_ONCE(input.line_end)))
		return -ERESTARTSYS;
	got = take_line(line, MIN(n, sizeof(line)));
	return copy_to_user(buf, line, got) ? -EFAULT : (s64)got;
}

static s64 console_write_user(u64 buf, size_t n)
{
	char part[256];
	size_t done = 0;

	while (done < n) {
		size_t len = MIN(n - done, sizeof(part));
		size_t bad = copy_from_user(part, buf + done, len);

		console_write(part, len - bad);
		done += len - bad;
		if (bad)
			return done ? (s64)done : -EFAULT;
	}
	return (s64)done;
}

static bool console_readable(void)
{
	return READ_ONCE(input.head) != READ_ONCE(input.line_end);
}

const struct chardev console_dev = {
    .read = console_read,
    .write = console_write_user,
    .readable = console_readable,
    .major = 5,
    .minor = 1,
};
