/* The 16550A: output, input through the FIFO, interrupts as Linux's driver expects them. */
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/devices/rig.h"

static struct rig rig;
static int out[2];

static void put(unsigned reg, uint8_t value)
{
	if (!bus_write(rig.bus, FOAL_PORT_COM1 + reg, &value, 1))
		ck_abort_msg("nobody takes register %u", reg);
}

static uint8_t get(unsigned reg)
{
	uint8_t value;

	ck_assert(bus_read(rig.bus, FOAL_PORT_COM1 + reg, &value, 1));
	return value;
}

static char followed[16];

static void follow(void *ctx, const void *data, size_t len)
{
	(void)ctx;
	ck_assert_uint_lt(strlen(followed) + len, sizeof(followed));
	strncat(followed, data, len);
}

static void set_up(void)
{
	rig_init(&rig);
	ck_assert_int_eq(pipe(out), 0);
	ck_assert_int_eq(serial_create(&rig.host, FOAL_PIN_COM1, out[1], &rig.dev), 0);
	ck_assert_int_eq(bus_attach(rig.bus, rig.dev, FOAL_PORT_COM1, FOAL_PORT_COM1_LEN), 0);
}

static void tear_down(void)
{
	rig_fini(&rig);
	close(out[0]);
	close(out[1]);
}

START_TEST(registers)
{
	ck_assert_uint_eq(get(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_NO_INT);
	ck_assert_uint_eq(get(UART_MSR), UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
	put(UART_SCR, 0xa5);
	ck_assert_uint_eq(get(UART_SCR), 0xa5);
	put(UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	put(UART_DLL, 0x01);
	put(UART_DLM, 0x02);
	ck_assert_uint_eq(get(UART_DLL), 0x01);
	ck_assert_uint_eq(get(UART_DLM), 0x02);
	put(UART_LCR, UART_LCR_WLEN8);
	ck_assert_uint_eq(get(UART_IER), 0);
	put(UART_IER, 0xff);
	ck_assert_uint_eq(get(UART_IER), 0x0f);
	put(UART_FCR, UART_FCR_ENABLE_FIFO);
	ck_assert_uint_eq(get(UART_IIR) & 0xc0, 0xc0);
	put(UART_FCR, 0);
	ck_assert_uint_eq(get(UART_IIR) & 0xc0, 0);
}
END_TEST

START_TEST(output_is_written_in_order)
{
	char buf[16] = "";
	uint16_t two = 'x' | 0x0000; /* THR and IER in one access */

	rig.host.console = follow;
	for (const char *c = "foal\n"; *c; c++)
		put(UART_TX, (uint8_t)*c);
	ck_assert(bus_write(rig.bus, FOAL_PORT_COM1, &two, 2));
	ck_assert_int_eq(read(out[0], buf, sizeof(buf)), 6);
	ck_assert_str_eq(buf, "foal\nx");
	ck_assert_str_eq(followed, "foal\nx");
}
END_TEST

/* The test for a broken THRE that Linux makes: enabled while empty, it interrupts at once. */
START_TEST(thre_interrupt)
{
	put(UART_IER, UART_IER_THRI);
	ck_assert(atomic_load(&rig.level));
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_THRI);
	/* Reading it took it back. */
	ck_assert(!atomic_load(&rig.level));
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_NO_INT);
	put(UART_IER, UART_IER_THRI);
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_NO_INT);
	/* Each byte that is out interrupts again, with a rise of its own. */
	for (unsigned i = 2; i < 5; i++) {
		put(UART_TX, 'a');
		ck_assert_uint_eq(atomic_load(&rig.rises), i);
		ck_assert_uint_eq(get(UART_IIR), UART_IIR_THRI);
	}
	put(UART_IER, 0);
	put(UART_IER, UART_IER_THRI);
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_THRI);
}
END_TEST

START_TEST(input_waits_until_wanted)
{
	ck_assert_uint_eq(serial_input(rig.dev, "hello", 5), 5);
	ck_assert_uint_eq(get(UART_LSR) & UART_LSR_DR, 0);
	/* A driver starts up: FIFO resets and a stray read lose nothing. */
	put(UART_FCR, 0x07);
	get(UART_RX);
	put(UART_FCR, UART_FCR_ENABLE_FIFO);
	put(UART_MCR, UART_MCR_RTS | UART_MCR_DTR);
	for (const char *c = "hello"; *c; c++) {
		ck_assert_uint_eq(get(UART_LSR) & UART_LSR_DR, UART_LSR_DR);
		ck_assert_uint_eq(get(UART_RX), *c);
	}
	ck_assert_uint_eq(get(UART_LSR) & UART_LSR_DR, 0);
}
END_TEST

START_TEST(receive_interrupts)
{
	put(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
	put(UART_IER, UART_IER_RDI);
	ck_assert(!atomic_load(&rig.level));
	serial_input(rig.dev, "1234567", 7);
	ck_assert(atomic_load(&rig.level));
	ck_assert_uint_eq(get(UART_IIR) & 0x0f, 0x0c); /* time-out, below the trigger */
	serial_input(rig.dev, "8", 1);
	ck_assert_uint_eq(get(UART_IIR) & 0x0f, UART_IIR_RDI);
	for (unsigned i = 0; i < 8; i++)
		ck_assert_uint_eq(get(UART_RX), '1' + i);
	ck_assert(!atomic_load(&rig.level));
	ck_assert_uint_eq(get(UART_IIR) & 0x0f, UART_IIR_NO_INT);
	serial_input(rig.dev, "9", 1);
	ck_assert(atomic_load(&rig.level));
	/* Received data comes before an empty THR. */
	put(UART_IER, UART_IER_RDI | UART_IER_THRI);
	ck_assert_uint_eq(get(UART_IIR) & 0x0f, 0x0c);
	get(UART_RX);
	ck_assert_uint_eq(get(UART_IIR) & 0x0f, UART_IIR_THRI);
}
END_TEST

START_TEST(input_is_bounded)
{
	static char many[100000];
	size_t taken;

	memset(many, 'z', sizeof(many));
	taken = serial_input(rig.dev, many, sizeof(many));
	ck_assert_uint_lt(taken, sizeof(many));
	ck_assert_uint_eq(serial_input(rig.dev, many, 1), 0);
	put(UART_FCR, UART_FCR_ENABLE_FIFO);
	put(UART_IER, UART_IER_RDI);
	ck_assert_uint_eq(serial_input(rig.dev, "end", 3), 3);
	for (size_t i = 0; i < taken; i++)
		ck_assert_uint_eq(get(UART_RX), 'z');
	for (size_t i = 0; i < 3; i++)
		ck_assert_uint_eq(get(UART_RX), "end"[i]);
	ck_assert_uint_eq(get(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
}
END_TEST

/* The one that Linux uses to tell that a UART is there. */
START_TEST(loopback)
{
	char byte;

	put(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	ck_assert_uint_eq(get(UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	put(UART_MCR, UART_MCR_LOOP | UART_MCR_OUT1 | UART_MCR_DTR);
	ck_assert_uint_eq(get(UART_MSR) & 0xf0, UART_MSR_RI | UART_MSR_DSR);
	put(UART_MCR, UART_MCR_LOOP);
	ck_assert_uint_eq(get(UART_MSR), UART_MSR_TERI | UART_MSR_DDSR);
	ck_assert_uint_eq(get(UART_MSR), 0);
	put(UART_TX, 'q');
	ck_assert_uint_eq(get(UART_LSR) & UART_LSR_DR, UART_LSR_DR);
	/* Without a FIFO a second byte overruns. */
	put(UART_IER, UART_IER_RLSI);
	put(UART_TX, 'r');
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_RLSI);
	ck_assert_uint_eq(get(UART_LSR) & UART_LSR_OE, UART_LSR_OE);
	ck_assert_uint_eq(get(UART_LSR) & UART_LSR_OE, 0);
	ck_assert_uint_eq(get(UART_RX), 'q');
	ck_assert_int_eq(fcntl(out[0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(read(out[0], &byte, 1), -1);
}
END_TEST

START_TEST(modem_interrupt)
{
	put(UART_IER, UART_IER_MSI);
	put(UART_MCR, UART_MCR_LOOP);
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_MSI);
	ck_assert(atomic_load(&rig.level));
	get(UART_MSR);
	ck_assert_uint_eq(get(UART_IIR), UART_IIR_NO_INT);
	ck_assert(!atomic_load(&rig.level));
}
END_TEST

static atomic_bool writer_done;

static void *stuck_writer(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < 100000; i++)
		put(UART_TX, 'x');
	atomic_store(&writer_done, true);
	return NULL;
}

/* Nobody reads: the writer waits, input and registers do not, and a stop ends it. */
START_TEST(stuck_output_holds_nobody_else)
{
	struct pollfd full = {.fd = out[1], .events = POLLOUT};
	pthread_t thread;

	atomic_store(&writer_done, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, stuck_writer, NULL), 0);
	while (poll(&full, 1, 0) > 0)
		rig_nap();
	while (get(UART_LSR) & UART_LSR_THRE)
		;
	ck_assert(!atomic_load(&writer_done));
	ck_assert_uint_eq(serial_input(rig.dev, "a", 1), 1);
	bus_stop(rig.bus);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

START_TEST(reader_gone)
{
	signal(SIGPIPE, SIG_IGN); /* as the monitor does */
	close(out[0]);
	for (unsigned i = 0; i < 100; i++)
		put(UART_TX, 'x');
	ck_assert_uint_eq(get(UART_LSR), UART_LSR_THRE | UART_LSR_TEMT);
}
END_TEST

Suite *serial_suite(void)
{
	Suite *suite = suite_create("serial");
	TCase *tc = tcase_create("serial");

	tcase_set_timeout(tc, 20);
	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_add_test(tc, registers);
	tcase_add_test(tc, output_is_written_in_order);
	tcase_add_test(tc, thre_interrupt);
	tcase_add_test(tc, input_waits_until_wanted);
	tcase_add_test(tc, receive_interrupts);
	tcase_add_test(tc, input_is_bounded);
	tcase_add_test(tc, loopback);
	tcase_add_test(tc, modem_interrupt);
	tcase_add_test(tc, stuck_output_holds_nobody_else);
	tcase_add_test(tc, reader_gone);
	suite_add_tcase(suite, tc);
	return suite;
}
