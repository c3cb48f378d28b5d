/* The inodes in use, one a file: a list for each filesystem. */
#include "guest/fs/internal.h"
#include "guest/include/mm.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/string.h"

static struct spinlock inodes_lock; /* every sb->inodes and the links */

/* An inode as it is allocated: what the rest of the kernel sees comes first. */
struct cached_inode {
	struct inode inode;
	struct inode *next;
};

static struct inode *next_inode(struct inode *inode)
{
	return container_of(inode, struct cached_inode, inode)->next;
}

static struct inode *find_locked(struct super_block *sb, u64 ino)
{
	struct inode *inode = sb->inodes;

	while (inode && inode->ino != ino)
		inode = next_inode(inode);
	if (inode)
		inode_get(inode);
	return inode;
}

static struct inode *find(struct super_block *sb, u64 ino)
{
	spin_lock(&inodes_lock);
	struct inode *inode = find_locked(sb, ino);
	spin_unlock(&inodes_lock);
	return inode;
}

/* Adds what was read, unless another task has read the same meanwhile: then that one is it. */
static struct inode *add(struct cached_inode *fresh)
{
	struct super_block *sb = fresh->inode.sb;

	spin_lock(&inodes_lock);
	struct inode *inode = find_locked(sb, fresh->inode.ino);
	if (!inode) {
		fresh->next = sb->inodes;
		sb->inodes = inode = &fresh->inode;
	}
	spin_unlock(&inodes_lock);
	return inode;
}

int inode_lookup(struct super_block *sb, u64 ino, struct inode **out)
{
	*out = find(sb, ino);
	if (*out)
		return 0;

	struct cached_inode *fresh = kzalloc(sizeof(*fresh));
	if (!fresh)
		return -ENOMEM;
	fresh->inode.sb = sb;
	fresh->inode.ino = ino;
	fresh->inode.refcount = 1;
	int err = sb->ops->read_inode(&fresh->inode);
	if (!err) {
		*out = add(fresh);
		if (*out == &fresh->inode)
			return 0;
		sb->ops->free_inode(&fresh->inode);
	}
	kfree(fresh);
	return err;
}

void inode_put(struct inode *inode)
{
	BUG_ON(inode->refcount <= 0);
	/* An object of shared memory is nobody's but its mappings'. */
	if (!--inode->refcount && !inode->sb)
		shmem_free(inode);
}

/* No inode leaves the list before the unmount, so the walk may sleep. */
int inode_sync_all(struct super_block *sb)
{
	int first_error = 0;

	for (struct inode *inode = sb->inodes; inode; inode = next_inode(inode)) {
		if (!S_ISREG(inode->mode) || inode->dax)
			continue;
		int err = filemap_write_back(&inode->mapping);
		if (!first_error)
			first_error = err;
	}
	return first_error;
}

unsigned inode_release_all(struct super_block *sb)
{
	unsigned in_use = 0;

	while (sb->inodes) {
		struct inode *inode = sb->inodes;

		sb->inodes = next_inode(inode);
		in_use += inode->refcount != 0;
		filemap_release(&inode->mapping);
		sb->ops->free_inode(inode);
		kfree(container_of(inode, struct cached_inode, inode));
	}
	return in_use;
}
