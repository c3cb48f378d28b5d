/* execve: the strings come in before anything is given up. */
#include "guest/include/errno.h"
#include "guest/include/fs.h"
#include "guest/include/page.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"
#include "guest/include/uaccess.h"

#define STRINGS_MAX 256
#define ARENA_SIZE  (16 * PAGE_SIZE)

/* Path, arguments and environment, copied in; one block. */
struct strings {
	const char *path;
	const char *argv[STRINGS_MAX], *envp[STRINGS_MAX];
	size_t used;
	char arena[ARENA_SIZE];
};

static s64 take_string(struct strings *s, u64 user, const char **out)
{
	char *dst = s->arena + s->used;
	s64 len = strncpy_from_user(dst, user, ARENA_SIZE - s->used);

	if (len < 0)
		return len == -ENAMETOOLONG ? -E2BIG : len;
	*out = dst;
	s->used += (size_t)len + 1;
	return 0;
}

/* A NULL-terminated user array of strings: their number, or negative errno. */
static s64 take_array(struct strings *s, u64 user, const char **out)
{
	for (unsigned n = 0; n < STRINGS_MAX; n++) {
		u64 p = 0;
		s64 err;

		if (user && copy_from_user(&p, user + n * sizeof(p), sizeof(p)))
			return -EFAULT;
		if (!p)
			return n;
		err = take_string(s, p, &out[n]);
		if (err)
			return err;
	}
	return -E2BIG;
}

SYSCALL(execve)
{
	struct strings *s = kmalloc(sizeof(*s));
	s64 ret, argc, envc;

	if (!s)
		return -ENOMEM;
	s->used = 0;
	ret = take_string(s, regs->rdi, &s->path);
	if (ret)
		goto out;
	ret = argc = take_array(s, regs->rsi, s->argv);
	if (argc < 0)
		goto out;
	ret = envc = take_array(s, regs->rdx, s->envp);
	if (envc < 0)
		goto out;
	ret = do_exec(regs, s->path, s->argv, (unsigned)argc, s->envp, (unsigned)envc);
	/* syscall_dispatch stores the result: a program starts with %rax zero. */
out:
	kfree(s);
	return ret;
}
