/* A task's descriptors, working directory and umask. */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/string.h"
#include "guest/include/task.h"

struct files {
	s32 refcount;
	struct spinlock lock; /* what follows; nothing sleeps under it */
	u32 umask;
	struct inode *cwd; /* NULL: the root */
	struct file *fd[FILES_MAX];
	bool cloexec[FILES_MAX];
};

int files_init(struct task *t)
{
	t->files = kzalloc(sizeof(*t->files));
	if (!t->files)
		return -ENOMEM;
	t->files->refcount = 1;
	t->files->umask = 022;
	return 0;
}

int files_fork(struct task *child, const struct task *parent)
{
	struct files *from = parent->files;
	int err = files_init(child);

	if (err)
		return err;
	spin_lock(&from->lock);
	child->files->umask = from->umask;
	child->files->cwd = from->cwd;
	if (from->cwd)
		inode_get(from->cwd);
	memcpy(child->files->fd, from->fd, sizeof(from->fd));
	memcpy(child->files->cloexec, from->cloexec, sizeof(from->cloexec));
	for (int fd = 0; fd < FILES_MAX; fd++) {
		if (from->fd[fd])
			file_get(from->fd[fd]);
	}
	spin_unlock(&from->lock);
	return 0;
}

void files_share(struct task *child, const struct task *parent)
{
	__atomic_fetch_add(&parent->files->refcount, 1, __ATOMIC_RELAXED);
	child->files = parent->files;
}

void files_release(struct task *t)
{
	struct files *files = t->files;

	t->files = NULL;
	if (!files || __atomic_sub_fetch(&files->refcount, 1, __ATOMIC_ACQ_REL))
		return;
	for (int fd = 0; fd < FILES_MAX; fd++) {
		if (files->fd[fd])
			file_put(files->fd[fd]);
	}
	if (files->cwd)
		inode_put(files->cwd);
	kfree(files);
}

/* Takes the descriptor's file out; NULL if there is none. */
static struct file *take(struct files *files, u64 fd)
{
	struct file *f = files->fd[fd];

	files->fd[fd] = NULL;
	files->cloexec[fd] = false;
	return f;
}

void files_close_on_exec(struct task *t)
{
	struct files *files = t->files;

	for (int fd = 0; fd < FILES_MAX; fd++) {
		struct file *f = NULL;

		spin_lock(&files->lock);
		if (files->cloexec[fd])
			f = take(files, (u64)fd);
		spin_unlock(&files->lock);
		if (f)
			file_put(f);
	}
}

struct file *fd_file(u64 wide)
{
	struct files *files = current->files;
	u32 fd = (u32)wide;
	struct file *f;

	if (fd >= FILES_MAX)
		return NULL;
	spin_lock(&files->lock);
	f = files->fd[fd];
	if (f)
		file_get(f);
	spin_unlock(&files->lock);
	return f;
}

int fd_install_from(struct file *f, u64 from, bool cloexec)
{
	struct files *files = current->files;

	spin_lock(&files->lock);
	for (u64 fd = from; fd < FILES_MAX; fd++) {
		if (files->fd[fd])
			continue;
		files->fd[fd] = f;
		files->cloexec[fd] = cloexec;
		spin_unlock(&files->lock);
		return (int)fd;
	}
	spin_unlock(&files->lock);
	file_put(f);
	return -EMFILE;
}

int fd_install(struct file *f)
{
	return fd_install_from(f, 0, f->flags & O_CLOEXEC);
}

int fd_install_new(u32 flags, const struct file_ops *ops, void *private)
{
	struct file *f = file_alloc(flags | O_RDWR, ops, private);

	if (!f) {
		struct file none = {.private = private};

		ops->release(&none);
		return -ENOMEM;
	}
	return fd_install(f);
}

int fd_replace(u64 wide, struct file *f, bool cloexec)
{
	struct files *files = current->files;
	u32 fd = (u32)wide;
	struct file *old;

	if (fd >= FILES_MAX) {
		file_put(f);
		return -EBADF;
	}
	spin_lock(&files->lock);
	old = take(files, fd);
	files->fd[fd] = f;
	files->cloexec[fd] = cloexec;
	spin_unlock(&files->lock);
	if (old)
		file_put(old);
	return (int)fd;
}

int fd_close(u64 wide)
{
	struct files *files = current->files;
	u32 fd = (u32)wide;
	struct file *f;

	if (fd >= FILES_MAX)
		return -EBADF;
	spin_lock(&files->lock);
	f = take(files, fd);
	spin_unlock(&files->lock);
	if (!f)
		return -EBADF;
	file_put(f);
	return 0;
}

bool fd_get_cloexec(u64 fd)
{
	return current->files->cloexec[fd];
}

void fd_set_cloexec(u64 fd, bool on)
{
	current->files->cloexec[fd] = on;
}

/* --- working directory, umask -------------------------------------------------------------------
 */

struct inode *files_cwd(const struct task *t)
{
	struct files *files = t->files;
	struct inode *dir;

	if (!files)
		return NULL;
	spin_lock(&files->lock);
	dir = files->cwd;
	if (dir)
		inode_get(dir);
	spin_unlock(&files->lock);
	return dir;
}

struct inode *cwd_get(void)
{
	return files_cwd(current);
}

void cwd_set(struct inode *dir)
{
	struct files *files = current->files;
	struct inode *old;

	spin_lock(&files->lock);
	old = files->cwd;
	files->cwd = dir;
	spin_unlock(&files->lock);
	if (old)
		inode_put(old);
}

u32 umask_get(void)
{
	return current->files->umask;
}

u32 umask_set(u32 mask)
{
	return __atomic_exchange_n(&current->files->umask, mask & 0777, __ATOMIC_RELAXED);
}

int files_next(const struct task *t, int fd, struct file **out)
{
	struct files *files = t->files;
	struct file *f = NULL;

	if (!files)
		return -1;
	spin_lock(&files->lock);
	while (fd < FILES_MAX && !(f = files->fd[fd]))
		fd++;
	if (f)
		file_get(f);
	spin_unlock(&files->lock);
	*out = f;
	return f ? fd : -1;
}
