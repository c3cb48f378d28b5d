/*
 * Pipes, with names and without: a ring of pages between writers and readers. A page is there
 * while it holds bytes. pipe->lock sleeps, and is held over copies to and from user memory; it
 * comes before mm.lock.
 */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/sched.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define PIPE_PAGES 16
#define PIPE_BYTES (PIPE_PAGES * PAGE_SIZE)
#define PIPE_BUF   4096UL /* writes of at most that are whole */

struct pipe {
	struct mutex lock;
	struct wait_queue changed;
	u64 head, tail; /* bytes read and written so far */
	struct page *pages[PIPE_PAGES];
	u32 readers, writers;
	u32 opened_readers, opened_writers; /* ever: who opens a named one waits for a change */
	u32 users;			    /* files; of a named one under fifo_lock */
};

static struct mutex fifo_lock = MUTEX_INIT(fifo_lock);

static void pipe_changed(struct pipe *p)
{
	wake_up(&p->changed);
	poll_wake();
}

static struct pipe *pipe_alloc(void)
{
	struct pipe *p = kzalloc(sizeof(*p));

	if (p) {
		mutex_init(&p->lock);
		wait_queue_init(&p->changed);
	}
	return p;
}

static void pipe_free(struct pipe *p)
{
	for (unsigned i = 0; i < PIPE_PAGES; i++) {
		if (p->pages[i])
			put_page(p->pages[i]);
	}
	kfree(p);
}

/* --- bytes; lock held
 * ------------------------------------------------------------------------------ */

/* Copies out what is there, at most n bytes; pages read empty go. */
static s64 take_bytes(struct pipe *p, u64 buf, size_t n)
{
	size_t done = 0;

	while (done < n && p->head != p->tail) {
		struct page **page = &p->pages[p->head / PAGE_SIZE % PIPE_PAGES];
		u64 at = p->head % PAGE_SIZE;
		size_t len = MIN(MIN(n - done, PAGE_SIZE - at), p->tail - p->head);
		size_t bad = copy_to_user(buf + done, (char *)page_kva(*page) + at, len);

		p->head += len - bad;
		done += len - bad;
		if (p->head % PAGE_SIZE == 0 || p->head == p->tail) {
			put_page(*page);
			*page = NULL;
			/* An empty ring begins with a page of its own again. */
			if (p->head == p->tail)
				p->head = p->tail = ALIGN_UP(p->head, PAGE_SIZE);
		}
		if (bad)
			return done ? (s64)done : -EFAULT;
	}
	return (s64)done;
}

static size_t room(const struct pipe *p)
{
	return PIPE_BYTES - (p->tail - ALIGN_DOWN(p->head, PAGE_SIZE));
}

/* Copies in what there is room for, at most n bytes. */
static s64 put_bytes(struct pipe *p, u64 buf, size_t n)
{
	size_t done = 0;

	n = MIN(n, room(p));
	while (done < n) {
		struct page **page = &p->pages[p->tail / PAGE_SIZE % PIPE_PAGES];
		u64 at = p->tail % PAGE_SIZE;
		size_t len = MIN(n - done, PAGE_SIZE - at);
		size_t bad;

		if (!*page)
			*page = alloc_page(0);
		if (!*page)
			return done ? (s64)done : -ENOMEM;
		bad = copy_from_user((char *)page_kva(*page) + at, buf + done, len);
		p->tail += len - bad;
		done += len - bad;
		if (bad)
			return done ? (s64)done : -EFAULT;
	}
	return (s64)done;
}

/* --- files
 * ------------------------------------------------------------------------------------------ */

static s64 pipe_read(struct file *f, u64 *pos, u64 buf, size_t n)
{
	struct pipe *p = f->private;
	s64 ret = 0;

	(void)pos;
	if (!n)
		return 0;
	for (;;) {
		mutex_lock(&p->lock);
		bool ended = !p->writers;
		if (p->head != p->tail)
			ret = take_bytes(p, buf, n);
		else if (!ended && (f->flags & O_NONBLOCK))
			ret = -EAGAIN;
		mutex_unlock(&p->lock);
		if (ret > 0)
			pipe_changed(p);
		if (ret || ended)
			return ret;
		if (wait_event_interruptible(p->changed, READ_ONCE(p->head) != READ_ONCE(p->tail) ||
							     !READ_ONCE(p->writers)))
			return -ERESTARTSYS;
	}
}

/* Whether a write of n bytes, the first of which may not be torn, can begin. */
static bool can_write(const struct pipe *p, size_t n)
{
	return room(p) >= (n <= PIPE_BUF ? n : 1);
}

static s64 pipe_write(struct file *f, u64 *pos, u64 buf, size_t n)
{
	struct pipe *p = f->private;
	size_t done = 0;
	s64 ret = 0;

	(void)pos;
	while (done < n) {
		size_t need = n <= PIPE_BUF ? n : 1;

		mutex_lock(&p->lock);
		ret = -EPIPE;
		if (p->readers)
			ret = can_write(p, need) ? put_bytes(p, buf + done, n - done) : -EAGAIN;
		mutex_unlock(&p->lock);
		if (ret > 0) {
			done += (size_t)ret;
			pipe_changed(p);
		}
		if (ret == -EPIPE && !done)
			signal_send_self(SIGPIPE, SI_USER);
		if (ret > 0)
			continue;
		if (ret != -EAGAIN || (f->flags & O_NONBLOCK))
			break;
		if (wait_event_interruptible(p->changed,
					     can_write(p, need) || !READ_ONCE(p->readers))) {
			ret = -ERESTARTSYS;
			break;
		}
	}
	return done ? (s64)done : ret;
}

static u32 pipe_poll(struct file *f)
{
	struct pipe *p = f->private;
	u32 events = 0;

	mutex_lock(&p->lock);
	if ((f->flags & O_ACCMODE) != O_WRONLY) {
		if (p->head != p->tail)
			events |= POLLIN | POLLRDNORM;
		if (!p->writers)
			events |= POLLHUP;
	}
	if ((f->flags & O_ACCMODE) != O_RDONLY) {
		if (can_write(p, PIPE_BUF))
			events |= POLLOUT | POLLWRNORM;
		if (!p->readers)
			events |= POLLERR;
	}
	mutex_unlock(&p->lock);
	return events;
}

static void add_end(struct pipe *p, u32 flags)
{
	u32 mode = flags & O_ACCMODE;

	mutex_lock(&p->lock);
	if (mode != O_WRONLY) {
		p->readers++;
		p->opened_readers++;
	}
	if (mode != O_RDONLY) {
		p->writers++;
		p->opened_writers++;
	}
	mutex_unlock(&p->lock);
	pipe_changed(p);
}

static void pipe_release(struct file *f)
{
	struct pipe *p = f->private;
	u32 mode = f->flags & O_ACCMODE;
	bool last;

	mutex_lock(&p->lock);
	p->readers -= mode != O_WRONLY;
	p->writers -= mode != O_RDONLY;
	mutex_unlock(&p->lock);
	pipe_changed(p);

	mutex_lock(&fifo_lock);
	last = !--p->users;
	if (last && f->inode)
		f->inode->pipe = NULL;
	mutex_unlock(&fifo_lock);
	if (last)
		pipe_free(p);
}

static const struct file_ops pipe_ops = {
    .read = pipe_read, .write = pipe_write, .poll = pipe_poll, .release = pipe_release};

u32 pipe_bytes(const struct file *f)
{
	return f->ops == &pipe_ops ? PIPE_BYTES : 0;
}

int pipe_open(u32 flags, struct file *ends[2])
{
	struct pipe *p = pipe_alloc();

	if (!p)
		return -ENOMEM;
	for (u32 i = 0; i < 2; i++) {
		ends[i] = file_alloc(flags | (i ? O_WRONLY : O_RDONLY), &pipe_ops, p);
		if (!ends[i])
			goto fail;
		p->users++;
		add_end(p, ends[i]->flags);
	}
	return 0;
fail:
	if (p->users)
		file_put(ends[0]);
	else
		pipe_free(p);
	return -ENOMEM;
}

int fifo_open(struct file *f)
{
	u32 mode = f->flags & O_ACCMODE, before;
	struct pipe *p;

	mutex_lock(&fifo_lock);
	p = f->inode->pipe;
	if (!p)
		p = f->inode->pipe = pipe_alloc();
	if (p)
		p->users++;
	mutex_unlock(&fifo_lock);
	if (!p)
		return -ENOMEM;
	f->private = p;
	f->ops = &pipe_ops;
	before = mode == O_RDONLY ? p->opened_writers : p->opened_readers;
	add_end(p, f->flags);
	if (mode == O_RDWR || (mode == O_RDONLY && (f->flags & O_NONBLOCK)))
		return 0;
	if (f->flags & O_NONBLOCK)
		return READ_ONCE(p->readers) ? 0 : -ENXIO;
	if (mode == O_RDONLY)
		return wait_event_interruptible(
		    p->changed, READ_ONCE(p->writers) || READ_ONCE(p->opened_writers) != before);
	return wait_event_interruptible(p->changed, READ_ONCE(p->readers) ||
							READ_ONCE(p->opened_readers) != before);
}
