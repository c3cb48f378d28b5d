#include "vmm/remote_disk.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool remote_disk_wanted(const struct file_option *option)
{
	switch (option->kind) {
	case FILE_QCOW2:
	case FILE_NBD_UNIX:
	case FILE_NBD_URI:
		return true;
	case FILE_UNSAID:
	case FILE_RAW:
		return false;
	}
	return false;
}

static const char *how(const struct file_option *option)
{
	if (option->kind == FILE_QCOW2)
		return "qcow2";
	return option->kind == FILE_NBD_UNIX ? "unix" : "uri";
}

static int disk_error(const struct file_option *option, int error, const char *what,
		      struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_DISK, error, "--disk %s: %s", option->path,
			 what[0] ? what : strerror(-error));
}

static int find_companion(char *path, size_t size, struct foal_error *err)
{
	int r = helper_beside("foal-nbd", path, size, err);

	if (r)
		return r;
	if (access(path, X_OK))
		return error_set(err, FOAL_EXIT_HOST, -errno,
				 "%s: %s; qcow2 and NBD disks need this program, build it with "
				 "make",
				 path, strerror(errno));
	return 0;
}

/* qemu-nbd would say the same, but after a second or two, and in more words. */
static int check_qcow2(const struct file_option *option, struct foal_error *err)
{
	static const char magic[4] = {'Q', 'F', 'I', '\xfb'};
	FILE *file = fopen(option->path, "rbe");
	char head[sizeof(magic)];
	size_t n;

	if (!file)
		return disk_error(option, -errno, "", err);
	n = fread(head, 1, sizeof(head), file);
	fclose(file);
	if (n < sizeof(head) || memcmp(head, magic, sizeof(magic)) != 0)
		return disk_error(option, -EINVAL,
				  "not a qcow2 image; without format= it is taken for raw", err);
	return 0;
}

int remote_disk_connect(const struct file_option *option, int socket, struct disk_backend **out,
			struct foal_error *err)
{
	char text[DISK_TEXT];
	int r = disk_remote_open(socket, option->mode == DISK_SHARED, out, text);

	return r ? disk_error(option, r, text, err) : 0;
}

int remote_disk_open(const struct file_option *option, struct helpers *helpers,
		     struct disk_backend **out, struct foal_error *err)
{
	char path[PATH_MAX];
	const char *argv[] = {path, how(option), option->path, NULL};
	int socket, r = 0;

	if (option->kind == FILE_QCOW2)
		r = check_qcow2(option, err);
	if (r == 0)
		r = find_companion(path, sizeof(path), err);
	if (r == 0)
		r = helper_start(helpers, argv, "--disk",
				 "what the guest asks of this disk fails from now on", &socket,
				 err);
	if (r)
		return r;
	r = remote_disk_connect(option, socket, out, err);
	close(socket);
	return r;
}
