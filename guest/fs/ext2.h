/*
 * ext2, as mke2fs makes it (documented in Linux's Documentation/filesystems/ext2.rst and in
 * e2fsprogs' ext2fs manual). Directories and metadata are read; file data is read, and written
 * back in place. All of what is read is checked before it is believed.
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

enum { EXT2_STATE_CLEAN = 1 };

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
	bool filetype;
};

/* Consecutive blocks of a file that are consecutive on the device, or all a hole (block 0). */
struct ext2_run {
	u64 first; /* block of the file */
	u32 block;
	u32 count; /* 0: unknown */
};

struct ext2_inode {
	u32 block[EXT2_BLOCKS];
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

/*
 * The longest known run of the file that starts at file block `first`. 0, -EUCLEAN for a map that
 * cannot be right (with a message), or -EIO, -ENOMEM. Past the largest file: a hole.
 */
int ext2_map(struct inode *inode, u64 first, struct ext2_run *run);

/* Says what is wrong with which inode, the first times. Returns -EUCLEAN. */
int ext2_corrupt(const struct inode *inode, const char *what, u64 detail);

int ext2_read_inode(struct inode *inode);
int ext2_read_link(struct inode *inode, char *buf, unsigned size);

extern const struct inode_ops ext2_dir_ops;
extern const struct inode_ops ext2_file_ops;
extern const struct address_space_ops ext2_aops;

#endif
