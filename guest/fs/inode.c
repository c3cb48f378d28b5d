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

static struct inode *find_locked(struct super_block *sb, u64 ino, bool get)
{
	struct inode *inode = sb->inodes;

	while (inode && inode->ino != ino)
		inode = next_inode(inode);
	if (inode && get)
		inode_get(inode);
	return inode;
}

/*
 * An entry that a hostile image has for a file whose last name went while it is open. Its
 * reference goes without inode_put: the lock is held that deleting takes. Who has it open drops
 * the last one.
 */
static int drop_deleted(struct inode *inode)
{
	__atomic_fetch_sub(&inode->refcount, 1, __ATOMIC_RELAXED);
	return -EUCLEAN;
}

struct inode *inode_alloc(struct super_block *sb, u64 ino)
{
	struct cached_inode *fresh = kzalloc(sizeof(*fresh));

	if (!fresh)
		return NULL;
	fresh->inode.sb = sb;
	fresh->inode.ino = ino;
	fresh->inode.refcount = 1;
	mutex_init(&fresh->inode.lock);
	return &fresh->inode;
}

void inode_discard(struct inode *inode)
{
	kfree(container_of(inode, struct cached_inode, inode));
}

bool inode_insert(struct inode *inode)
{
	struct super_block *sb = inode->sb;

	spin_lock(&inodes_lock);
	bool absent = !find_locked(sb, inode->ino, false);
	if (absent) {
		container_of(inode, struct cached_inode, inode)->next = sb->inodes;
		sb->inodes = inode;
	}
	spin_unlock(&inodes_lock);
	return absent;
}

int inode_lookup(struct super_block *sb, u64 ino, struct inode **out)
{
	spin_lock(&inodes_lock);
	*out = find_locked(sb, ino, true);
	spin_unlock(&inodes_lock);
	if (*out)
		return (*out)->nlink ? 0 : drop_deleted(*out);

	struct inode *fresh = inode_alloc(sb, ino);
	if (!fresh)
		return -ENOMEM;
	int err = sb->ops->read_inode(fresh);
	if (err) {
		inode_discard(fresh);
		return err;
	}
	/* sb->lock is held: nobody has read the same meanwhile. */
	inode_insert(fresh);
	*out = fresh;
	return 0;
}

static void unlink_locked(struct inode *inode)
{
	struct inode **at = &inode->sb->inodes;

	while (*at != inode)
		at = &container_of(*at, struct cached_inode, inode)->next;
	*at = next_inode(inode);
}

static void free_inode(struct inode *inode)
{
	filemap_release(&inode->mapping);
	inode->sb->ops->free_inode(inode);
	inode_discard(inode);
}

void inode_put(struct inode *inode)
{
	spin_lock(&inodes_lock);
	BUG_ON(inode->refcount <= 0);
	s32 left = __atomic_sub_fetch(&inode->refcount, 1, __ATOMIC_ACQ_REL);
	bool gone = !left && inode->sb && (!inode->nlink || inode->sb->uncached);
	if (gone)
		unlink_locked(inode);
	spin_unlock(&inodes_lock);
	/* An object of shared memory is nobody's but its mappings'. */
	if (!left && !inode->sb)
		shmem_free(inode);
	if (!gone)
		return;
	/* Nobody finds it any more. */
	filemap_truncate(&inode->mapping, 0);
	if (!inode->nlink && inode->sb->ops->delete_inode)
		inode->sb->ops->delete_inode(inode);
	free_inode(inode);
}

u64 fs_cached_pages(void)
{
	u64 pages = 0;

	spin_lock(&inodes_lock);
	for (struct super_block *sb = mounted; sb; sb = sb->next) {
		for (struct inode *inode = sb->inodes; inode; inode = next_inode(inode))
			pages += inode->mapping.nr_pages;
	}
	spin_unlock(&inodes_lock);
	return pages;
}

/* The next regular file on the list, with a reference that was prev's. */
static struct inode *next_to_sync(struct super_block *sb, struct inode *prev)
{
	struct inode *inode;

	spin_lock(&inodes_lock);
	inode = prev ? next_inode(prev) : sb->inodes;
	while (inode && (!S_ISREG(inode->mode) || inode->dax))
		inode = next_inode(inode);
	if (inode)
		inode_get(inode);
	spin_unlock(&inodes_lock);
	if (prev)
		inode_put(prev);
	return inode;
}

int inode_sync_all(struct super_block *sb)
{
	struct inode *inode = NULL;
	int first_error = 0;

	while ((inode = next_to_sync(sb, inode))) {
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
		free_inode(inode);
	}
	return in_use;
}
