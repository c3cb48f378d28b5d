/* foal-nbd itself, with qemu-nbd, where both are there. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/devices/remote_rig.h"
#include "tests/devices/rig.h"
#include "tests/scratch.h"

/* It is built beside the directory that this program is in. */
static bool find_companion(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - sizeof("/foal-nbd"));
	char *slash;

	path[n > 0 ? n : 0] = '\0';
	for (unsigned i = 0; i < 2; i++) {
		slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = '\0';
	}
	memcpy(slash, "/foal-nbd", sizeof("/foal-nbd"));
	return access(path, X_OK) == 0;
}

static pid_t start(const char *companion, const char *how, const char *what)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	if (dup2(remote.socket[1], 3) < 0)
		_exit(2);
	execl(companion, companion, how, what, NULL);
	_exit(2);
}

static int shell(const char *command)
{
	int status = system(command); /* NOLINT(cert-env33-c): of this file alone */

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The companion, for an @image that is made; 0: not here. */
static pid_t start_qcow2(const char *image)
{
	char command[512], companion[256];

	if (!find_companion(companion, sizeof(companion)) ||
	    shell("command -v qemu-nbd qemu-img >/dev/null")) {
		fprintf(stderr, "skipped: no foal-nbd or no qemu-utils here\n");
		return 0;
	}
	snprintf(command, sizeof(command), "qemu-img create -q -f qcow2 %s 8M", image);
	ck_assert_int_eq(shell(command), 0);
	return start(companion, "qcow2", image);
}

/* In mode cow: another companion for the same disk, and one more of that, which outlives both. */
START_TEST(shared_with_others)
{
	const char *image = scratch("shared.qcow2");
	struct disk_backend *last;
	int ends[2][2];
	pid_t pid;

	pid = start_qcow2(image);
	if (!pid)
		return;
	ck_assert_int_eq(disk_remote_open(remote.socket[0], false, &remote.backend, remote.text),
			 0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends[i]), 0);
	ck_assert_int_eq(remote.backend->ops->share(remote.backend, ends[0][1]), 0);
	ck_assert_int_eq(remote_read(0, 4096), 0); /* it serves on */
	ck_assert_int_eq(disk_remote_share(ends[0][0], ends[1][1]), 0);
	for (int i = 0; i < 2; i++)
		close(ends[i][1]);
	ck_assert_int_eq(fcntl(ends[1][0], F_SETFL, O_NONBLOCK), 0);
	ck_assert_msg(disk_remote_open(ends[1][0], false, &last, remote.text) == 0, "%s",
		      remote.text);
	disk_backend_close(remote.backend);
	remote.backend = NULL;
	close(remote.socket[0]);
	close(remote.socket[1]);
	close(ends[0][0]);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_uint_eq(last->size, REMOTE_SIZE);
	remote.backend = last;
	memset(remote_buffer, 1, 4096);
	ck_assert_int_eq(remote_read(1 << 20, 4096), 0);
	ck_assert_uint_eq(remote_buffer[0], 0);
	disk_backend_close(last);
	remote.backend = NULL;
	close(ends[1][0]);
}
END_TEST

START_TEST(qcow2)
{
	const char *image = scratch("disk.qcow2"), *raw = scratch("raw");
	char command[512];
	int status;
	pid_t pid;

	pid = start_qcow2(image);
	if (!pid)
		return;
	ck_assert_int_eq(disk_remote_open(remote.socket[0], true, &remote.backend, remote.text), 0);
	ck_assert_uint_eq(remote.backend->size, REMOTE_SIZE);
	ck_assert_int_eq(remote_read(0, 1 << 20), 0);
	ck_assert_uint_eq(remote_buffer[0], 0);
	memset(remote_buffer, 0x42, 1 << 20);
	ck_assert_int_eq(remote_write(1 << 20, 1 << 20), 0);
	ck_assert_int_eq(remote.backend->ops->zero(remote.backend, 1 << 20, 64 << 10, false), 0);
	ck_assert_int_eq(remote.backend->ops->discard(remote.backend, 3 << 19, 64 << 10), 0);
	ck_assert_int_eq(remote.backend->ops->flush(remote.backend), 0);
	ck_assert_int_eq(remote_read((1 << 20) + (64 << 10), 512), 0);
	ck_assert_uint_eq(remote_buffer[0], 0x42);
	ck_assert_int_eq(remote_read(1 << 20, 512), 0);
	ck_assert_uint_eq(remote_buffer[0], 0);
	disk_backend_close(remote.backend);
	remote.backend = NULL;
	close(remote.socket[0]);
	close(remote.socket[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	snprintf(command, sizeof(command),
		 "qemu-img check -q %s && qemu-img convert -O raw %s %s && "
		 "test $(tr -d '\\0' <%s | wc -c) = %d",
		 image, image, raw, raw, (1 << 20) - (128 << 10));
	ck_assert_int_eq(shell(command), 0);
}
END_TEST

Suite *foal_nbd_suite(void)
{
	Suite *suite = suite_create("foal-nbd");
	TCase *tc = tcase_create("foal-nbd");

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, remote_set_up, remote_tear_down);
	tcase_add_test(tc, qcow2);
	tcase_add_test(tc, shared_with_others);
	suite_add_tcase(suite, tc);
	return suite;
}
