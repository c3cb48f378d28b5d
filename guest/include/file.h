/* Open files. */
#ifndef GUEST_FILE_H
#define GUEST_FILE_H

#include "guest/include/types.h"

#define O_ACCMODE   3
#define O_RDONLY    0
#define O_WRONLY    1
#define O_RDWR	    2
#define O_CREAT	    0100
#define O_TRUNC	    01000
#define O_APPEND    02000
#define O_DIRECTORY 0200000
#define O_CLOEXEC   02000000

struct inode;
struct chardev;

/* One open, shared by the descriptors that dup and fork made of it. */
struct file {
	s32 refcount;
	u32 flags; /* O_* */
	u64 pos;
	struct inode *inode;	   /* or NULL with: */
	const struct chardev *dev; /* a device of ours */
};

/* A character device. Buffers are the user's; bytes done or negative errno. */
struct chardev {
	const char *path;
	s64 (*read)(u64 buf, size_t n);
	s64 (*write)(u64 buf, size_t n);
};

extern const struct chardev console_dev;

/* The current task's open file, without a reference, or NULL. */
struct file *fd_get(u64 fd);
/* Puts a file (reference taken over) at the lowest free descriptor; -EMFILE. */
int fd_install(struct file *f);
int file_open(const char *path, u32 flags, struct file **out);
void file_put(struct file *f);

struct task;
void files_fork(struct task *child, const struct task *parent);
void files_close(struct task *t, bool on_exec);

#endif
