/* User memory from the kernel: the range check, the copies, the exception table. */
#include "guest/include/uaccess.h"
#include "guest/include/errno.h"
#include "guest/include/pgtable.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

struct extable_entry {
	u64 insn, fixup;
};

extern const struct extable_entry extable_start[], extable_end[];

/* uaccess_copy.S */
size_t copy_user(void *dst, const void *src, size_t n);
size_t zero_user(void *dst, size_t n);

/* The table is a few dozen entries and only searched once an access failed. */
static const struct extable_entry *extable_find(u64 rip)
{
	for (const struct extable_entry *e = extable_start; e < extable_end; e++)
		if (e->insn == rip)
			return e;
	return NULL;
}

bool is_fixup_ip(u64 rip)
{
	return extable_find(rip);
}

bool fixup_exception(struct regs *regs)
{
	const struct extable_entry *e = extable_find(regs->rip);

	if (!e)
		return false;
	regs->rip = e->fixup;
	return true;
}

/* What the kernel itself gives to a file's read and write in place of user memory. */
static bool own_range(u64 addr, size_t n)
{
	u64 own = current->own_buffer;

	return unlikely(own) && addr >= own && addr - own <= PAGE_SIZE &&
	       n <= PAGE_SIZE - (addr - own);
}

bool user_range(u64 addr, size_t n)
{
	return (n <= USER_END && addr <= USER_END - n) || own_range(addr, n);
}

/*
 * How much of n bytes is left to do. Where ring 0 is emulated, a copy that meets lost memory counts
 * what it made up instead, so nothing of it is believed.
 */
static size_t left_of(size_t n, size_t left)
{
	if (likely(!current->memory_lost))
		return left;
	current->memory_lost = false;
	return n;
}

size_t copy_to_user(u64 dst, const void *src, size_t n)
{
	return user_range(dst, n) ? left_of(n, copy_user((void *)dst, src, n)) : n;
}

size_t copy_from_user(void *dst, u64 src, size_t n)
{
	return user_range(src, n) ? left_of(n, copy_user(dst, (const void *)src, n)) : n;
}

size_t clear_user(u64 dst, size_t n)
{
	return user_range(dst, n) ? left_of(n, zero_user((void *)dst, n)) : n;
}

s64 strncpy_from_user(char *dst, u64 src, size_t size)
{
	size_t done = 0;

	/* In pieces that do not cross a page: the page behind the string need not exist. */
	while (done < size) {
		size_t part = MIN(size - done, PAGE_SIZE - (src & ~PAGE_MASK));
		size_t got;

		part = MIN(part, 64UL);
		got = part - copy_from_user(dst + done, src, part);
		for (size_t i = 0; i < got; i++)
			if (!dst[done + i])
				return (s64)(done + i);
		if (got < part)
			return -EFAULT;
		done += part;
		src += part;
	}
	return -ENAMETOOLONG;
}
