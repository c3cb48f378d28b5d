/* What filesystems, the inode table, the mount table and the buffer cache share. */
#ifndef GUEST_FS_INTERNAL_H
#define GUEST_FS_INTERNAL_H

#include "guest/include/fs.h"
#include "guest/include/sched.h"

struct super_block;

/* --- metadata: buffer.c --------------------------------------------------------------------- */

/*
 * A page's worth of a device, cached. On persistent memory no copy is kept: data points there.
 * Contents are the disk's: look at nothing that was not checked. All under sb->lock.
 */
struct buffer;

/*
 * Reads `len` bytes at byte `offset` of the device; they must not cross a multiple of 4096. On
 * success *data points to them, good until buffer_put(*buf). 0, -EIO, -ENOMEM. Sleeps.
 */
int buffer_read(struct super_block *sb, u64 offset, u32 len, struct buffer **buf, void **data);
void buffer_put(struct buffer *buf);
/* The `len` bytes at `data`, inside what buffer_read gave, have changed: to be written. */
void buffer_dirty(struct buffer *buf, const void *data, u32 len);
/* These bytes of the device are nobody's metadata any more: they are not written again. */
void buffer_forget(struct super_block *sb, u64 offset, u32 len);
/* Writes all that is dirty and waits. 0 or -EIO. */
int buffer_sync(struct super_block *sb);
/* Forgets every buffer of the filesystem; none may be in use. */
void buffer_release_all(struct super_block *sb);

/* --- mounted filesystems: mount.c ----------------------------------------------------------- */

struct super_ops {
	/* Fills a fresh inode whose sb and ino are set. 0 or negative errno. */
	int (*read_inode)(struct inode *inode);
	/* The symbolic link's target into buf, not terminated. Its length, or negative errno. */
	int (*read_link)(struct inode *inode, char *buf, unsigned size);
	/*
	 * The inode has neither name nor user any more: gives up what it holds on the device.
	 * Its pages are gone. sb->lock not held.
	 */
	void (*delete_inode)(struct inode *inode);
	/* Metadata to the device, short of its own cache; the last time: as unmounted. Or NULL. */
	int (*sync)(struct super_block *sb, bool last);
	void (*statfs)(struct super_block *sb, struct fs_stat *st);
	/* Frees inode->private. */
	void (*free_inode)(struct inode *inode);
	/* Frees sb->private. */
	void (*unmount)(struct super_block *sb);
};

struct super_block {
	struct block_device *bdev; /* NULL: the kernel's own */
	u32 number;		   /* tells it from others */
	char where[32];		   /* "/" or "/pmem" */
	bool read_only;
	bool uncached;	   /* inodes are freed with their last reference */
	struct mutex lock; /* metadata: directories, maps, bitmaps, buffers */
	const struct super_ops *ops;
	void *private;
	struct inode *root;  /* a reference of its own */
	struct list buffers; /* least recently used first; buffer.c */
	u32 nr_buffers;
	s64 time_base;	      /* seconds since 1970 when the clock of this boot began, or a guess */
	struct inode *inodes; /* all cached ones, inode.c; guarded by its lock */
	struct super_block *next;
};

/* Recognizes and checks an ext2 filesystem on sb->bdev, sets ops, private, read_only; *root_ino. */
int ext2_mount(struct super_block *sb, u64 *root_ino);

/* A filesystem without a device: its inodes are made by ops->read_inode, root_ino the first. */
int fs_mount_pseudo(const char *where, const struct super_ops *ops, u64 root_ino);
/* What read_inode sets of one without contents that are cached. */
void pseudo_inode(struct inode *inode, u32 mode, const struct inode_ops *ops);

extern struct super_block *mounted;

/* --- inodes: inode.c ------------------------------------------------------------------------ */

/*
 * The inode, read if it is not cached yet, with a reference. -EUCLEAN if it is about to be
 * deleted, or another negative errno. sb->lock held.
 */
int inode_lookup(struct super_block *sb, u64 ino, struct inode **out);
/* A fresh inode with a reference, in no table yet; NULL without memory. */
struct inode *inode_alloc(struct super_block *sb, u64 ino);
/* Makes it the cached one of its number; false if there is one. */
bool inode_insert(struct inode *inode);
/* Frees one that was never inserted; its private data is gone. */
void inode_discard(struct inode *inode);
/* Writes back all dirty pages. 0 or the first error. */
int inode_sync_all(struct super_block *sb);
/* Frees all cached inodes and their pages; returns how many were still referenced. */
unsigned inode_release_all(struct super_block *sb);

#endif
