/*
 * Helpers: what they get of foal, what is said of those that end, and --net,
 * whose user mode is one.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/helper.h"
#include "vmm/net.h"
#include "vmm/vsock.h"

#define SECONDS 10

static struct helpers helpers;
static struct foal_error err;

static void set_up(void)
{
	helpers = (struct helpers){.count = 0};
	err = (struct foal_error){.status = 0};
}

/* A shell that does @script, its socket. */
static int start(const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	int fd = -1, r = helper_start(&helpers, argv, "--test", "something is gone", &fd, &err);

	ck_assert_msg(r == 0, "%s", err.text);
	return fd;
}

/* All that it says until it ends, at most @max - 1 bytes. */
static void hear(int fd, char *text, size_t max)
{
	size_t len = 0;
	ssize_t n = 1;

	while (n > 0 && len < max - 1) {
		struct pollfd pfd = {.fd = fd, .events = POLLIN};

		ck_assert_int_eq(poll(&pfd, 1, SECONDS * 1000), 1);
		n = read(fd, text + len, max - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	text[len] = 0;
}

/* Wait for the end of helper 0, as run.c does; what was said on standard error. */
static void watch(char *text, size_t max)
{
	struct pollfd fds[MAX_HELPERS];
	int said[2], err_fd = dup(STDERR_FILENO);

	helpers_poll(&helpers, fds);
	ck_assert_int_eq(poll(fds, helpers.count, SECONDS * 1000), 1);
	ck_assert_int_eq(pipe(said), 0);
	dup2(said[1], STDERR_FILENO);
	helpers_look(&helpers, fds, "vm");
	dup2(err_fd, STDERR_FILENO);
	close(err_fd);
	close(said[1]);
	hear(said[0], text, max);
	close(said[0]);
}

START_TEST(talks_over_its_socket)
{
	int fd = start("cat <&3 >&3");
	char text[16];

	ck_assert_int_eq(write(fd, "hello", 5), 5);
	shutdown(fd, SHUT_WR);
	hear(fd, text, sizeof(text));
	ck_assert_str_eq(text, "hello");
	close(fd);
	helpers_stop(&helpers);
	/* Reaped. */
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

START_TEST(gets_nothing_else)
{
	/* Not closed on exec, as a library's may be. */
	int stray = dup2(STDIN_FILENO, 40), fd;
	char text[256];

	fd = start("ls /proc/self/fd >&3");
	hear(fd, text, sizeof(text));
	/* 4 is the directory that ls reads. */
	ck_assert_str_eq(text, "0\n1\n2\n3\n4\n");
	close(fd);
	close(stray);
	helpers_stop(&helpers);
}
END_TEST

/* The set after @name in @text, but for the two that are libc's own: no program can change those.
 */
static unsigned long signals_in(const char *text, const char *name)
{
	const char *set = strstr(text, name);

	ck_assert_ptr_nonnull(set);
	return strtoul(set + strlen(name), NULL, 16) & ~(3UL << 31);
}

START_TEST(has_plain_signals_and_a_session)
{
	char text[256], *end;
	int fd;

	signal(SIGPIPE, SIG_IGN);
	fd = start("grep -E '^Sig(Ign|Blk)' /proc/self/status >&3;"
		   "cut -d' ' -f6 /proc/self/stat >&3; echo $$ >&3");
	hear(fd, text, sizeof(text));
	ck_assert_msg(!signals_in(text, "SigIgn:") && !signals_in(text, "SigBlk:"), "%s", text);
	end = strrchr(text, '\t');
	end = strchr(end, '\n') + 1;
	/* Its session is itself. */
	ck_assert_int_eq(strtol(end, &end, 10), strtol(end + 1, NULL, 10));
	close(fd);
	helpers_stop(&helpers);
}
END_TEST

START_TEST(is_not_there)
{
	const char *const argv[] = {"no-such-program", NULL};
	int fd = -1;

	ck_assert_int_eq(helper_start(&helpers, argv, "--test", "", &fd, &err), -ENOENT);
	ck_assert_int_eq(err.status, FOAL_EXIT_HOST);
	ck_assert_str_eq(err.text, "--test needs the program no-such-program: No such file or "
				   "directory; install Debian's package of that name");
	ck_assert_int_eq(helpers.count, 0);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(ends_early)
{
	static const struct {
		const char *script, *said;
	} ends[] = {
	    {"exit 3", "foal: vm: --test: its helper ended (status 3): something is gone\n"},
	    {"kill -9 $$", "foal: vm: --test: its helper ended (signal 9): something is gone\n"},
	};
	int fd = start(ends[_i].script);
	struct pollfd fds[MAX_HELPERS];
	char text[256];

	watch(text, sizeof(text));
	ck_assert_str_eq(text, ends[_i].said);
	/* Said once; nothing is left to poll. */
	helpers_poll(&helpers, fds);
	ck_assert_int_eq(poll(fds, helpers.count, 0), 0);
	close(fd);
	helpers_stop(&helpers);
}
END_TEST

/* One that does not end when its socket is closed holds nobody up for long. */
START_TEST(stays)
{
	int fd = start("echo $$ >&3; exec 3>&-; exec sleep 100");
	char text[16];

	hear(fd, text, sizeof(text));
	close(fd);
	helpers_stop(&helpers);
	kill((pid_t)atoi(text), SIGKILL);
}
END_TEST

START_TEST(dies_with_foal)
{
	char text[16] = "";
	int pair[2];

	ck_assert_int_eq(pipe(pair), 0);
	pid_t foal = fork();
	if (foal == 0) {
		int fd = start("echo $$ >&3; exec sleep 100");

		ck_assert_int_gt(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1), 0);
		ssize_t n = read(fd, text, sizeof(text));
		if (write(pair[1], text, (size_t)n) == n)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	close(pair[1]);
	ck_assert_int_eq(waitpid(foal, NULL, 0), foal);
	hear(pair[0], text, sizeof(text));
	pid_t helper = (pid_t)atoi(text);
	ck_assert_int_gt(helper, 1);
	/* A zombie of init's at most. */
	char path[32], state = 0;
	snprintf(path, sizeof(path), "/proc/%d/stat", helper);
	for (unsigned i = 0; i < SECONDS * 100; i++, usleep(10000)) {
		FILE *stat = fopen(path, "re");
		if (!stat || fscanf(stat, "%*d %*s %c", &state) != 1)
			state = 'X';
		if (stat)
			fclose(stat);
		if (state == 'Z' || state == 'X')
			break;
	}
	ck_assert_msg(state == 'Z' || state == 'X', "it is still there, %c", state);
	close(pair[0]);
}
END_TEST

/* --- --net ------------------------------------------------------------------------------- */

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
	struct net_option option = {.forward = ""};
	struct vm_net net = {.device = NULL};
	struct pollfd fds[MAX_HELPERS];

	if (access("/usr/bin/passt", X_OK)) {
		puts("SKIP user_mode: no passt");
		return;
	}
	ck_assert_msg(net_open(&net, &option, &helpers, &err) == 0, "%s", err.text);
	ck_assert_int_eq(net.config.kind, NET_STREAM);
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

/* Too many helpers: no socket stays behind that nobody would remove. */
START_TEST(vsock_without_a_connector)
{
	char path[] = "/tmp/foal-test-XXXXXX";
	struct vsock_option option = {.path = path, .cid = 3};
	struct vm_vsock vsock = {.listener = -1, .connector = -1};
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	close(fd);
	unlink(path);
	helpers.count = MAX_HELPERS;
	ck_assert_int_eq(vsock_open(&vsock, &option, &helpers, &err), -E2BIG);
	ck_assert_int_ne(access(path, F_OK), 0);
	vsock_close(&vsock);
}
END_TEST

#define RIVALS 8
#define ROUNDS 25

/* A socket file that nobody listens on. */
static void leave_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

/* In a child: try to have the path once @go ends, say how it went, and stay until @stay does. */
static void rival(const char *path, int go, int said, int stay)
{
	struct vsock_option option = {.path = (char *)path, .cid = 3};
	struct vm_vsock vsock = {.listener = -1, .connector = -1};
	char c, won;

	if (read(go, &c, 1) < 0)
		_exit(1);
	won = vsock_open(&vsock, &option, &helpers, &err) == 0 ? 'y' : 'n';
	if (write(said, &won, 1) < 0 || read(stay, &c, 1) < 0)
		_exit(1);
	_exit(0);
}

/* Of foals that find the same left-over socket one has it, and keeps it. */
START_TEST(vsock_rivals)
{
	char directory[] = "/tmp/foal-test-XXXXXX", path[64];
	char answers[RIVALS];

	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/sock", directory);
	for (unsigned round = 0; round < ROUNDS; round++) {
		struct sockaddr_un address = {.sun_family = AF_UNIX};
		int go[2], said[2], stay[2], client = socket(AF_UNIX, SOCK_STREAM, 0);
		unsigned won = 0;

		leave_socket(path);
		ck_assert(!pipe(go) && !pipe(said) && !pipe(stay));
		for (unsigned i = 0; i < RIVALS; i++) {
			if (fork() == 0) {
				close(go[1]);
				close(stay[1]);
				rival(path, go[0], said[1], stay[0]);
			}
		}
		close(go[1]);
		for (unsigned i = 0; i < RIVALS; i++) {
			ck_assert_int_eq(read(said[0], &answers[i], 1), 1);
			won += answers[i] == 'y';
		}
		ck_assert_uint_eq(won, 1);
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
		ck_assert_int_eq(connect(client, (struct sockaddr *)&address, sizeof(address)), 0);
		close(client);
		close(stay[1]);
		for (unsigned i = 0; i < RIVALS; i++)
			wait(NULL);
		close(go[0]), close(said[0]), close(said[1]), close(stay[0]);
		unlink(path);
	}
	rmdir(directory);
}
END_TEST

/* Somebody keeps the directory: an error after a while, and the socket that is there stays. */
START_TEST(vsock_directory_is_locked)
{
	char directory[] = "/tmp/foal-test-XXXXXX", path[64];
	struct vsock_option option = {.path = path, .cid = 3};
	struct vm_vsock vsock = {.listener = -1, .connector = -1};

	ck_assert_ptr_nonnull(mkdtemp(directory));
	snprintf(path, sizeof(path), "%s/sock", directory);
	leave_socket(path);
	int lock = vsock_lock(path);
	ck_assert_int_ge(lock, 0);
	ck_assert_int_eq(vsock_open(&vsock, &option, &helpers, &err), -EWOULDBLOCK);
	ck_assert_ptr_nonnull(strstr(err.text, "keeps its directory locked"));
	ck_assert_int_eq(access(path, F_OK), 0);
	close(lock);
	unlink(path);
	rmdir(directory);
}
END_TEST

/* A file that is no socket refuses a connection as one that nobody listens on does. */
START_TEST(vsock_path_of_a_file)
{
	char path[] = "/tmp/foal-test-XXXXXX";
	struct vsock_option option = {.path = path, .cid = 3};
	struct vm_vsock vsock = {.listener = -1, .connector = -1};
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(vsock_open(&vsock, &option, &helpers, &err), -EADDRINUSE);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(vsock.listener, -EADDRINUSE);
	close(fd);
	unlink(path);
}
END_TEST

Suite *helper_suite(void)
{
	Suite *suite = suite_create("helpers");
	TCase *tc = tcase_create("helpers"), *net = tcase_create("net");

	tcase_set_timeout(tc, 3 * SECONDS);
	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, talks_over_its_socket);
	tcase_add_test(tc, gets_nothing_else);
	tcase_add_test(tc, has_plain_signals_and_a_session);
	tcase_add_test(tc, is_not_there);
	tcase_add_loop_test(tc, ends_early, 0, 2);
	tcase_add_test(tc, stays);
	tcase_add_test(tc, dies_with_foal);
	suite_add_tcase(suite, tc);
	tcase_set_timeout(net, 3 * SECONDS);
	tcase_add_checked_fixture(net, set_up, NULL);
	tcase_add_test(net, net_options);
	tcase_add_test(net, vsock_path_of_a_file);
	tcase_add_test(net, vsock_rivals);
	tcase_add_test(net, vsock_directory_is_locked);
	tcase_add_test(net, vsock_without_a_connector);
	tcase_add_test(net, user_mode);
	tcase_add_test(net, tap_that_cannot_be);
	suite_add_tcase(suite, net);
	return suite;
}
