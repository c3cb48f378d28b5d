/* Open files: of the filesystem, and of character devices. */
#include "guest/include/file.h"
#include "guest/include/errno.h"
#include "guest/include/file_rw.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"

/* --- regular files and directories -------------------------------------------------------------
 */

static s64 regular_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	s64 done = file_read_user(f->inode, *pos, buf, n);

	if (done > 0)
		*pos += (u64)done;
	return done;
}

static s64 regular_write(struct file *f, u64 *pos, u64 buf, size_t n)
{
	return file_write_user(f->inode, pos, buf, n, f->flags & O_APPEND);
}

static s64 directory_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	(void)f, (void)pos, (void)buf, (void)n;
	return -EISDIR;
}

const struct file_ops regular_file_ops = {
    .read = regular_read, .write = regular_write, .seeks = true};
const struct file_ops directory_file_ops = {.read = directory_read, .seeks = true};

/* O_PATH: a place in the tree and nothing more. */
static const struct file_ops path_file_ops;

/* --- character devices --------------------------------------------------------------------------
 */

static const struct chardev *dev_of(const struct file *f)
{
	return f->inode->private;
}

static bool readable(const struct chardev *dev)
{
	return !dev->readable || dev->readable();
}

static s64 chardev_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	(void)pos;
	if ((f->flags & O_NONBLOCK) && !readable(dev_of(f)))
		return -EAGAIN;
	return dev_of(f)->read(buf, n);
}

static s64 chardev_write(struct file *f, u64 *pos, u64 buf, size_t n)
{
	(void)pos;
	return dev_of(f)->write(buf, n);
}

static u32 chardev_poll(struct file *f)
{
	return POLLOUT | POLLWRNORM | (readable(dev_of(f)) ? POLLIN | POLLRDNORM : 0);
}

static s64 chardev_ioctl(struct file *f, u32 cmd, u64 arg)
{
	return dev_of(f)->ioctl ? dev_of(f)->ioctl(cmd, arg) : -ENOTTY;
}

const struct file_ops chardev_file_ops = {
    .read = chardev_read, .write = chardev_write, .poll = chardev_poll, .ioctl = chardev_ioctl};

/* --- opening ------------------------------------------------------------------------------------
 */

struct file *file_alloc(u32 flags, const struct file_ops *ops, void *private)
{
	struct file *f = kzalloc(sizeof(*f));

	if (f)
		*f = (struct file){.refcount = 1, .flags = flags, .ops = ops, .private = private};
	return f;
}

static int start_file(struct file *f)
{
	if (f->flags & O_PATH) {
		f->ops = &path_file_ops;
		return 0;
	}
	switch (f->inode->mode & S_IFMT) {
	case S_IFDIR:
		f->ops = &directory_file_ops;
		return 0;
	case S_IFCHR:
		f->ops = &chardev_file_ops;
		return 0;
	case S_IFIFO:
		return fifo_open(f);
	case S_IFREG:
		f->ops = f->inode->file_ops ? f->inode->file_ops : &regular_file_ops;
		return 0;
	default:
		return -ENXIO;
	}
}

int file_open_at(struct inode *base, const char *path, u32 flags, u32 mode, struct file **out)
{
	struct file *f = file_alloc(flags & ~(u32)(O_CREAT | O_EXCL | O_TRUNC), NULL, NULL);
	struct inode *inode;
	int err;

	if (!f)
		return -ENOMEM;
	if (flags & O_PATH)
		flags &= O_DIRECTORY | O_NOFOLLOW | O_PATH;
	err = flags & O_PATH && flags & O_NOFOLLOW ? fs_lookup_at(base, path, false, &inode)
						   : fs_open(base, path, flags, mode, &inode);
	if (!err) {
		f->inode = inode;
		err = start_file(f);
	}
	if (err)
		file_put(f);
	else
		*out = f;
	return err;
}

int file_open(const char *path, u32 flags, struct file **out)
{
	return file_open_at(NULL, path, flags, 0, out);
}

void file_put(struct file *f)
{
	if (__atomic_sub_fetch(&f->refcount, 1, __ATOMIC_ACQ_REL))
		return;
	if (f->ops && f->ops->release)
		f->ops->release(f);
	if (f->inode)
		inode_put(f->inode);
	kfree(f);
}
