/*
 * 16550A UART (National Semiconductor PC16550D datasheet), interrupt driven.
 *
 * The line is infinitely fast: a byte written to THR is sent before the write
 * returns. Received bytes wait on the host's side until the guest is ready for
 * them (RTS set, or the receive interrupt enabled), as flow control would have
 * it, so typing ahead of a boot survives the driver's resets of the FIFO; then
 * they enter the 16-byte FIFO as it empties, and it never overruns.
 *
 * OUT2 does not gate the interrupt here, since some drivers never set it.
 */
#include <errno.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "devices/device.h"
#include "devices/state.h"

#define FIFO_SIZE      16
#define BACKLOG_SIZE   4096

#define IER_ALL	       (UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI)
#define IIR_FIFO_ON    0xc0
#define IIR_TIMEOUT    0x0c
#define MCR_ALL	       (UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 | UART_MCR_LOOP)
/* A modem that is there, ready and on-line. */
#define MSR_IDLE       (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)

/* A stop is seen at the latest after this long, also when the output is stuck. */
#define OUTPUT_WAIT_MS 50

struct serial {
	struct device dev;
	unsigned pin;
	int out_fd; /* borrowed; negative: output is dropped */
	atomic_bool stopping;

	pthread_mutex_t out_lock; /* order of output; taken alone */

	pthread_mutex_t lock; /* all below */
	uint8_t ier, lcr, mcr, scr, dll, dlm, modem_delta;
	bool fifo_on, overrun, thre_pending, line;
	unsigned rx_trigger; /* bytes in the FIFO that raise "received data" */
	unsigned sending;    /* bytes on their way out */
	uint8_t rx[FIFO_SIZE];
	unsigned rx_head, rx_count;
	uint8_t backlog[BACKLOG_SIZE];
	unsigned backlog_head, backlog_count;
};

static struct serial *serial_of(struct device *dev)
{
	return device_of(dev, struct serial, dev);
}

/* --- receiving --------------------------------------------------------------- */

static unsigned rx_capacity(const struct serial *s)
{
	return s->fifo_on ? FIFO_SIZE : 1;
}

static void rx_push(struct serial *s, uint8_t byte)
{
	if (s->rx_count == rx_capacity(s)) {
		s->overrun = true;
		return;
	}
	s->rx[(s->rx_head + s->rx_count++) % FIFO_SIZE] = byte;
}

/* Let bytes in from the line while there is room and the guest wants them. */
static void rx_fill(struct serial *s)
{
	bool ready = (s->mcr & UART_MCR_RTS) || (s->ier & UART_IER_RDI);

	if (!ready || (s->mcr & UART_MCR_LOOP))
		return;
	while (s->backlog_count > 0 && s->rx_count < rx_capacity(s)) {
		rx_push(s, s->backlog[s->backlog_head]);
		s->backlog_head = (s->backlog_head + 1) % BACKLOG_SIZE;
		s->backlog_count--;
	}
}

static uint8_t rx_pop(struct serial *s)
{
	uint8_t byte;

	if (s->rx_count == 0)
		return 0;
	byte = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % FIFO_SIZE;
	s->rx_count--;
	return byte;
}

/* --- modem lines and interrupts ------------------------------------------------ */

/* The modem status lines; in loopback the modem control outputs feed them. */
static uint8_t modem_lines(const struct serial *s)
{
	if (!(s->mcr & UART_MCR_LOOP))
		return MSR_IDLE;
	return (s->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0) |
	       (s->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0) |
	       (s->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0) |
	       (s->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0);
}

/* The highest interrupt that is pending and enabled (datasheet, table IV). */
static uint8_t interrupt_id(const struct serial *s)
{
	if ((s->ier & UART_IER_RLSI) && s->overrun)
		return UART_IIR_RLSI;
	/*
	 * Below the trigger level data waits for the FIFO's time-out. The line
	 * is infinitely fast, so the time-out is over when the bytes are in.
	 */
	if ((s->ier & UART_IER_RDI) && s->rx_count > 0)
		return s->fifo_on && s->rx_count < s->rx_trigger ? IIR_TIMEOUT : UART_IIR_RDI;
	if ((s->ier & UART_IER_THRI) && s->thre_pending)
		return UART_IIR_THRI;
	if ((s->ier & UART_IER_MSI) && s->modem_delta)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

/* Ends every access: take what the line holds, and set the interrupt pin. */
static void settle(struct serial *s)
{
	bool line;

	rx_fill(s);
	line = interrupt_id(s) != UART_IIR_NO_INT;
	if (line == s->line)
		return;
	s->line = line;
	s->dev.host->set_pin(s->dev.host->ctx, s->pin, line);
}

static void mcr_write(struct serial *s, uint8_t value)
{
	uint8_t before = modem_lines(s), after, changed;

	s->mcr = value & MCR_ALL;
	after = modem_lines(s);
	changed = before ^ after;
	if (changed & UART_MSR_CTS)
		s->modem_delta |= UART_MSR_DCTS;
	if (changed & UART_MSR_DSR)
		s->modem_delta |= UART_MSR_DDSR;
	if (changed & UART_MSR_DCD)
		s->modem_delta |= UART_MSR_DDCD;
	if (changed & before & UART_MSR_RI) /* its trailing edge only */
		s->modem_delta |= UART_MSR_TERI;
}

/* --- sending ----------------------------------------------------------------- */

/* Without any lock of the registers: the reader of the output may be slow. */
static void output(struct serial *s, uint8_t byte)
{
	const struct device_host *host = s->dev.host;
	struct pollfd pfd = {.fd = s->out_fd, .events = POLLOUT};

	pthread_mutex_lock(&s->out_lock);
	if (host->console)
		host->console(host->ctx, &byte, 1);
	while (s->out_fd >= 0 && !atomic_load(&s->stopping)) {
		if (poll(&pfd, 1, OUTPUT_WAIT_MS) <= 0)
			continue;
		/* Gone for good (EPIPE, EIO, ...): the guest goes on without. */
		if (write(s->out_fd, &byte, 1) == 1 || (errno != EINTR && errno != EAGAIN))
			break;
	}
	pthread_mutex_unlock(&s->out_lock);
}

static void thr_write(struct serial *s, uint8_t byte)
{
	if (s->mcr & UART_MCR_LOOP) {
		rx_push(s, byte);
	} else {
		s->thre_pending = false;
		s->sending++;
		settle(s);
		pthread_mutex_unlock(&s->lock);
		output(s, byte);
		pthread_mutex_lock(&s->lock);
		if (--s->sending > 0)
			return;
	}
	s->thre_pending = true;
}

/* --- registers ------------------------------------------------------------------ */

static void ier_write(struct serial *s, uint8_t value)
{
	uint8_t enabled = value & ~s->ier;

	s->ier = value & IER_ALL;
	/* Enabled while THR is empty, the interrupt comes at once: drivers start so. */
	if ((enabled & UART_IER_THRI) && s->sending == 0)
		s->thre_pending = true;
}

static void fcr_write(struct serial *s, uint8_t value)
{
	static const unsigned triggers[] = {1, 4, 8, 14};
	bool on = value & UART_FCR_ENABLE_FIFO;

	/* Turning the FIFOs on or off empties them, too (datasheet, 8.3). */
	if (on != s->fifo_on || (value & UART_FCR_CLEAR_RCVR))
		s->rx_head = s->rx_count = 0;
	s->fifo_on = on;
	if (on)
		s->rx_trigger = triggers[value >> 6];
}

static uint8_t register_read(struct serial *s, unsigned reg)
{
	bool dlab = s->lcr & UART_LCR_DLAB;
	uint8_t value;

	switch (reg) {
	case UART_RX:
		return dlab ? s->dll : rx_pop(s);
	case UART_IER:
		return dlab ? s->dlm : s->ier;
	case UART_IIR:
		value = interrupt_id(s);
		/* Reading it here is what takes this one back (datasheet, table IV). */
		if (value == UART_IIR_THRI)
			s->thre_pending = false;
		return value | (s->fifo_on ? IIR_FIFO_ON : 0);
	case UART_LCR:
		return s->lcr;
	case UART_MCR:
		return s->mcr;
	case UART_LSR:
		value = (s->rx_count > 0 ? UART_LSR_DR : 0) | (s->overrun ? UART_LSR_OE : 0) |
			(s->sending == 0 ? UART_LSR_THRE | UART_LSR_TEMT : 0);
		s->overrun = false;
		return value;
	case UART_MSR:
		value = modem_lines(s) | s->modem_delta;
		s->modem_delta = 0;
		return value;
	case UART_SCR:
		return s->scr;
	}
	return 0xff;
}

static void register_write(struct serial *s, unsigned reg, uint8_t value)
{
	bool dlab = s->lcr & UART_LCR_DLAB;

	switch (reg) {
	case UART_TX:
		if (dlab)
			s->dll = value;
		else
			thr_write(s, value);
		break;
	case UART_IER:
		if (dlab)
			s->dlm = value;
		else
			ier_write(s, value);
		break;
	case UART_FCR:
		fcr_write(s, value);
		break;
	case UART_LCR:
		s->lcr = value;
		break;
	case UART_MCR:
		mcr_write(s, value);
		break;
	case UART_SCR:
		s->scr = value;
		break;
	}
}

/* A wide access is one of each byte's register, as an 8-bit device on a PC's bus sees it. */
static uint64_t serial_read(struct device *dev, uint64_t offset, unsigned len)
{
	struct serial *s = serial_of(dev);
	uint64_t value = 0;

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++) {
		rx_fill(s);
		value |= (uint64_t)register_read(s, (unsigned)offset + i) << (8 * i);
	}
	settle(s);
	pthread_mutex_unlock(&s->lock);
	return value;
}

static void serial_write(struct device *dev, uint64_t offset, unsigned len, uint64_t value)
{
	struct serial *s = serial_of(dev);

	pthread_mutex_lock(&s->lock);
	for (unsigned i = 0; i < len; i++)
		register_write(s, (unsigned)offset + i, (uint8_t)(value >> (8 * i)));
	settle(s);
	pthread_mutex_unlock(&s->lock);
}

/* --- state ---------------------------------------------------------------------------- */

static void receiver_state(struct serial *s, struct state *st)
{
	state_bytes(st, s->rx, sizeof(s->rx));
	state_number(st, &s->rx_head, FIFO_SIZE - 1, "the FIFO's head");
	state_number(st, &s->rx_count, rx_capacity(s), "the FIFO's fill");
	state_number(st, &s->rx_trigger, FIFO_SIZE, "the FIFO's trigger");
	state_number(st, &s->backlog_count, BACKLOG_SIZE, "what was typed");
	if (st->loading)
		s->backlog_head = 0;
	for (unsigned i = 0; i < s->backlog_count; i++)
		state_u8(st, &s->backlog[(s->backlog_head + i) % BACKLOG_SIZE]);
}

static bool serial_state(struct device *dev, struct state *st)
{
	struct serial *s = serial_of(dev);

	pthread_mutex_lock(&s->lock);
	if (!st->loading && s->sending)
		state_refuse(st, "a byte is on its way out");
	uint8_t *const registers[] = {&s->ier, &s->lcr, &s->mcr,	&s->scr,
				      &s->dll, &s->dlm, &s->modem_delta};
	for (size_t i = 0; i < sizeof(registers) / sizeof(registers[0]); i++)
		state_u8(st, registers[i]);
	s->ier &= IER_ALL;
	s->mcr &= MCR_ALL;
	state_bool(st, &s->fifo_on);
	state_bool(st, &s->overrun);
	state_bool(st, &s->thre_pending);
	state_bool(st, &s->line);
	receiver_state(s, st);
	pthread_mutex_unlock(&s->lock);
	return state_ok(st);
}

/* --- the monitor's side ------------------------------------------------------------ */

size_t serial_input(struct device *serial, const void *data, size_t len)
{
	struct serial *s = serial_of(serial);
	const uint8_t *bytes = data;
	size_t taken = 0;

	pthread_mutex_lock(&s->lock);
	while (taken < len && s->backlog_count < BACKLOG_SIZE) {
		unsigned tail = (s->backlog_head + s->backlog_count++) % BACKLOG_SIZE;

		s->backlog[tail] = bytes[taken++];
	}
	settle(s);
	pthread_mutex_unlock(&s->lock);
	return taken;
}

static void serial_stop(struct device *dev)
{
	atomic_store(&serial_of(dev)->stopping, true);
}

static void serial_destroy(struct device *dev)
{
	struct serial *s = serial_of(dev);

	pthread_mutex_destroy(&s->out_lock);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

const struct device_ops serial_device = {
    .kind = "serial",
    .read = serial_read,
    .write = serial_write,
    .stop = serial_stop,
    .destroy = serial_destroy,
    .state = serial_state,
    .state_version = 1,
};

int serial_create(const struct device_host *host, unsigned pin, int out_fd, struct device **out)
{
	struct serial *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	device_init(&s->dev, &serial_device, host);
	pthread_mutex_init(&s->out_lock, NULL);
	pthread_mutex_init(&s->lock, NULL);
	s->pin = pin;
	s->out_fd = out_fd;
	s->rx_trigger = 1;
	*out = &s->dev;
	return 0;
}
