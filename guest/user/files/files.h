/* What the parts of /bin/files share. */
#ifndef FOAL_USER_FILES_H
#define FOAL_USER_FILES_H

#include "guest/user/lib/user.h"

enum {
	SYS_POLL = 7,
	SYS_LSEEK = 8,
	SYS_PWRITE64 = 18,
	SYS_READV = 19,
	SYS_WRITEV = 20,
	SYS_ACCESS = 21,
	SYS_PIPE2 = 293,
	SYS_DUP2 = 33,
	SYS_FCNTL = 72,
	SYS_FSYNC = 74,
	SYS_TRUNCATE = 76,
	SYS_FTRUNCATE = 77,
	SYS_GETCWD = 79,
	SYS_CHDIR = 80,
	SYS_RENAME = 82,
	SYS_MKDIR = 83,
	SYS_RMDIR = 84,
	SYS_LINK = 86,
	SYS_UNLINK = 87,
	SYS_SYMLINK = 88,
	SYS_READLINK = 89,
	SYS_CHMOD = 90,
	SYS_UMASK = 95,
	SYS_GETDENTS64 = 217,
	SYS_NEWFSTATAT = 262,
};

/* struct stat, as far as the host's and the guest's are to be equal. */
struct file_stat {
	uint64_t dev, ino, nlink;
	uint32_t mode, uid, gid, pad;
	uint64_t rdev;
	int64_t size, blksize, blocks, times[6], reserved[3];
};

/* 0 to n - 1 */
unsigned roll(unsigned n);
/* What comes out is part of the sum. */
extern uint64_t sum;
void note(long result);
void note_bytes(const void *data, size_t len);

/* A call with random arguments; its result, and its name. */
long one_call(const char **name);
void close_all(void);

/* Every name below the directory: kind, mode, links, size, sum of the contents. */
void print_tree(const char *path);

#endif
