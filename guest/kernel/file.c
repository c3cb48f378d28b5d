/* Open files and descriptors. */
#include "guest/include/file.h"
#include "guest/include/errno.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/string.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

static s64 null_read(u64 buf, size_t n)
{
	(void)buf, (void)n;
	return 0;
}

static s64 null_write(u64 buf, size_t n)
{
	(void)buf;
	return (s64)n;
}

static s64 zero_read(u64 buf, size_t n)
{
	size_t bad = clear_user(buf, n);

	return bad == n && n ? -EFAULT : (s64)(n - bad);
}

static const struct chardev null_dev = {"/dev/null", null_read, null_write};
static const struct chardev zero_dev = {"/dev/zero", zero_read, null_write};

/* The kernel's own devices, in front of whatever /dev the disk holds. */
static const struct chardev *const chardevs[] = {&console_dev, &null_dev, &zero_dev};

static const struct chardev *chardev_of(const char *path)
{
	if (!strcmp(path, "/dev/tty") || !strcmp(path, "/dev/ttyS0"))
		return &console_dev;
	for (unsigned i = 0; i < ARRAY_SIZE(chardevs); i++)
		if (!strcmp(path, chardevs[i]->path))
			return chardevs[i];
	return NULL;
}

int file_open(const char *path, u32 flags, struct file **out)
{
	const struct chardev *dev = chardev_of(path);
	struct inode *inode = NULL;
	struct file *f;
	int err;

	if (!dev) {
		err = fs_lookup(path, &inode);
		if (err == -ENOENT && (flags & O_CREAT))
			return -EROFS;
		if (err)
			return err;
		err = -EISDIR;
		if (S_ISDIR(inode->mode) && (flags & O_ACCMODE) != O_RDONLY)
			goto put;
		err = -ENOTDIR;
		if (!S_ISDIR(inode->mode) && (flags & O_DIRECTORY))
			goto put;
		err = -EROFS;
		if ((flags & O_ACCMODE) != O_RDONLY && fs_read_only(inode))
			goto put;
		/* Nothing ever shrinks either. */
		if ((flags & O_TRUNC) && inode->size)
			goto put;
	}
	err = -ENOMEM;
	f = kzalloc(sizeof(*f));
	if (!f)
		goto put;
	*f = (struct file){.refcount = 1, .flags = flags, .inode = inode, .dev = dev};
	*out = f;
	return 0;
put:
	if (inode)
		inode_put(inode);
	return err;
}

void file_put(struct file *f)
{
	if (--f->refcount)
		return;
	if (f->inode)
		inode_put(f->inode);
	kfree(f);
}

struct file *fd_get(u64 fd)
{
	return fd < TASK_FILES ? current->files[fd] : NULL;
}

int fd_install(struct file *f)
{
	for (int fd = 0; fd < TASK_FILES; fd++) {
		if (current->files[fd])
			continue;
		current->files[fd] = f;
		return fd;
	}
	return -EMFILE;
}

void files_fork(struct task *child, const struct task *parent)
{
	for (int fd = 0; fd < TASK_FILES; fd++) {
		child->files[fd] = parent->files[fd];
		if (child->files[fd])
			child->files[fd]->refcount++;
	}
}

void files_close(struct task *t, bool on_exec)
{
	for (int fd = 0; fd < TASK_FILES; fd++) {
		struct file *f = t->files[fd];

		if (!f || (on_exec && !(f->flags & O_CLOEXEC)))
			continue;
		t->files[fd] = NULL;
		file_put(f);
	}
}
