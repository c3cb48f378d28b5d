/* stat, statx and statfs in their forms. */
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"
#include "guest/kernel/path.h"

#define STATX_BASIC_STATS  0x7ffU
#define STATX__RESERVED	   0x80000000U
#define AT_STATX_SYNC_TYPE 0x6000U /* only of use to filesystems of a network */
#define AT_STAT_FLAGS	   (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)

struct stat {
	u64 st_dev, st_ino, st_nlink;
	u32 st_mode, st_uid, st_gid, pad0;
	u64 st_rdev;
	s64 st_size, st_blksize, st_blocks;
	s64 st_atime, st_atime_ns, st_mtime, st_mtime_ns, st_ctime, st_ctime_ns;
	s64 reserved[3];
};

struct statx_time {
	s64 sec;
	u32 nsec, reserved;
};

struct statx {
	u32 mask, blksize;
	u64 attributes;
	u32 nlink, uid, gid;
	u16 mode, spare0;
	u64 ino, size, blocks, attributes_mask;
	struct statx_time atime, btime, ctime, mtime;
	u32 rdev_major, rdev_minor, dev_major, dev_minor;
	u64 spare[14];
};
_Static_assert(sizeof(struct statx) == 256, "Linux's");

struct statfs {
	s64 type, bsize, blocks, bfree, bavail, files, ffree;
	s32 fsid[2];
	s64 namelen, frsize, flags, spare[4];
};

/* What stat tells of an inode, or of a pipe without one (NULL). */
static struct stat stat_of(const struct inode *inode)
{
	if (!inode)
		return (struct stat){
		    .st_mode = S_IFIFO | 0600, .st_nlink = 1, .st_blksize = PAGE_SIZE};
	return (struct stat){
	    .st_dev = fs_device(inode),
	    .st_ino = inode->ino,
	    .st_nlink = inode->nlink,
	    .st_mode = inode->mode,
	    .st_uid = inode->uid,
	    .st_gid = inode->gid,
	    .st_rdev = inode->rdev,
	    .st_size = (s64)inode->size,
	    .st_blksize = PAGE_SIZE,
	    .st_blocks = (s64)inode->blocks,
	    .st_atime = inode->atime,
	    .st_mtime = inode->mtime,
	    .st_ctime = inode->ctime,
	};
}

static s64 put_stat(const struct inode *inode, u64 buf)
{
	struct stat st = stat_of(inode);

	return copy_to_user(buf, &st, sizeof(st)) ? -EFAULT : 0;
}

static s64 stat_at(u64 dirfd, u64 path, u64 flags, u64 buf)
{
	struct inode *inode;
	s64 ret = at_lookup(dirfd, path, flags, &inode);

	if (ret)
		return ret;
	ret = put_stat(inode, buf);
	inode_put(inode);
	return ret;
}

SYSCALL(stat)
{
	return stat_at((u64)AT_FDCWD, regs->rdi, 0, regs->rsi);
}

SYSCALL(lstat)
{
	return stat_at((u64)AT_FDCWD, regs->rdi, AT_SYMLINK_NOFOLLOW, regs->rsi);
}

static s64 stat_fd(u64 fd, u64 buf)
{
	struct file *f = fd_file(fd);
	s64 ret;

	if (!f)
		return -EBADF;
	ret = put_stat(f->inode, buf);
	file_put(f);
	return ret;
}

SYSCALL(fstat)
{
	return stat_fd(regs->rdi, regs->rsi);
}

static bool is_empty(u64 user_path)
{
	char first = 1;

	return !copy_from_user(&first, user_path, 1) && !first;
}

SYSCALL(newfstatat)
{
	if ((u32)regs->r10 & ~AT_STAT_FLAGS)
		return -EINVAL;
	/* Also for pipes, which at_lookup cannot find. */
	if ((regs->r10 & AT_EMPTY_PATH) && (int)regs->rdi != AT_FDCWD && is_empty(regs->rsi))
		return stat_fd((u32)regs->rdi, regs->rdx);
	return stat_at(regs->rdi, regs->rsi, regs->r10, regs->rdx);
}

static void fill_statx(struct statx *x, const struct stat *st)
{
	*x = (struct statx){
	    .mask = STATX_BASIC_STATS,
	    .blksize = (u32)st->st_blksize,
	    .nlink = (u32)st->st_nlink,
	    .uid = st->st_uid,
	    .gid = st->st_gid,
	    .mode = (u16)st->st_mode,
	    .ino = st->st_ino,
	    .size = (u64)st->st_size,
	    .blocks = (u64)st->st_blocks,
	    .atime.sec = st->st_atime,
	    .ctime.sec = st->st_ctime,
	    .mtime.sec = st->st_mtime,
	    .rdev_major = (u32)(st->st_rdev >> 8),
	    .rdev_minor = st->st_rdev & 0xff,
	    .dev_minor = (u32)st->st_dev,
	};
}

SYSCALL(statx)
{
	struct inode *inode;
	struct statx x;
	struct stat st;
	s64 ret;

	if ((u32)regs->rdx & ~(AT_STAT_FLAGS | AT_STATX_SYNC_TYPE) ||
	    ((u32)regs->rdx & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE ||
	    (u32)regs->r10 & STATX__RESERVED)
		return -EINVAL;
	ret = at_lookup(regs->rdi, regs->rsi, regs->rdx, &inode);
	if (ret)
		return ret;
	st = stat_of(inode);
	inode_put(inode);
	fill_statx(&x, &st);
	return copy_to_user(regs->r8, &x, sizeof(x)) ? -EFAULT : 0;
}

static s64 put_statfs(const struct inode *inode, u64 buf)
{
	struct fs_stat st;
	struct statfs out;

	fs_statfs(inode, &st);
	out = (struct statfs){
	    .type = (s64)st.type,
	    .bsize = (s64)st.block_size,
	    .blocks = (s64)st.blocks,
	    .bfree = (s64)st.free_blocks,
	    .bavail = (s64)st.free_blocks,
	    .files = (s64)st.inodes,
	    .ffree = (s64)st.free_inodes,
	    .namelen = NAME_MAX,
	    .frsize = (s64)st.block_size,
	};
	return copy_to_user(buf, &out, sizeof(out)) ? -EFAULT : 0;
}

SYSCALL(statfs)
{
	struct inode *inode;
	s64 ret = at_lookup((u64)AT_FDCWD, regs->rdi, 0, &inode);

	if (ret)
		return ret;
	ret = put_statfs(inode, regs->rsi);
	inode_put(inode);
	return ret;
}

SYSCALL(fstatfs)
{
	struct file *f = fd_file(regs->rdi);
	s64 ret;

	if (!f)
		return -EBADF;
	ret = f->inode ? put_statfs(f->inode, regs->rsi) : -ENOSYS;
	file_put(f);
	return ret;
}
