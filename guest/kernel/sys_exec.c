/* execve: the strings come in before anything is given up. */
#include "guest/include/errno.h"
#include "guest/include/exec.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/syscall.h"
#include "guest/include/uaccess.h"

/* One block for all that comes in: tried small first, then as large as kmalloc gives. */
#define BLOCK_FIRST (16 * PAGE_SIZE)
#define BLOCK_LAST  (PAGE_SIZE << MAX_ORDER)

/* A quarter of the block each for the pointers of the two lists, the rest for the strings. */
struct block {
	size_t size, strings; /* bytes; strings: where the next one goes */
	u8 *bytes;
};

static s64 take_string(struct block *b, u64 user, const char **out)
{
	char *dst = (char *)b->bytes + b->strings;
	s64 len = strncpy_from_user(dst, user, b->size - b->strings);

	if (len < 0)
		return len == -ENAMETOOLONG ? -E2BIG : len;
	*out = dst;
	b->strings += (size_t)len + 1;
	return 0;
}

/* A NULL-terminated user array of strings: their number, or negative errno. */
static s64 take_array(struct block *b, u64 user, const char **out, size_t max)
{
	for (size_t n = 0; n < max; n++) {
		u64 p = 0;
		s64 err;

		if (user && copy_from_user(&p, user + n * sizeof(p), sizeof(p)))
			return -EFAULT;
		if (!p)
			return (s64)n;
		err = take_string(b, p, &out[n]);
		if (err)
			return err;
	}
	return -E2BIG;
}

static s64 exec_within(struct regs *regs, struct block *b)
{
	size_t places = b->size / 4 / sizeof(char *);
	const char **argv = (const char **)b->bytes, **envp = argv + places;
	struct exec_args args = {.argv = argv + EXEC_ARGV_ROOM, .envp = envp};
	s64 ret = take_string(b, regs->rdi, &args.path);

	if (ret)
		return ret;
	ret = take_array(b, regs->rsi, args.argv, places - EXEC_ARGV_ROOM);
	if (ret < 0)
		return ret;
	if (!ret) { /* a program that looks for its name finds one, as in Linux */
		args.argv[0] = "";
		ret = 1;
	}
	args.argc = (unsigned)ret;
	ret = take_array(b, regs->rdx, envp, places);
	if (ret < 0)
		return ret;
	args.envc = (unsigned)ret;
	/* syscall_dispatch stores the result: a program starts with %rax zero. */
	return do_exec(regs, &args);
}

SYSCALL(execve)
{
	s64 ret = -E2BIG;

	for (size_t size = BLOCK_FIRST; ret == -E2BIG && size <= BLOCK_LAST; size *= 2) {
		struct block b = {size, size / 2, kmalloc(size)};

		if (!b.bytes)
			return -ENOMEM;
		ret = exec_within(regs, &b);
		kfree(b.bytes);
	}
	return ret;
}
