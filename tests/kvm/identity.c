/*
 * What forks, clones and restored VMs have of their own: addresses, CIDs, sockets, helpers. The
 * guest `identity` says what it sees of them.
 */
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/kvm/identity_rig.h"
#include "tests/kvm/suites.h"

static bool is_socket_there(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	bool is = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0;
	close(fd);
	return is;
}

/* Sockets have short names. */
static const char *short_path(const char *name)
{
	const char *path = scratch("%s", name);

	ck_assert_uint_lt(strlen(path), 80);
	return path;
}

/* passt is a program that stays until its socket is closed. */
static void stand_in(void)
{
	static const char script[] = "#!/bin/sh\nexec cat <&3 >/dev/null\n";
	char dirs[1024];

	write_file(scratch("passt"), script, sizeof(script) - 1);
	ck_assert_int_eq(run_tool(NULL, ARGS("chmod", "755", scratch("passt"))), 0);
	snprintf(dirs, sizeof(dirs), "%s:%s", scratch("."),
		 getenv("PATH") ? getenv("PATH") : "/usr/bin:/bin");
	ck_assert_int_eq(setenv("PATH", dirs, 1), 0);
}

/* --- network and vsock ----------------------------------------------------------------------- */

/* The guest of @name, a copy, is told that its address is another one; link and events. */
static void expect_told(const char *name)
{
	identity_wait_for(name, 'n', 2); /* the configuration changed */
	ck_assert_uint_eq(identity_number(name, 'l'), 0);
	identity_wait_for(name, 'n', 2);
	ck_assert_uint_eq(identity_number(name, 'l'), 1);
	ck_assert_uint_eq(identity_number(name, 'n') & 2, 0);
	identity_wait_for(name, 'e', 1);
}

static void all_differ(const char *const *names, unsigned count, char what)
{
	char said[8][SAID];

	for (unsigned i = 0; i < count; i++) {
		identity_ask(names[i], what, said[i]);
		for (unsigned k = 0; k < i; k++)
			ck_assert_msg(strcmp(said[i], said[k]) != 0, "%s and %s, '%c': %s",
				      names[i], names[k], what, said[i]);
	}
}

static void start_connected(const char *name)
{
	char vsock[256];

	stand_in();
	snprintf(vsock, sizeof(vsock), "cid=7,path=%s", short_path("v"));
	identity_start(name, "ready\n",
		       ARGS(IDENTITY_GUEST, "--net", "user", "--vsock", vsock, "--rng", "on"));
	ck_assert_uint_eq(identity_number(name, 'c'), 7);
	ck_assert_uint_eq(identity_number(name, 'l'), 1);
}

static const char *pattern_of(const char *name)
{
	char words[128];

	snprintf(words, sizeof(words), "path=%s", short_path(name));
	return scratch_keep(words);
}

START_TEST(forks_have_their_own)
{
	static const char *const names[] = {"net", "net.1", "net.2", "net.1.1"};
	uint64_t address;

	start_connected("net");
	address = identity_number("net", 'a');
	expect_command(ARGS("fork", "net", "-n", "2", "--net", "user", "--vsock", pattern_of("v%")),
		       0, "net.2: running");
	expect_told("net.1");
	expect_told("net.2");
	expect_command(ARGS("fork", "net.1", "--net", "user,mac=02:00:00:00:00:11", "--vsock",
			    pattern_of("w%,cid=99")),
		       0, "net.1.1: running");
	ck_assert_uint_eq(identity_number("net.1.1", 'a'), 0x020000000011);
	ck_assert_uint_eq(identity_number("net.1.1", 'c'), 99);
	all_differ(names, 4, 'a');
	all_differ(names, 4, 'c');
	all_differ(names, 4, 'i');
	ck_assert(is_socket_there(short_path("v1")) && is_socket_there(short_path("v2")) &&
		  is_socket_there(short_path("w1")));
	/* The VM itself was not changed. */
	ck_assert_uint_eq(identity_number("net", 'a'), address);
	ck_assert_uint_eq(identity_number("net", 'c'), 7);
	ck_assert_uint_eq(identity_number("net", 'n') & 2, 0);
	ck_assert_uint_eq(identity_number("net", 'e'), 0);
	/* What it was given goes with it. */
	expect_command(ARGS("stop", "net.2", "--kill"), 0, "gone");
	while (exists(short_path("v2")))
		usleep(1000);
	ck_assert(exists(short_path("v1")));
}
END_TEST

START_TEST(clones_have_their_own)
{
	static const char *const names[] = {"net", "c1", "c2"};

	start_connected("net");
	expect_command(ARGS("template", "net"), 0, "net.template: template");
	expect_command(ARGS("clone", "net.template"), 113, "--net user");
	expect_command(ARGS("clone", "net.template", "-n", "2", "--name", "c%", "--net", "user",
			    "--vsock", pattern_of("v%")),
		       0, "c2: running");
	expect_told("c1");
	expect_told("c2");
	all_differ(names, 3, 'a');
	all_differ(names, 3, 'c');
	all_differ(names, 3, 'i');
}
END_TEST

START_TEST(restored_have_their_own)
{
	static const char *const names[] = {"net", "back", "fork"};
	const char *dir = scratch("identity");
	uint64_t address;

	if (!have_userfaultfd())
		skip("no userfaultfd");
	start_connected("net");
	address = identity_number("net", 'a');
	expect_command(
	    ARGS("fork", "net", "--name", "fork", "--net", "user", "--vsock", pattern_of("f")), 0,
	    "running");
	snapshot("net", dir);
	/* Its socket is the first one's. */
	expect_command(ARGS("restore", dir, "-d", "--name", "back"), 101,
		       "another program listens");
	expect_command(ARGS("restore", dir, "-d", "--name", "back", "--time-limit", GUEST_LIMIT,
			    "--net", "user", "--vsock", pattern_of("b")),
		       0, "back: running");
	expect_told("back");
	all_differ(names, 3, 'a');
	all_differ(names, 3, 'c');
	all_differ(names, 3, 'i');
	/* It has ends of its own, and no page or block for them: the parent is the same machine. */
	expect_command(ARGS("snapshot", "back", scratch("identity-diff"), "--diff"), 0,
		       "more than");
	expect_command(ARGS("verify", scratch("identity-diff")), 0, "whole");
	/* One that goes on for the first, and is no copy of it. */
	expect_command(ARGS("stop", "net", "--kill"), 0, "gone");
	while (exists(short_path("v")))
		usleep(1000);
	expect_command(ARGS("restore", dir, "-d", "--name", "net", "--time-limit", GUEST_LIMIT,
			    "--identity", "keep"),
		       0, "net: running");
	ck_assert_uint_eq(identity_number("net", 'a'), address);
	ck_assert_uint_eq(identity_number("net", 'c'), 7);
	identity_wait_for("net", 'e', 1); /* its connections are no more */
	/* A fork's snapshot is of what the fork has. */
	snapshot("fork", dir);
	address = identity_number("fork", 'a');
	expect_command(ARGS("stop", "fork", "--kill"), 0, "gone");
	while (exists(short_path("f")))
		usleep(1000);
	expect_command(ARGS("restore", dir, "-d", "--name", "again", "--time-limit", GUEST_LIMIT,
			    "--identity", "keep"),
		       0, "again: running");
	ck_assert_uint_eq(identity_number("again", 'a'), address);
	ck_assert(is_socket_there(short_path("f")));
}
END_TEST

START_TEST(refused)
{
	start_connected("net");
	expect_command(ARGS("fork", "net"), 113, "no fork: --net user: each VM needs");
	expect_command(ARGS("fork", "net", "--net", "user"), 113, "no fork: --vsock");
	expect_command(
	    ARGS("fork", "net", "--net", "user", "--net", "user", "--vsock", pattern_of("v%")), 113,
	    "has fewer networks");
	expect_command(ARGS("fork", "net", "-n", "2", "--net", "user,mac=02:00:00:00:00:11"), 100,
		       "a mac of its own");
	expect_command(ARGS("fork", "net", "-n", "2", "--net", "user,forward=2222:22"), 100,
		       "ports of its own");
	expect_command(ARGS("fork", "net", "-n", "2", "--vsock", pattern_of("v")), 100,
		       "a path of its own");
	expect_command(ARGS("fork", "net", "-n", "2", "--vsock", pattern_of("v%,cid=8")), 100,
		       "a cid of its own");
	expect_command(ARGS("fork", "net", "--net", "bridge"), 100, "give tap=NAME or user");
	identity_start("plain", "ready\n", ARGS(IDENTITY_GUEST));
	expect_command(ARGS("fork", "plain", "--net", "user"), 113, "the VM itself has no network");
	expect_command(ARGS("fork", "plain", "--vsock", pattern_of("p%")), 113, "has no vsock");
	ck_assert(!exists(short_path("p1")) || !is_socket_there(short_path("p1")));
	int fd = control_connect("plain");
	control_refused(fd, "{\"command\":\"fork\",\"nets\":[\"bridge\"]}", "bad-request");
	control_refused(fd, "{\"command\":\"fork\",\"nets\":\"tap\"}", "bad-request");
	control_refused(fd, "{\"command\":\"fork\",\"vsock\":1}", "bad-request");
	close(fd);
}
END_TEST

/* --- what a client passes -------------------------------------------------------------------- */

enum { NOTHING, LOCK, LISTEN, LOG, NET, VSOCK, CONNECTOR, PASSED };

/* A fork of "net" into @files; what the VM says of it. */
static void fork_into(int control, const int files[PASSED], char *said, size_t size)
{
	static const char order[] =
	    "fork\n{\"nets\":[[\"user,mac=02:00:00:00:00:11\",1500]],\"vsock\":[9,\"/v\"]}";
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	control_pass_all(ends[0], order, files, PASSED);
	control_pass(control, "{\"command\":\"fork\",\"nets\":[\"user\"],\"vsock\":true}\n",
		     ends[1], 1);
	close(ends[1]);
	json_t *reply = control_line(control);
	ck_assert(json_is_true(json_object_get(reply, "ok")));
	json_decref(reply);
	ssize_t n = recv(ends[0], said, size - 1, 0);
	ck_assert_int_gt(n, 0);
	said[n] = 0;
	close(ends[0]);
}

/* Each of the descriptors in turn is another thing than it is passed as. */
START_TEST(hostile_ends)
{
	static const struct {
		int which;
		const char *words;
	} cases[] = {
	    {NOTHING, "not /dev/null"}, {LOCK, "as the lock"},	{LISTEN, "the control socket"},
	    {LOG, "as the log"},	{NET, "for a network"}, {VSOCK, "for the vsock is no"},
	    {CONNECTOR, "connector"},
	};
	const struct sockaddr_un anywhere = {.sun_family = AF_UNIX};
	const char *log = scratch("log");
	int pair[2], slow[2], files[PASSED], control;
	char said[1200];

	start_connected("net");
	control = control_connect("net");
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (const void *)&anywhere, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, slow), 0);
	const int right[PASSED] = {open("/dev/null", O_RDWR),
				   open(log, O_RDWR | O_CREAT, 0600),
				   listener,
				   open(log, O_WRONLY),
				   pair[0],
				   listener,
				   pair[1]};
	/* Reading it would wait; nobody connects to it; it cannot be written. */
	const int wrong[] = {slow[0], listener, pair[0], open(log, O_RDONLY), open("/dev/null", 0)};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t w = 0; w < sizeof(wrong) / sizeof(wrong[0]); w++) {
			bool listens = cases[i].which == LISTEN || cases[i].which == VSOCK;
			bool stream = cases[i].which == NET || cases[i].which == CONNECTOR;

			if ((listens && w == 1) || (stream && w == 2) ||
			    (cases[i].which == LOCK && w == 3))
				continue; /* that is right */
			memcpy(files, right, sizeof(files));
			files[cases[i].which] = wrong[w];
			fork_into(control, files, said, sizeof(said));
			ck_assert_msg(strstr(said, cases[i].words) != NULL, "%zu, %zu: %s", i, w,
				      said);
		}
	control_number(control, "{\"command\":\"status\"}", "vcpus");
	close(control);
}
END_TEST

/* --- tap ------------------------------------------------------------------------------------- */

static bool make_tap(const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	bool ok;

	memcpy(ifr.ifr_name, name, strlen(name)); /* shorter than that */
	ok = fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0 && ioctl(fd, TUNSETPERSIST, 1) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

static void remove_tap(const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	memcpy(ifr.ifr_name, name, strlen(name)); /* shorter than that */
	if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0)
		ioctl(fd, TUNSETPERSIST, 0);
	if (fd >= 0)
		close(fd);
}

START_TEST(taps)
{
	char names[3][IFNAMSIZ], option[32], pattern[32];

	for (int i = 0; i < 3; i++)
		snprintf(names[i], sizeof(names[i]), "fid%x-%d", (unsigned)getpid() & 0xffffff, i);
	for (int i = 0; i < 3; i++)
		if (!make_tap(names[i]))
			skip("no tap interfaces here");
	snprintf(option, sizeof(option), "tap=%s", names[0]);
	snprintf(pattern, sizeof(pattern), "tap=%.*s%%", (int)strlen(names[0]) - 1, names[0]);
	identity_start("tap", "ready\n", ARGS(IDENTITY_GUEST, "--net", option));
	identity_number("tap", 'l');
	expect_command(ARGS("fork", "tap"), 113, "each VM needs an interface of its own");
	expect_command(ARGS("fork", "tap", "--net", "user"), 113, "each VM needs an interface");
	expect_command(ARGS("fork", "tap", "--net", option), 101, "another program uses it");
	expect_command(ARGS("fork", "tap", "-n", "2", "--net", pattern), 0, "tap.2: running");
	identity_wait_for("tap.1", 'n', 2);
	ck_assert_uint_eq(identity_number("tap.1", 'l'), 0);
	ck_assert_uint_ne(identity_number("tap.1", 'a'), identity_number("tap.2", 'a'));
	ck_assert_uint_ne(identity_number("tap.1", 'a'), identity_number("tap", 'a'));
	end_all();
	for (int i = 0; i < 3; i++)
		remove_tap(names[i]);
}
END_TEST

Suite *identity_suite(void)
{
	Suite *suite = suite_create("identity");
	TCase *tc = tcase_create("identity");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, forks_have_their_own);
	tcase_add_test(tc, clones_have_their_own);
	tcase_add_test(tc, restored_have_their_own);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, hostile_ends);
	tcase_add_test(tc, taps);
	suite_add_tcase(suite, tc);
	return suite;
}
