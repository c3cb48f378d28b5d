#include "vmm/file_option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/option_values.h"

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* The forms in which NBD's own tools write a server (libnbd's URIs, QEMU's nbd:unix:). */
static enum file_kind nbd_kind(const char *path)
{
	static const char *const schemes[] = {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"};

	if (begins(path, "nbd:unix:"))
		return FILE_NBD_UNIX;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
		if (begins(path, schemes[i]))
			return FILE_NBD_URI;
	}
	return FILE_UNSAID;
}

/* What of the disk's is not said by FILE and mode. */
static int take_kind(const char *name, const char *value, const char *format,
		     struct file_option *out, struct foal_error *err)
{
	static const char *const formats[] = {"raw", "qcow2", NULL};
	int word = 0, r = 0;

	out->kind = nbd_kind(out->path);
	if (out->kind == FILE_NBD_UNIX) {
		const char *path = out->path + strlen("nbd:unix:");
		memmove(out->path, path, strlen(path) + 1);
	}
	if (!format)
		return 0;
	if (out->kind != FILE_UNSAID)
		return option_bad(err, name, value,
				  "format= is for files; an NBD server has its own");
	r = option_field_word(name, "format", format, formats, &word, err);
	out->kind = word ? FILE_QCOW2 : FILE_RAW;
	return r;
}

int file_option_parse(const char *name, const char *value, bool disk, struct file_option *out,
		      struct foal_error *err)
{
	static const char *const disk_keys[] = {"mode", "format", NULL};
	static const char *const pmem_keys[] = {"mode", NULL};
	static const char *const modes[] = {
	    [DISK_RO] = "ro", [DISK_COW] = "cow", [DISK_SHARED] = "shared", NULL};
	const char *words[2] = {NULL, NULL};
	int mode = DISK_COW;

	out->path = strdup(value);
	if (!out->path)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "run: out of memory");
	int r = option_fields(name, out->path, disk ? disk_keys : pmem_keys, words, err);
	if (r == 0 && words[0])
		r = option_field_word(name, "mode", words[0], modes, &mode, err);
	if (r == 0 && disk)
		r = take_kind(name, value, words[1], out, err);
	if (r == 0 && !out->path[0])
		r = option_bad(err, name, value, "give a file");
	out->mode = (enum disk_mode)mode;
	return r;
}
