/* Open files, and the descriptors that stand for them. */
#ifndef GUEST_FILE_H
#define GUEST_FILE_H

#include "guest/include/spinlock.h"
#include "guest/include/types.h"

#define O_ACCMODE   3
#define O_RDONLY    0
#define O_WRONLY    1
#define O_RDWR	    2
#define O_CREAT	    0100
#define O_EXCL	    0200
#define O_NOCTTY    0400
#define O_TRUNC	    01000
#define O_APPEND    02000
#define O_NONBLOCK  04000
#define O_DIRECTORY 0200000
#define O_NOFOLLOW  0400000
#define O_CLOEXEC   02000000
#define O_PATH	    010000000

#define AT_FDCWD    (-100)

#define POLLIN	    0x001U
#define POLLOUT	    0x004U
#define POLLERR	    0x008U
#define POLLHUP	    0x010U
#define POLLNVAL    0x020U
#define POLLRDNORM  0x040U
#define POLLWRNORM  0x100U

#define RW_MAX	    0x7ffff000UL /* most bytes of one call, as on Linux */
#define FILES_MAX   256

struct inode;
struct file;
struct task;

/* What an open file does. Buffers are the user's; bytes done or negative errno. */
struct file_ops {
	/* *pos moves behind what was done. */
	s64 (*read)(struct file *f, u64 *pos, u64 buf, size_t n);
	s64 (*write)(struct file *f, u64 *pos, u64 buf, size_t n);
	/* What would not wait: POLL*. NULL: reading and writing. */
	u32 (*poll)(struct file *f);
	s64 (*ioctl)(struct file *f, u32 cmd, u64 arg);
	void (*release)(struct file *f);
	bool seeks;	 /* has a position, */
	bool by_address; /* which is an address: of either sign, and there is no end */
};

/* One open, shared by the descriptors that dup and fork made of it. */
struct file {
	s32 refcount;
	u32 flags; /* O_* */
	u64 pos;
	struct inode *inode; /* or NULL: a pipe without a name */
	const struct file_ops *ops;
	void *private;
};

/* A character device; its names are in fs/devfs.c. */
struct chardev {
	s64 (*read)(u64 buf, size_t n);
	s64 (*write)(u64 buf, size_t n);
	bool (*readable)(void);		/* without waiting; NULL: always */
	s64 (*ioctl)(u32 cmd, u64 arg); /* NULL: -ENOTTY */
	u32 major, minor;
};

extern const struct chardev console_dev;
extern const struct file_ops chardev_file_ops, regular_file_ops, directory_file_ops;

/* --- open files ------------------------------------------------------------------------------- */

/* A file without an inode, one reference; NULL without memory. */
struct file *file_alloc(u32 flags, const struct file_ops *ops, void *private);
/* base and path as fs_open's. */
int file_open_at(struct inode *base, const char *path, u32 flags, u32 mode, struct file **out);
int file_open(const char *path, u32 flags, struct file **out);
static inline void file_get(struct file *f)
{
	__atomic_fetch_add(&f->refcount, 1, __ATOMIC_RELAXED);
}
/* Sleeps where it is the last. */
void file_put(struct file *f);

/* --- the current task's descriptors ------------------------------------------------------------
 */

/* Descriptors, working directory and umask: what CLONE_FILES and CLONE_FS share. */
struct files;

/* The open file with a reference, or NULL. */
struct file *fd_file(u64 fd);
/* Takes the reference over: the lowest free descriptor from `from` on, or -EMFILE, and f is put. */
int fd_install_from(struct file *f, u64 from, bool cloexec);
int fd_install(struct file *f);
/* A new file without an inode; private goes with it (release) if there is no memory or descriptor.
 */
int fd_install_new(u32 flags, const struct file_ops *ops, void *private);
/* Replaces what fd was; f's reference is taken over. */
int fd_replace(u64 fd, struct file *f, bool cloexec);
int fd_close(u64 fd);
bool fd_get_cloexec(u64 fd);
void fd_set_cloexec(u64 fd, bool on);

/* The working directory, with a reference; NULL: the root. */
struct inode *cwd_get(void);
/* Takes the reference over. */
void cwd_set(struct inode *dir);
u32 umask_set(u32 mask);
u32 umask_get(void);

/* The first task's: all closed. 0 or -ENOMEM. */
int files_init(struct task *t);
/* The child's own copies. 0 or -ENOMEM. */
int files_fork(struct task *child, const struct task *parent);
/* The child has the same. */
void files_share(struct task *child, const struct task *parent);
void files_release(struct task *t);
void files_close_on_exec(struct task *t);
/* A descriptor of any task's that is open, from fd on, or -1; *out with a reference. */
int files_next(const struct task *t, int fd, struct file **out);
struct inode *files_cwd(const struct task *t);

/* --- pipes, poll --------------------------------------------------------------------------------
 */

/* Both ends of a new pipe. */
int pipe_open(u32 flags, struct file *ends[2]);
/* f becomes an end of the named pipe, waiting for the other. 0, -ENXIO, -EINTR, -ENOMEM. */
int fifo_open(struct file *f);
u32 pipe_bytes(const struct file *f);

/* What poll waits for may have come. Any context. */
void poll_wake(void);

#endif
