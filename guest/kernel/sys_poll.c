/*
 * poll and select. What may have come for anybody wakes all who wait here; each looks at its own
 * descriptors again. There are few, and no file keeps a list of them.
 */
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/page.h"
#include "guest/include/sched.h"
#include "guest/include/string.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define POLL_MAX      1024
#define FOR_EVER      (~0UL)
#define NSEC_PER_SEC  1000000000UL
#define NSEC_PER_MSEC 1000000UL
#define SEC_MAX	      (1UL << 32)

struct pollfd {
	s32 fd;
	u16 events, revents;
};

static struct wait_queue poll_queue = WAIT_QUEUE_INIT(poll_queue);
static u64 poll_round; /* wake-ups so far */

void poll_wake(void)
{
	__atomic_fetch_add(&poll_round, 1, __ATOMIC_RELEASE);
	wake_up(&poll_queue);
}

static u16 events_of(const struct pollfd *p)
{
	struct file *f;
	u32 events;

	if (p->fd < 0)
		return 0;
	f = fd_file((u64)p->fd);
	if (!f)
		return POLLNVAL;
	events = f->ops->poll ? f->ops->poll(f) : POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
	file_put(f);
	return (u16)(events & (p->events | POLLERR | POLLHUP));
}

static s64 look(struct pollfd *fds, u64 n)
{
	s64 ready = 0;

	for (u64 i = 0; i < n; i++) {
		fds[i].revents = events_of(&fds[i]);
		ready += fds[i].revents != 0;
	}
	return ready;
}

/* How many are ready by the deadline; -EINTR. */
static s64 wait_for(struct pollfd *fds, u64 n, u64 deadline)
{
	for (;;) {
		u64 round = __atomic_load_n(&poll_round, __ATOMIC_ACQUIRE);
		s64 ready = look(fds, n);

		if (ready || (deadline != FOR_EVER && ktime_ns() >= deadline))
			return ready;
		wait_event_until(poll_queue,
				 __atomic_load_n(&poll_round, __ATOMIC_ACQUIRE) != round ||
				     signal_pending(),
				 deadline);
		if (signal_pending())
			return -EINTR;
	}
}

static u64 after(u64 ns)
{
	u64 now = ktime_ns();

	return ns > FOR_EVER - now ? FOR_EVER : now + ns;
}

static s64 poll_user(u64 user_fds, u32 n, u64 deadline)
{
	struct pollfd *fds;
	s64 ret;

	if (n > POLL_MAX)
		return -EINVAL;
	fds = kmalloc(MAX(n, 1U) * sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	ret =
	    copy_from_user(fds, user_fds, n * sizeof(*fds)) ? -EFAULT : wait_for(fds, n, deadline);
	if (ret >= 0 && copy_to_user(user_fds, fds, n * sizeof(*fds)))
		ret = -EFAULT;
	kfree(fds);
	return ret;
}

/* A user's relative time in seconds and parts of 1/unit second; 0: for ever. */
static s64 deadline_of(u64 user_time, u64 unit, u64 *deadline)
{
	s64 t[2];

	*deadline = FOR_EVER;
	if (!user_time)
		return 0;
	if (copy_from_user(t, user_time, sizeof(t)))
		return -EFAULT;
	if (t[0] < 0 || t[1] < 0 || (u64)t[1] >= unit)
		return -EINVAL;
	*deadline =
	    after(MIN((u64)t[0], SEC_MAX) * NSEC_PER_SEC + (u64)t[1] * (NSEC_PER_SEC / unit));
	return 0;
}

SYSCALL(poll)
{
	s64 ms = (int)regs->rdx;

	return poll_user(regs->rdi, (u32)regs->rsi,
			 ms < 0 ? FOR_EVER : after((u64)ms * NSEC_PER_MSEC));
}

SYSCALL(ppoll)
{
	u64 deadline;
	s64 err = deadline_of(regs->rdx, NSEC_PER_SEC, &deadline);

	if (!err && regs->r10)
		err = signals_suspend(regs->r10, regs->r8);
	return err ? err : poll_user(regs->rdi, (u32)regs->rsi, deadline);
}

/* --- select: three sets of bits, turned into what poll takes
 * ----------------------------------------- */

static const struct {
	u16 ask, mean; /* a bit set means one of these came */
} sets[3] = {
    {POLLIN | POLLRDNORM, POLLIN | POLLRDNORM | POLLHUP | POLLERR},
    {POLLOUT | POLLWRNORM, POLLOUT | POLLWRNORM | POLLERR},
    {0, 0},
};

struct bits {
	u64 word[3][FILES_MAX / 64];
};

static bool bit_of(const struct bits *b, unsigned set, unsigned fd)
{
	return b->word[set][fd / 64] >> fd % 64 & 1;
}

static s64 copy_bits_in(struct bits *b, const u64 user[3], u64 n)
{
	size_t bytes = (n + 63) / 64 * 8;

	memset(b, 0, sizeof(*b));
	for (unsigned set = 0; set < 3; set++) {
		if (user[set] && copy_from_user(b->word[set], user[set], bytes))
			return -EFAULT;
	}
	return 0;
}

/* What came, in the caller's sets; the number of bits. */
static s64 copy_bits_out(const struct pollfd *fds, struct bits *b, const u64 user[3], u64 n)
{
	struct bits out = {0};
	s64 count = 0;

	for (unsigned set = 0; set < 3; set++) {
		for (unsigned fd = 0; fd < n; fd++) {
			if (!bit_of(b, set, fd) || !(fds[fd].revents & sets[set].mean))
				continue;
			out.word[set][fd / 64] |= 1UL << fd % 64;
			count++;
		}
		if (user[set] && copy_to_user(user[set], out.word[set], (n + 63) / 64 * 8))
			return -EFAULT;
	}
	return count;
}

static s64 select_user(u64 n, const u64 user[3], u64 deadline)
{
	struct bits bits;
	struct pollfd *fds;
	s64 ret = copy_bits_in(&bits, user, n);

	if (ret)
		return ret;
	fds = kmalloc(FILES_MAX * sizeof(*fds));
	if (!fds)
		return -ENOMEM;
	for (unsigned fd = 0; fd < n; fd++) {
		fds[fd] = (struct pollfd){.fd = -1};
		for (unsigned set = 0; set < 3; set++) {
			if (!bit_of(&bits, set, fd))
				continue;
			fds[fd].fd = (s32)fd;
			fds[fd].events |= sets[set].ask;
		}
	}
	ret = wait_for(fds, n, deadline);
	for (unsigned fd = 0; fd < n && ret >= 0; fd++) {
		if (fds[fd].revents & POLLNVAL)
			ret = -EBADF;
	}
	if (ret >= 0)
		ret = copy_bits_out(fds, &bits, user, n);
	kfree(fds);
	return ret;
}

static s64 do_select(const struct regs *regs, u64 unit)
{
	const u64 user[3] = {regs->rsi, regs->rdx, regs->r10};
	u64 deadline;
	s64 err = deadline_of(regs->r8, unit, &deadline);

	if (!err && (int)regs->rdi < 0)
		err = -EINVAL;
	return err ? err : select_user(MIN((u32)regs->rdi, (u32)FILES_MAX), user, deadline);
}

SYSCALL(select)
{
	return do_select(regs, 1000000);
}

SYSCALL(pselect6)
{
	struct {
		u64 set, size;
	} mask = {0};

	if (regs->r9 && copy_from_user(&mask, regs->r9, sizeof(mask)))
		return -EFAULT;
	if (mask.set) {
		s64 err = signals_suspend(mask.set, mask.size);

		if (err)
			return err;
	}
	return do_select(regs, NSEC_PER_SEC);
}
