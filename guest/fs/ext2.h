/*
 * ext2, as mke2fs makes it (documented in Linux's Documentation/filesystems/ext2.rst and in
 * e2fsprogs' ext2fs manual), read and written; no journal. All of what is read is checked before
 * it is believed. What says "locked" here is done under sb->lock.
 */
#ifndef GUEST_EXT2_H
#define GUEST_EXT2_H

#include "guest/fs/internal.h"

/* --- on disk, little-endian ----------------------------------------------------------------- */

#define EXT2_SUPER_OFFSET 1024
#define EXT2_SUPER_MAGIC  0xef53
#define EXT2_ROOT_INO	  2
#define EXT2_NAME_MAX	  255

struct ext2_disk_super {
	u32 inodes_count;
	u32 blocks_count;
	u32 reserved_blocks_count;
	u32 free_blocks_count;
	u32 free_inodes_count;
	u32 first_data_block;
	u32 log_block_size; /* block size = 1024 << this */
	u32 log_frag_size;
	u32 blocks_per_group;
	u32 frags_per_group;
	u32 inodes_per_group;
	u32 mtime;
	u32 wtime;
	u16 mount_count;
	u16 max_mount_count;
	u16 magic;
	u16 state;
	u16 errors;
	u16 minor_rev;
	u32 lastcheck;
	u32 checkinterval;
	u32 creator_os;
	u32 rev_level; /* 0: no fields below, inodes of 128 bytes, no features */
	u16 def_resuid;
	u16 def_resgid;
	u32 first_ino;
	u16 inode_size;
	u16 block_group_nr;
	u32 feature_compat;
	u32 feature_incompat;
	u32 feature_ro_compat;
};

enum { EXT2_STATE_CLEAN = 1, EXT2_LINK_MAX = 32000 };

/* Features without which the structures cannot be read right, and those we can. */
#define EXT2_INCOMPAT_FILETYPE	    0x0002U
#define EXT2_INCOMPAT_KNOWN	    EXT2_INCOMPAT_FILETYPE
/* Features that only matter to who writes. */
#define EXT2_RO_COMPAT_SPARSE_SUPER 0x0001U
#define EXT2_RO_COMPAT_LARGE_FILE   0x0002U
#define EXT2_RO_COMPAT_KNOWN	    (EXT2_RO_COMPAT_SPARSE_SUPER | EXT2_RO_COMPAT_LARGE_FILE)

struct ext2_disk_group {
	u32 block_bitmap;
	u32 inode_bitmap;
	u32 inode_table;
	u16 free_blocks_count;
	u16 free_inodes_count;
	u16 used_dirs_count;
	u16 pad;
	u32 reserved[3];
};

/* i_block: 12 direct ones, then one of one, two and three levels of indirection. */
enum { EXT2_DIRECT = 12, EXT2_BLOCKS = 15 };

struct ext2_disk_inode {
	u16 mode;
	u16 uid;
	u32 size;
	u32 atime;
	u32 ctime;
	u32 mtime;
	u32 dtime;
	u16 gid;
	u16 links_count;
	u32 blocks; /* of 512 bytes */
	u32 flags;
	u32 osd1;
	u32 block[EXT2_BLOCKS];
	u32 generation;
	u32 file_acl;
	u32 size_high; /* of regular files */
	u32 faddr;
	u16 frag;
	u16 pad;
	u16 uid_high;
	u16 gid_high;
	u32 reserved;
};
_Static_assert(sizeof(struct ext2_disk_inode) == 128, "the revision 0 inode");

#define EXT2_FLAG_INDEX	   0x1000U /* a hashed directory: not kept up when it changes */
/* Contents kept in another way than through i_block: compressed, encrypted, extents, inline. */
#define EXT2_FLAGS_UNKNOWN (0x4U | 0x800U | 0x80000U | 0x10000000U)

struct ext2_disk_dirent {
	u32 inode; /* 0: no entry */
	u16 rec_len;
	u8 name_len;
	u8 file_type; /* with the filetype feature, else the name's length, high half: 0 */
	char name[];
};

/* --- in memory ------------------------------------------------------------------------------ */

struct ext2_super {
	u32 block_shift; /* 10, 11 or 12 */
	u32 block_size;
	u32 blocks_count;
	u32 first_data_block;
	u32 blocks_per_group;
	u32 inodes_per_group;
	u32 inodes_count;
	u32 inode_size;
	u32 groups;
	u32 complaints; /* messages about corrupt contents so far */
	bool filetype, large_files;
	u32 first_ino;
	u32 free_blocks, free_inodes; /* on the disk since the last sync */
	u16 state;		      /* of the superblock when it was mounted */
	bool changed;		      /* it says so: not unmounted cleanly */
};

/* Consecutive blocks of a file that are consecutive on the device, or all a hole (block 0). */
struct ext2_run {
	u64 first; /* block of the file */
	u32 block;
	u32 count; /* 0: unknown */
};

struct ext2_inode {
	u32 block[EXT2_BLOCKS];
	u32 flags;
	bool has_acl;	     /* a block of extended attributes, which nobody here gives back */
	struct ext2_run run; /* what was looked up last */
};

static inline struct ext2_super *ext2_sb(const struct inode *inode)
{
	return inode->sb->private;
}

static inline struct ext2_inode *ext2_i(const struct inode *inode)
{
	return inode->private;
}

/* Whether `count` data or metadata blocks from `block` on can exist. */
static inline bool ext2_blocks_ok(const struct ext2_super *es, u32 block, u32 count)
{
	return block > es->first_data_block && block < es->blocks_count &&
	       count <= es->blocks_count - block;
}

/* buffer_read of `len` bytes at `offset` of a block that is ext2_blocks_ok. */
int ext2_read_block(struct super_block *sb, u32 block, u32 offset, u32 len, struct buffer **buf,
		    void **data);

/* --- ext2_balloc.c, locked ------------------------------------------------------------------ */

/* A free block at goal or behind it, taken. 0, -ENOSPC, -EUCLEAN, -EIO, -ENOMEM. */
int ext2_alloc_block(struct super_block *sb, u32 goal, u32 *block);
/* -EUCLEAN if it is free or can be no file's. */
int ext2_free_block(struct super_block *sb, u32 block);
/* A free inode, in the group of `near` if it has one. */
int ext2_alloc_ino(struct super_block *sb, u32 near, bool is_dir, u32 *ino);
int ext2_free_ino(struct super_block *sb, u32 ino, bool is_dir);

/* --- ext2_map.c ----------------------------------------------------------------------------- */

/*
 * The longest known run of the file that starts at file block `first`. 0, -EUCLEAN for a map that
 * cannot be right (with a message), or -EIO, -ENOMEM. Past the largest file: a hole.
 */
int ext2_map(struct inode *inode, u64 first, struct ext2_run *run);
int ext2_map_locked(struct inode *inode, u64 first, struct ext2_run *run);
/* Locked: the file's block number `first`, made if it is a hole, zeroed if so wanted. */
int ext2_get_block(struct inode *inode, u64 first, bool zeroed, u32 *block);
/* Locked: gives back the file's blocks from number `from` on. */
int ext2_free_blocks_from(struct inode *inode, u64 from);
/* Locked: overwrites a block with zeroes. */
int ext2_zero_block(struct super_block *sb, u32 block);
/* Bytes of the largest file that the map can hold. */
u64 ext2_max_size(const struct ext2_super *es);

/* --- ext2_inode.c --------------------------------------------------------------------------- */

/* Says what is wrong with which inode, the first times. Returns -EUCLEAN. */
int ext2_corrupt(const struct inode *inode, const char *what, u64 detail);

int ext2_read_inode(struct inode *inode); /* locked */
int ext2_read_link(struct inode *inode, char *buf, unsigned size);
/* Locked: the inode's fields to their place in the inode table. */
int ext2_write_inode(const struct inode *inode);
/* Locked: a fresh inode of that mode, cached, on the disk, with no name yet. */
int ext2_new_inode(struct inode *dir, u32 mode, struct inode **out);
/* Locked: the target of a fresh link. */
int ext2_set_link(struct inode *inode, const char *target);
void ext2_delete_inode(struct inode *inode);
/* Stamps the inode as changed now, contents too if `contents`. */
void ext2_touch(struct inode *inode, bool contents);

/* --- ext2_super.c --------------------------------------------------------------------------- */

/* Locked: something is about to change; from the first time on the disk says so. */
void ext2_changed(struct super_block *sb);

/* --- ext2_dir.c, locked --------------------------------------------------------------------- */

/* The inode number of an entry, or -ENOENT, ... */
int ext2_find_entry(struct inode *dir, const struct name *name, u32 *ino);
/* Adds one; the name must not be there. -ENOSPC, ... */
int ext2_add_entry(struct inode *dir, const struct name *name, const struct inode *inode);
int ext2_remove_entry(struct inode *dir, const struct name *name);
/* Points an entry that is there to another inode. */
int ext2_set_entry(struct inode *dir, const struct name *name, const struct inode *inode);
/* The first block of a fresh directory. */
int ext2_init_dir(struct inode *dir, const struct inode *parent);
/* 0, -ENOTEMPTY, or an error of reading it. */
int ext2_check_empty(struct inode *dir);
int ext2_readdir(struct inode *dir, u64 *pos, readdir_fn fn, void *arg);

extern const struct inode_ops ext2_dir_ops;
extern const struct inode_ops ext2_file_ops;
extern const struct address_space_ops ext2_aops;

#endif
