/* What --disk and --pmem say. */
#ifndef FOAL_VMM_FILE_OPTION_H
#define FOAL_VMM_FILE_OPTION_H

#include "devices/devices.h"
#include "vmm/error.h"

/* What is behind the path of a disk. */
enum file_kind {
	FILE_UNSAID, /* a raw file, unless it looks like something else */
	FILE_RAW,
	FILE_QCOW2,    /* served by qemu-nbd */
	FILE_NBD_UNIX, /* an NBD server's socket */
	FILE_NBD_URI,  /* an NBD server, by its URI */
};

struct file_option {
	char *path; /* owned; of FILE_NBD_UNIX the socket alone */
	enum disk_mode mode;
	enum file_kind kind;
};

/* FILE[,mode=...], and for @disk also format=... and NBD servers. @out->path may be set on error.
 */
int file_option_parse(const char *name, const char *value, bool disk, struct file_option *out,
		      struct foal_error *err);

#endif
