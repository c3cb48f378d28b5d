/* What an image of an ext file system holds, as the host's own tools say. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/kvm/runner.h"

int run_tool(const char *out, const char *const *argv)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open(out ? out : "/dev/null", O_WRONLY | O_CREAT | O_TRUNC, 0644);
		dup2(fd, 1);
		dup2(open("/dev/null", O_WRONLY), 2);
		setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* By its name, not from a shell: busybox's has another mke2fs built in. */
void make_ext2(const char *image, const char *tree, const char *block_size, const char *size)
{
	ck_assert_int_eq(run_tool(NULL, ARGS("mke2fs", "-q", "-F", "-t", "ext2", "-b", block_size,
					     "-d", tree, image, size)),
			 0);
}

unsigned char *file_in_image(const char *image, const char *path, size_t *len)
{
	char command[64];
	const char *out = scratch("dumped");

	snprintf(command, sizeof(command), "cat %s", path);
	ck_assert_int_eq(run_tool(out, ARGS("debugfs", "-R", command, image)), 0);
	return read_file(out, len);
}

void sum_in_image(const char *image, const char *path, char sum[SHA256_HEX])
{
	size_t len;
	unsigned char *data = file_in_image(image, path, &len);

	ck_assert_msg(len > 0, "%s: no %s, or it is empty", image, path);
	sha256_hex(data, len, sum);
	free(data);
}

void expect_fs_clean(const char *image)
{
	int status = run_tool(NULL, ARGS("e2fsck", "-fn", image));

	ck_assert_msg(status == 0, "e2fsck -fn %s: status %d", image, status);
}

void guest_lines(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		if (*from != '\r')
			*to++ = *from;
	}
	*to = 0;
	to = strstr(text, "faults: ");
	if (to)
		*to = 0;
}
