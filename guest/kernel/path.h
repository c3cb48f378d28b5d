/* A path that a system call was given: copied in, with the directory where it starts. */
#ifndef GUEST_PATH_H
#define GUEST_PATH_H

#include "guest/include/file.h"
#include "guest/include/fs.h"

struct at {
	char *path;
	struct inode *base; /* NULL: the root */
};

#define AT_SYMLINK_NOFOLLOW 0x100
#define AT_EACCESS	    0x200
#define AT_REMOVEDIR	    0x200
#define AT_SYMLINK_FOLLOW   0x400
#define AT_NO_AUTOMOUNT	    0x800
#define AT_EMPTY_PATH	    0x1000

/* dirfd is AT_FDCWD or a descriptor. 0 and at_put is due, or -EFAULT, -EBADF, ... */
s64 at_get(struct at *at, u64 dirfd, u64 user_path);
void at_put(struct at *at);

/* The inode of the path, with a reference; with AT_EMPTY_PATH an empty one is dirfd's. */
s64 at_lookup(u64 dirfd, u64 user_path, u64 flags, struct inode **out);

#endif
