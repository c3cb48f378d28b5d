/* The socket of --vsock: who else has its path, and what is left of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/helper.h"
#include "vmm/vsock.h"

#define SECONDS 60

static struct helpers helpers;
static struct foal_error err;

static void set_up(void)
{
	helpers = (struct helpers){.count = 0};
	err = (struct foal_error){.status = 0};
}

/* Too many helpers: no socket stays behind that nobody would remove. */
START_TEST(vsock_without_a_connector)
{
	const char *path = scratch("sock");
	struct vsock_option option = {.path = (char *)path, .cid = 3};
	struct vm_vsock vsock = {.listener = -1, .connector = -1};

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
	const char *path = scratch("sock");
	char answers[RIVALS];

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
}
END_TEST

/* Somebody keeps the directory: an error after a while, and the socket that is there stays. */
START_TEST(vsock_directory_is_locked)
{
	const char *path = scratch("sock");
	struct vsock_option option = {.path = (char *)path, .cid = 3};
	struct vm_vsock vsock = {.listener = -1, .connector = -1};

	leave_socket(path);
	int lock = vsock_lock(path);
	ck_assert_int_ge(lock, 0);
	ck_assert_int_eq(vsock_open(&vsock, &option, &helpers, &err), -EWOULDBLOCK);
	ck_assert_ptr_nonnull(strstr(err.text, "keeps its directory locked"));
	ck_assert_int_eq(access(path, F_OK), 0);
	close(lock);
}
END_TEST

/* A file that is no socket refuses a connection as one that nobody listens on does. */
START_TEST(vsock_path_of_a_file)
{
	const char *path = scratch("file");
	struct vsock_option option = {.path = (char *)path, .cid = 3};
	struct vm_vsock vsock = {.listener = -1, .connector = -1};
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(vsock_open(&vsock, &option, &helpers, &err), -EADDRINUSE);
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(vsock.listener, -EADDRINUSE);
	close(fd);
}
END_TEST

Suite *vsock_option_suite(void)
{
	Suite *suite = suite_create("vsock");
	TCase *tc = tcase_create("vsock");

	tcase_set_timeout(tc, 3 * SECONDS);
	tcase_add_checked_fixture(tc, set_up, NULL);
	tcase_add_test(tc, vsock_path_of_a_file);
	tcase_add_test(tc, vsock_rivals);
	tcase_add_test(tc, vsock_directory_is_locked);
	tcase_add_test(tc, vsock_without_a_connector);
	suite_add_tcase(suite, tc);
	return suite;
}
