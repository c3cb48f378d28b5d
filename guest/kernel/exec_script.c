/* Scripts: files whose first line, "#! interpreter [word]", says which program runs them. */
#include "guest/include/errno.h"
#include "guest/include/exec.h"
#include "guest/include/file.h"
#include "guest/include/file_rw.h"
#include "guest/include/fs.h"
#include "guest/include/string.h"

int exec_open(const char *path, struct inode **inode)
{
	struct inode *cwd = cwd_get();
	int err = fs_lookup_at(cwd, path, true, inode);

	if (cwd)
		inode_put(cwd);
	if (!err && (!S_ISREG((*inode)->mode) || !((*inode)->mode & 0111))) {
		inode_put(*inode);
		*inode = NULL;
		err = -EACCES;
	}
	return err;
}

char *exec_path(const char *path)
{
	struct inode *cwd = cwd_get();
	char *buf = kmalloc(PATH_MAX), *whole = NULL;

	if (buf && !fs_path_of_file(cwd, path, buf, PATH_MAX))
		whole = kstrdup(buf);
	kfree(buf);
	if (cwd)
		inode_put(cwd);
	return whole;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static char *skip_blanks(char *p)
{
	while (is_blank(*p))
		p++;
	return p;
}

static char *skip_word(char *p)
{
	while (*p && !is_blank(*p))
		p++;
	return p;
}

/* Ends the string behind the first line, without the blanks there. False: it goes on behind what
 * was read, and the interpreter's name perhaps with it. */
static bool cut_line(char *line)
{
	char *end = line;

	while (*end && *end != '\n')
		end++;
	if (!*end && end == line + SCRIPT_LINE && !*skip_word(skip_blanks(line + 2)))
		return false;
	while (end > line && is_blank(end[-1]))
		end--;
	*end = 0;
	return true;
}

/* The line's name and word; word NULL: there is none. The rest is one word, blanks and all. */
static int parse_line(char *line, const char **name, const char **word)
{
	char *p;

	if (!cut_line(line))
		return -ENOEXEC;
	p = skip_blanks(line + 2);
	if (!*p)
		return -ENOEXEC;
	*name = p;
	p = skip_word(p);
	if (*p)
		*p++ = 0;
	p = skip_blanks(p);
	*word = *p ? p : NULL;
	return 0;
}

static void prepend(struct exec_args *args, const char *s)
{
	*--args->argv = s;
	args->argc++;
}

int scripts_follow(struct scripts *s, struct inode **inode, struct exec_args *args)
{
	const char *path = args->path, *word;

	for (;; args->program = path) {
		char head[SCRIPT_LINE + 1] = {0}, *line;
		int err = file_read_kernel(*inode, 0, head, MIN((u64)SCRIPT_LINE, (*inode)->size));

		if (err)
			return err;
		if (head[0] != '#' || head[1] != '!')
			return 0;
		if (s->count == SCRIPTS_MAX)
			return -ELOOP;
		line = memcpy(s->line[s->count++], head, sizeof(head));
		args->argv[0] = path; /* for the name that it was called by */
		err = parse_line(line, &path, &word);
		if (err)
			return err;
		if (word)
			prepend(args, word);
		prepend(args, path);
		inode_put(*inode);
		*inode = NULL;
		err = exec_open(path, inode);
		if (err)
			return err;
	}
}
