/*
 * The serial console: a 16550 UART (National Semiconductor PC16550D data sheet). Output is polled,
 * a FIFO's worth at a time by string I/O, since each access leaves the guest. Input comes by
 * interrupt and goes to the terminal (tty.c).
 */
#include "guest/include/console.h"
#include "guest/abi.h"
#include "guest/include/io.h"
#include "guest/include/irq.h"
#include "guest/include/printk.h"
#include "guest/include/spinlock.h"
#include "guest/include/tty.h"

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
#define AT_ONCE_MAX 1024
#define THRE_POLLS  100000 /* a UART that never empties does not hold the kernel up */

static struct spinlock out_lock;

static void uart_out(const char *s, size_t n)
{
	u16 port = FOAL_PORT_COM1 + UART_DATA;

	for (int i = 0; i < THRE_POLLS; i++)
		if (inb(FOAL_PORT_COM1 + UART_LSR) & LSR_THRE)
			break;
	__asm__ volatile("rep outsb" : "+S"(s), "+c"(n) : "d"(port) : "memory");
}

static void write_out(const char *s, size_t n, bool lines)
{
	u64 flags = spin_lock_irqsave(&out_lock);
	char fifo[FIFO_SIZE];
	size_t fill = 0;

	for (size_t i = 0; i < n; i++) {
		if (fill >= FIFO_SIZE - 1) {
			uart_out(fifo, fill);
			fill = 0;
		}
		if (lines && s[i] == '\n')
			fifo[fill++] = '\r';
		fifo[fill++] = s[i];
	}
	if (fill)
		uart_out(fifo, fill);
	spin_unlock_irqrestore(&out_lock, flags);
}

void console_break_lock(void)
{
	out_lock.locked = 0;
}

void console_write(const char *s, size_t n)
{
	write_out(s, n, true);
}

void console_write_raw(const char *s, size_t n)
{
	write_out(s, n, false);
}

static void uart_interrupt(void *arg)
{
	bool ready = false;

	(void)arg;
	for (int i = 0; i < AT_ONCE_MAX; i++) {
		if (!(inb(FOAL_PORT_COM1 + UART_LSR) & LSR_DATA))
			break;
		ready |= tty_input((char)inb(FOAL_PORT_COM1 + UART_DATA));
	}
	inb(FOAL_PORT_COM1 + UART_IIR);
	if (ready)
		tty_wake();
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
