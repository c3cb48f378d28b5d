/*
 * Files. A filesystem makes inodes; the page cache (filemap.h) and the fault path work on them.
 */
#ifndef GUEST_FS_H
#define GUEST_FS_H

#include "guest/include/block.h"
#include "guest/include/filemap.h"
#include "guest/include/types.h"

#define NAME_MAX   255
#define PATH_MAX   4096

/* inode.mode, as in struct stat */
#define S_IFMT	   0170000
#define S_IFDIR	   0040000
#define S_IFCHR	   0020000
#define S_IFREG	   0100000
#define S_IFLNK	   0120000

#define S_ISDIR(m) (((m)&S_IFMT) == S_IFDIR)
#define S_ISCHR(m) (((m)&S_IFMT) == S_IFCHR)
#define S_ISREG(m) (((m)&S_IFMT) == S_IFREG)
#define S_ISLNK(m) (((m)&S_IFMT) == S_IFLNK)

struct super_block;
struct inode;

/* Called for each entry; nonzero stops the walk. name is not terminated. */
typedef int (*readdir_fn)(void *arg, const char *name, unsigned len, u64 ino, u8 type);

struct inode_ops {
	/* The entry called name (len bytes) of a directory, with a reference. 0, -ENOENT, ... */
	int (*lookup)(struct inode *dir, const char *name, unsigned len, struct inode **out);
	/* Entries from *pos on, advancing *pos past each one taken; type is DT_* of Linux. */
	int (*readdir)(struct inode *dir, u64 *pos, readdir_fn fn, void *arg);
	/* Metadata and device cache durable; dirty pages were written before. */
	int (*fsync)(struct inode *inode);
};

struct inode {
	u64 ino;
	u32 mode;
	u32 nlink, uid, gid;
	u64 size;		 /* bytes */
	u64 blocks;		 /* of 512 bytes, as stat reports */
	s64 atime, mtime, ctime; /* seconds since 1970 */
	s32 refcount;
	bool dax; /* pages lie in persistent memory; the mapping holds none */
	struct super_block *sb;
	const struct inode_ops *ops;
	struct address_space mapping;
	void *private; /* the filesystem's */
};

static inline void inode_get(struct inode *inode)
{
	inode->refcount++;
}

/*
 * Drops a reference. An inode without references stays cached, with its pages, until the
 * filesystem is unmounted or wants the room; it is never evicted while dirty.
 */
void inode_put(struct inode *inode);

/* Mounts the device's filesystem at "/" first, then others, at one-level paths as "/pmem". */
int fs_mount(struct block_device *bdev, const char *where);

/*
 * Resolves an absolute path, symbolic links included. 0 and a reference in *out, or -ENOENT,
 * -ENOTDIR, -ELOOP, -ENAMETOOLONG, -EIO, ... The path is trusted memory, its contents are not.
 */
int fs_lookup(const char *path, struct inode **out);

/* Whether nothing may be written: opening the file for writing gives -EROFS. */
bool fs_read_only(const struct inode *inode);

/* Writes everything dirty on every filesystem and flushes the devices. */
int fs_sync(void);

/* At the end of the run: fs_sync, then every cached inode and page is freed. */
void fs_unmount_all(void);

#endif
