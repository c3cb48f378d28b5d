/* --net: its values, passt as a helper, tap interfaces that cannot be. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/helper.h"
#include "vmm/net.h"

#define SECONDS 60

static struct helpers helpers;
static struct foal_error err;

static void set_up(void)
{
	helpers = (struct helpers){.count = 0};
	err = (struct foal_error){.status = 0};
}

static int parse(const char *value, struct net_option *out)
{
	err = (struct foal_error){.status = 0};
	return net_option_parse("net", value, out, &err);
}

START_TEST(net_options)
{
	static const char *const wrong[] = {
	    "",
	    "tap",
	    "tap=",
	    "tap=a-name-of-16-char",
	    "tap=a/b",
	    "tap=a%d",
	    "tap=t,mac=02:00:00:00:00",
	    "tap=t,mac=02:00:00:00:00:00:00",
	    "tap=t,mac=02-00-00-00-00-01",
	    "tap=t,mac=0200:00:00:00:01",
	    "tap=t,mac=01:00:00:00:00:01",
	    "tap=t,mac=00:00:00:00:00:00",
	    "tap=t,forward=1:2",
	    "users",
	    "user,forward=22",
	    "user,forward=0:22",
	    "user,forward=22:65536",
	    "user,forward=22:",
	    "user,forward=22:22:22",
	    "user,forward=1/2:3",
	    "user,mac=02:00:00:00:00:01,mac=02:00:00:00:00:01",
	};
	struct net_option option;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ck_assert_msg(parse(wrong[i], &option) == -EINVAL, "%s was taken", wrong[i]);
		ck_assert_int_eq(err.status, FOAL_EXIT_USAGE);
		ck_assert_ptr_eq(strstr(err.text, "run: --net"), err.text);
	}
	ck_assert_int_eq(parse("tap=foal0,mac=02:00:5e:00:FE:01", &option), 0);
	ck_assert_str_eq(option.tap, "foal0");
	ck_assert_mem_eq(option.mac, ((uint8_t[]){2, 0, 0x5e, 0, 0xfe, 1}), 6);
	ck_assert_int_eq(parse("user,forward=2222:22", &option), 0);
	ck_assert_str_eq(option.tap, "");
	ck_assert_str_eq(option.forward, "2222:22");
}
END_TEST

/* passt itself: it takes what it is given, stays, and ends with its socket. */
START_TEST(user_mode)
{
	struct net_option option, other;
	struct vm_net net = {.device = NULL};
	struct pollfd fds[MAX_HELPERS];

	if (access("/usr/bin/passt", X_OK)) {
		puts("SKIP user_mode: no passt");
		return;
	}
	ck_assert_int_eq(parse("user", &option), 0);
	ck_assert_int_eq(parse("user", &other), 0);
	ck_assert_msg(net_open(&net, &option, &helpers, &err) == 0, "%s", err.text);
	ck_assert_int_eq(net.config.kind, NET_STREAM);
	ck_assert_mem_eq(net.config.mac, option.mac, 6);
	ck_assert_mem_ne(option.mac, other.mac, 6);
	ck_assert_int_eq(net.config.mtu, 65520);
	/* Locally administered, a single station's. */
	ck_assert_int_eq(net.config.mac[0] & 3, 2);
	ck_assert(fcntl(net.config.fd, F_GETFL) & O_NONBLOCK);
	ck_assert(fcntl(net.config.fd, F_GETFD) & FD_CLOEXEC);
	net_close(&net);
	helpers_poll(&helpers, fds);
	ck_assert_int_eq(poll(fds, 1, SECONDS * 1000), 1);
	helpers_stop(&helpers);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(tap_that_cannot_be)
{
	struct net_option option = {.tap = "lo"};
	struct vm_net net = {.device = NULL};

	/* An interface of another kind; or no right to ask, or no tap interfaces here. */
	ck_assert_int_lt(net_open(&net, &option, &helpers, &err), 0);
	ck_assert_int_eq(err.status, FOAL_EXIT_HOST);
	ck_assert_ptr_eq(strstr(err.text, "--net tap=lo: "), err.text);
	net_close(&net);
}
END_TEST

Suite *net_suite(void)
{
	Suite *suite = suite_create("net");
	TCase *tc = tcase_create("net");

	tcase_set_timeout(tc, 3 * SECONDS);
	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, net_options);
	tcase_add_test(tc, user_mode);
	tcase_add_test(tc, tap_that_cannot_be);
	suite_add_tcase(suite, tc);
	return suite;
}
