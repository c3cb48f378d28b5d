/*
 * Files. A filesystem makes inodes; the page cache (filemap.h) and the fault path work on them.
 */
#ifndef GUEST_FS_H
#define GUEST_FS_H

#include "guest/include/block.h"
#include "guest/include/filemap.h"
#include "guest/include/sched.h"
#include "guest/include/types.h"

#define NAME_MAX    255
#define PATH_MAX    4096

/* inode.mode, as in struct stat */
#define S_IFMT	    0170000
#define S_IFSOCK    0140000
#define S_IFBLK	    0060000
#define S_IFDIR	    0040000
#define S_IFCHR	    0020000
#define S_IFIFO	    0010000
#define S_IFREG	    0100000
#define S_IFLNK	    0120000

#define S_ISDIR(m)  (((m)&S_IFMT) == S_IFDIR)
#define S_ISCHR(m)  (((m)&S_IFMT) == S_IFCHR)
#define S_ISREG(m)  (((m)&S_IFMT) == S_IFREG)
#define S_ISLNK(m)  (((m)&S_IFMT) == S_IFLNK)
#define S_ISFIFO(m) (((m)&S_IFMT) == S_IFIFO)

struct file_ops;
struct inode;
struct pipe;
struct super_block;

/* A name in a directory; not terminated, 1 to NAME_MAX bytes, neither "." nor "..". */
struct name {
	const char *s;
	unsigned len;
};

/* What statfs tells; sizes in blocks. */
struct fs_stat {
	u64 type, block_size, blocks, free_blocks, inodes, free_inodes;
};

/* Called for each entry; nonzero stops the walk. name is not terminated. */
typedef int (*readdir_fn)(void *arg, const char *name, unsigned len, u64 ino, u8 type);

struct inode_ops {
	/* The entry called name (len bytes) of a directory, with a reference. 0, -ENOENT, ... */
	int (*lookup)(struct inode *dir, const char *name, unsigned len, struct inode **out);
	/* Entries from *pos on, advancing *pos past each one taken; type is DT_* of Linux. */
	int (*readdir)(struct inode *dir, u64 *pos, readdir_fn fn, void *arg);
	/*
	 * A new entry and inode: a file, directory, link to target, or pipe, as the mode says.
	 * 0 and a reference in *out, -EEXIST, -ENOSPC, ...
	 */
	int (*create)(struct inode *dir, const struct name *name, u32 mode, const char *target,
		      struct inode **out);
	int (*link)(struct inode *dir, const struct name *name, struct inode *inode);
	/* Of a directory (-ENOTDIR, -ENOTEMPTY), or of anything else (-EISDIR). */
	int (*unlink)(struct inode *dir, const struct name *name, bool want_dir);
	/* Replaces what has the new name, unless keep: then -EEXIST. */
	int (*rename)(struct inode *old_dir, const struct name *old, struct inode *new_dir,
		      const struct name *new, bool keep);
	/* Page pgoff is about to be written: blocks for what of it lies below byte end. */
	int (*allocate)(struct inode *inode, u64 pgoff, u64 end);
	/* Gives up the blocks behind inode->size, and does what update does. */
	int (*truncate)(struct inode *inode);
	/* The fields of the inode go where it is kept. */
	int (*update)(struct inode *inode);
	/* Metadata and device cache durable; dirty pages were written before. */
	int (*fsync)(struct inode *inode);
};

struct inode {
	u64 ino;
	u32 mode;
	u32 nlink, uid, gid;
	u64 rdev;		 /* of a device, as stat reports */
	u64 size;		 /* bytes */
	u64 blocks;		 /* of 512 bytes, as stat reports */
	s64 atime, mtime, ctime; /* seconds since 1970 */
	s32 refcount;
	bool dax; /* pages lie in persistent memory; the mapping holds none */
	struct super_block *sb;
	const struct inode_ops *ops;
	const struct file_ops *file_ops; /* NULL: a file with contents in the page cache */
	struct address_space mapping;
	u64 max_size;	   /* bytes */
	struct mutex lock; /* one changes size and contents at a time; before mm.lock */
	struct pipe *pipe; /* of a named pipe that is open */
	void *private;	   /* the filesystem's */
};

static inline void inode_get(struct inode *inode)
{
	__atomic_fetch_add(&inode->refcount, 1, __ATOMIC_RELAXED);
}

/*
 * Drops a reference. An inode without references stays cached, with its pages, until the
 * filesystem is unmounted; one without a name, too, is deleted. Sleeps; sb->lock not held.
 */
void inode_put(struct inode *inode);

/* Mounts the device's filesystem at "/" first, then others, at one-level paths as "/pmem". */
int fs_mount(struct block_device *bdev, const char *where);

/* The kernel's own at /dev and /proc. */
int fs_mount_devices(void);
int fs_mount_proc(void);

/*
 * Paths, trusted memory with contents that are not. A relative one starts at base (NULL: the
 * root). 0, or -ENOENT, -ENOTDIR, -ELOOP, -ENAMETOOLONG, -EROFS, -EIO, ... as Linux has them.
 */
int fs_lookup(const char *path, struct inode **out); /* with a reference */
int fs_lookup_at(struct inode *base, const char *path, bool follow, struct inode **out);

/* What open does to the tree: O_CREAT, O_EXCL, O_DIRECTORY, O_NOFOLLOW, O_TRUNC are looked at. */
int fs_open(struct inode *base, const char *path, u32 flags, u32 mode, struct inode **out);
/* mknod, mkdir, symlink (with a target). */
int fs_make(struct inode *base, const char *path, u32 mode, const char *target);
int fs_link(struct inode *inode, struct inode *base, const char *path);
int fs_unlink(struct inode *base, const char *path, bool want_dir);
int fs_rename(struct inode *old_base, const char *old, struct inode *new_base, const char *new,
	      bool keep);
int fs_truncate(struct inode *inode, u64 size);
/* The target of a link, not terminated. Its length, or -EINVAL, ... */
int fs_read_link(struct inode *inode, char *buf, unsigned size);
/* The absolute path of a directory, terminated, at the end of buf: where it starts, or NULL. */
char *fs_path_of(struct inode *dir, char *buf, unsigned size);
/* The absolute path of the file that path means, links followed. buf is not left as it was. */
int fs_path_of_file(struct inode *base, const char *path, char *buf, unsigned size);
void fs_statfs(const struct inode *inode, struct fs_stat *st);
/* Seconds since 1970, as files of this filesystem are stamped. */
s64 fs_time(const struct inode *inode);

/* Pages of all files that are cached. */
u64 fs_cached_pages(void);
/* Number of the filesystem, as stat reports; 0: shared memory is in none. */
u64 fs_device(const struct inode *inode);

/* Whether nothing may be written: opening the file for writing gives -EROFS. */
bool fs_read_only(const struct inode *inode);

/* Writes everything dirty on every filesystem and flushes the devices. */
int fs_sync(void);

/* At the end of the run: fs_sync, then every cached inode and page is freed. */
void fs_unmount_all(void);

#endif
