/* /dev: the character devices, and nothing that can be changed. */
#include "guest/fs/internal.h"
#include "guest/include/file.h"
#include "guest/include/random.h"
#include "guest/include/string.h"
#include "guest/include/uaccess.h"

enum { DEV_ROOT_INO = 1, DEV_FIRST_INO = 2 };

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

static s64 full_write(u64 buf, size_t n)
{
	(void)buf;
	return n ? -ENOSPC : 0;
}

static s64 zero_read(u64 buf, size_t n)
{
	size_t bad = clear_user(buf, n);

	return bad == n && n ? -EFAULT : (s64)(n - bad);
}

static s64 random_read(u64 buf, size_t n)
{
	for (size_t done = 0; done < n; done += sizeof(u64)) {
		u64 r = random_u64();

		if (copy_to_user(buf + done, &r, MIN(n - done, sizeof(r))))
			return done ? (s64)done : -EFAULT;
	}
	return (s64)n;
}

static const struct chardev null_dev = {
    .read = null_read, .write = null_write, .major = 1, .minor = 3};
static const struct chardev zero_dev = {
    .read = zero_read, .write = null_write, .major = 1, .minor = 5};
static const struct chardev full_dev = {
    .read = zero_read, .write = full_write, .major = 1, .minor = 7};
static const struct chardev random_dev = {
    .read = random_read, .write = null_write, .major = 1, .minor = 8};
static const struct chardev urandom_dev = {
    .read = random_read, .write = null_write, .major = 1, .minor = 9};

/* The console has three names. */
static const struct {
	const char *name;
	const struct chardev *dev;
} devices[] = {
    {"console", &console_dev}, {"tty", &console_dev},	  {"ttyS0", &console_dev},
    {"null", &null_dev},       {"zero", &zero_dev},	  {"full", &full_dev},
    {"random", &random_dev},   {"urandom", &urandom_dev},
};

static int dev_lookup(struct inode *dir, const char *name, unsigned len, struct inode **out)
{
	u64 ino = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(devices); i++) {
		if (strlen(devices[i].name) == len && !memcmp(devices[i].name, name, len))
			ino = DEV_FIRST_INO + i;
	}
	if (!ino)
		return -ENOENT;
	mutex_lock(&dir->sb->lock);
	int err = inode_lookup(dir->sb, ino, out);
	mutex_unlock(&dir->sb->lock);
	return err;
}

static int dev_readdir(struct inode *dir, u64 *pos, readdir_fn fn, void *arg)
{
	static const char *const dots[] = {".", ".."};
	int err = 0;

	(void)dir;
	for (; *pos < ARRAY_SIZE(devices) + 2 && !err; *pos += !err) {
		if (*pos < 2)
			err = fn(arg, dots[*pos], (unsigned)*pos + 1, DEV_ROOT_INO, 4);
		else
			err = fn(arg, devices[*pos - 2].name,
				 (unsigned)strlen(devices[*pos - 2].name), *pos, 2);
	}
	return err;
}

static const struct inode_ops dev_dir_ops = {.lookup = dev_lookup, .readdir = dev_readdir};
static const struct inode_ops dev_ops;

static int dev_read_inode(struct inode *inode)
{
	const struct chardev *dev;

	if (inode->ino == DEV_ROOT_INO) {
		pseudo_inode(inode, S_IFDIR | 0755, &dev_dir_ops);
		return 0;
	}
	dev = devices[inode->ino - DEV_FIRST_INO].dev;
	pseudo_inode(inode, S_IFCHR | 0666, &dev_ops);
	inode->rdev = (u64)dev->major << 8 | dev->minor;
	inode->private = (void *)dev;
	return 0;
}

static void dev_free_inode(struct inode *inode)
{
	(void)inode;
}

static const struct super_ops dev_super_ops = {.read_inode = dev_read_inode,
					       .free_inode = dev_free_inode};

int fs_mount_devices(void)
{
	return fs_mount_pseudo("/dev", &dev_super_ops, DEV_ROOT_INO);
}
