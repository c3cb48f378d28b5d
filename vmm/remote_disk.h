/* Disks that a companion program serves: qcow2 files and NBD servers. Private to vmm/. */
#ifndef FOAL_VMM_REMOTE_DISK_H
#define FOAL_VMM_REMOTE_DISK_H

#include "vmm/file_option.h"
#include "vmm/helper.h"

/* Is that how @option is served? */
bool remote_disk_wanted(const struct file_option *option);

/*
 * Start foal-nbd, which lies beside this program, and wait until it is connected.
 * *@out is the caller's to close, or to give to a device.
 */
int remote_disk_open(const struct file_option *option, struct helpers *helpers,
		     struct disk_backend **out, struct foal_error *err);
/* The same of one that was started and is behind @socket, which stays the caller's. */
int remote_disk_connect(const struct file_option *option, int socket, struct disk_backend **out,
			struct foal_error *err);

#endif
