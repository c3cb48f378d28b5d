/*
 * /proc: a folder a task, files whose text is made when they are read from the beginning. An
 * inode's number says which it is: the task's pid above FILE_BITS bits of the file's place in its
 * list, 0 for the folder itself.
 */
#include "guest/kernel/proc.h"
#include "guest/fs/internal.h"
#include "guest/include/file.h"
#include "guest/include/page.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/string.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

enum { FILE_BITS = 8, SELF = 255, ROOT_INO = 1, DOTS = 2, TEXT_MIN = 4096, TEXT_MAX = 1 << 20 };

/* The root's own number must not be 0. */
static u64 ino_of(int pid, unsigned file)
{
	return ((u64)pid << FILE_BITS | file) + ROOT_INO;
}

int proc_pid(const struct inode *inode)
{
	return (int)((inode->ino - ROOT_INO) >> FILE_BITS);
}

static unsigned file_of(const struct inode *inode)
{
	return (inode->ino - ROOT_INO) & ((1 << FILE_BITS) - 1);
}

static const struct proc_file *files_of(int pid)
{
	return pid ? proc_process_files : proc_files;
}

static unsigned count_files(const struct proc_file *files)
{
	unsigned n = 0;

	while (files[n].name)
		n++;
	return n;
}

/* --- names
 * ------------------------------------------------------------------------------------------ */

/* Decimal digits alone, no leading zero; 0: not a pid. */
static int parse_pid(const char *s, unsigned len)
{
	int pid = 0;

	if (len > 8 || s[0] == '0')
		return 0;
	for (unsigned i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return 0;
		pid = pid * 10 + s[i] - '0';
	}
	return pid;
}

static u64 find_name(int pid, const char *name, unsigned len)
{
	const struct proc_file *files = files_of(pid);
	int below;

	for (unsigned i = 0; files[i].name; i++) {
		if (strlen(files[i].name) == len && !memcmp(files[i].name, name, len))
			return ino_of(pid, i + 1);
	}
	if (pid)
		return len == 2 && name[0] == '.' && name[1] == '.' ? ROOT_INO : 0;
	if (len == 4 && !memcmp(name, "self", 4))
		return ino_of(0, SELF);
	below = parse_pid(name, len);
	return below && process_find(below) ? ino_of(below, 0) : 0;
}

static int proc_lookup(struct inode *dir, const char *name, unsigned len, struct inode **out)
{
	u64 ino = find_name(proc_pid(dir), name, len);
	int err = -ENOENT;

	if (!ino)
		return err;
	mutex_lock(&dir->sb->lock);
	err = inode_lookup(dir->sb, ino, out);
	mutex_unlock(&dir->sb->lock);
	return err;
}

/* Places: the dots, the files, then for the root self and every process by its number. */
static int proc_readdir(struct inode *dir, u64 *pos, readdir_fn fn, void *arg)
{
	int pid = proc_pid(dir), next, err = 0;
	const struct proc_file *files = files_of(pid);
	u64 n = count_files(files), tasks = DOTS + n + 1;
	char name[12];

	for (; *pos < DOTS && !err; *pos += !err)
		err = fn(arg, "..", (unsigned)*pos + 1, *pos ? ROOT_INO : dir->ino, 4);
	for (; *pos < DOTS + n && !err; *pos += !err)
		err =
		    fn(arg, files[*pos - DOTS].name, (unsigned)strlen(files[*pos - DOTS].name),
		       ino_of(pid, (unsigned)(*pos - DOTS) + 1), files[*pos - DOTS].link ? 10 : 8);
	if (pid || err)
		return err;
	if (*pos == DOTS + n)
		err = fn(arg, "self", 4, ino_of(0, SELF), 10);
	*pos += !err && *pos == DOTS + n;
	while (!err && (next = process_next_pid((int)(*pos - tasks)))) {
		int len = snprintf(name, sizeof(name), "%d", next);

		err = fn(arg, name, (unsigned)len, ino_of(next, 0), 4);
		if (!err)
			*pos = tasks + (u64)next;
	}
	return err;
}

/* --- contents
 * ---------------------------------------------------------------------------------------- */

static const struct proc_file *proc_file_of(const struct inode *inode)
{
	return &files_of(proc_pid(inode))[file_of(inode) - 1];
}

static int make_text(const struct inode *inode, struct text *t)
{
	const struct proc_file *file = proc_file_of(inode);
	size_t size = TEXT_MIN;

	for (;; size = t->len + TEXT_MIN) {
		const struct process *p;

		*t = (struct text){.buf = kmalloc(size), .size = size};
		if (!t->buf)
			return -ENOMEM;
		p = proc_pid(inode) ? process_find(proc_pid(inode)) : current->process;
		if (p)
			file->show(t, p);
		if (p && (t->len < t->size || t->len > TEXT_MAX)) {
			t->len = MIN(t->len, t->size);
			return 0;
		}
		kfree(t->buf);
		if (!p)
			return -ESRCH;
	}
}

static void free_text(struct file *f)
{
	struct text *t = f->private;

	if (t)
		kfree(t->buf);
	kfree(t);
	f->private = NULL;
}

static s64 proc_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	struct text *t = f->private;

	if (!t || !*pos) {
		int err;

		free_text(f);
		t = kmalloc(sizeof(*t));
		err = t ? make_text(f->inode, t) : -ENOMEM;
		if (err) {
			kfree(t);
			return err;
		}
		f->private = t;
	}
	if (*pos >= t->len)
		return 0;
	n = MIN(n, t->len - *pos);
	if (copy_to_user(buf, t->buf + *pos, n))
		return -EFAULT;
	*pos += n;
	return (s64)n;
}

static const struct file_ops proc_file_ops = {
    .read = proc_read, .release = free_text, .seeks = true};

static int proc_read_link(struct inode *inode, char *buf, unsigned size)
{
	struct text t;
	int err;

	if (file_of(inode) == SELF)
		return snprintf(buf, size, "%d", current->process->pid);
	err = make_text(inode, &t);
	if (err)
		return err;
	if (t.len)
		memcpy(buf, t.buf, MIN(t.len, (size_t)size));
	kfree(t.buf);
	return t.len ? (int)t.len : -ENOENT;
}

/* --- inodes
 * ------------------------------------------------------------------------------------------- */

static const struct inode_ops proc_dir_ops = {.lookup = proc_lookup, .readdir = proc_readdir};
static const struct inode_ops proc_ops;

static int proc_read_inode(struct inode *inode)
{
	if (file_of(inode) == SELF || (file_of(inode) && proc_file_of(inode)->link)) {
		pseudo_inode(inode, S_IFLNK | 0777, &proc_ops);
	} else if (file_of(inode)) {
		const struct proc_file *file = proc_file_of(inode);

		pseudo_inode(inode, S_IFREG | (file->ops ? 0600 : 0444), &proc_ops);
		inode->file_ops = file->ops ? file->ops : &proc_file_ops;
	} else {
		pseudo_inode(inode, S_IFDIR | 0555, &proc_dir_ops);
	}
	return 0;
}

static void proc_free_inode(struct inode *inode)
{
	(void)inode;
}

static const struct super_ops proc_super_ops = {
    .read_inode = proc_read_inode, .read_link = proc_read_link, .free_inode = proc_free_inode};

int fs_mount_proc(void)
{
	return fs_mount_pseudo("/proc", &proc_super_ops, ROOT_INO);
}
