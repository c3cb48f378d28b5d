/* What filesystems, the inode table, the mount table and the buffer cache share. */
#ifndef GUEST_FS_INTERNAL_H
#define GUEST_FS_INTERNAL_H

#include "guest/include/fs.h"
#include "guest/include/sched.h"

struct super_block;

/* --- metadata: buffer.c --------------------------------------------------------------------- */

/*
 * A page's worth of a device, cached. On persistent memory no copy is kept: data points there.
 * Contents are the disk's: look at nothing that was not checked.
 */
struct buffer;

/*
 * Reads `len` bytes at byte `offset` of the device; they must not cross a multiple of 4096. On
 * success *data points to them, good until buffer_put(*buf). 0, -EIO, -ENOMEM. Sleeps.
 */
int buffer_read(struct super_block *sb, u64 offset, u32 len, struct buffer **buf, void **data);
void buffer_put(struct buffer *buf);
/* Forgets every buffer of the filesystem; none may be in use. */
void buffer_release_all(struct super_block *sb);

/* --- mounted filesystems: mount.c ----------------------------------------------------------- */

struct super_ops {
	/* Fills a fresh inode whose sb and ino are set. 0 or negative errno. */
	int (*read_inode)(struct inode *inode);
	/* The symbolic link's target into buf, not terminated. Its length, or negative errno. */
	int (*read_link)(struct inode *inode, char *buf, unsigned size);
	/* Frees inode->private. */
	void (*free_inode)(struct inode *inode);
	/* Frees sb->private. */
	void (*unmount)(struct super_block *sb);
};

struct super_block {
	struct block_device *bdev;
	char where[32]; /* "/" or "/pmem" */
	bool read_only;
	const struct super_ops *ops;
	void *private;
	struct inode *root;  /* a reference of its own */
	struct list buffers; /* least recently used first; buffer.c */
	u32 nr_buffers;
	struct inode *inodes; /* all cached ones, inode.c; guarded by its lock */
	struct super_block *next;
};

/* Recognizes and checks an ext2 filesystem on sb->bdev, sets ops, private, read_only; *root_ino. */
int ext2_mount(struct super_block *sb, u64 *root_ino);

extern struct super_block *mounted;

/* --- inodes: inode.c ------------------------------------------------------------------------ */

/* The inode, read if it is not cached yet, with a reference. 0 or negative errno. Sleeps. */
int inode_lookup(struct super_block *sb, u64 ino, struct inode **out);
/* Writes back all dirty pages. 0 or the first error. */
int inode_sync_all(struct super_block *sb);
/* Frees all cached inodes and their pages; returns how many were still referenced. */
unsigned inode_release_all(struct super_block *sb);

#endif
