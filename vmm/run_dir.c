#include "vmm/run_dir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG	    16
/* Somebody may hold a lock for the moment it takes to clear away. */
#define CLAIM_TRIES 20
#define RETRY_NS    5000000L

const char *vm_name_fault(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= VM_NAME_SIZE)
		return "give 1 to 63 characters";
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)name[i]) && !strchr("-_.", name[i]))
			return "letters, digits, '-', '_' and '.' only";
	}
	return isalnum((unsigned char)name[0]) ? NULL : "it begins with a letter or a digit";
}

/* --- the directory ------------------------------------------------------------------ */

static int choose(char *path, size_t size, const char *given)
{
	const char *own = getenv("FOAL_RUN_DIR"), *xdg = getenv("XDG_RUNTIME_DIR");
	int n;

	if (given || (own && own[0]))
		n = snprintf(path, size, "%s", given ? given : own);
	else if (xdg && xdg[0])
		n = snprintf(path, size, "%s/foal", xdg);
	else if (geteuid() == 0)
		n = snprintf(path, size, "/run/foal");
	else
		n = snprintf(path, size, "/tmp/foal-%u", (unsigned)geteuid());
	return n >= (int)size ? -ENAMETOOLONG : 0;
}

/* Others could put their sockets there, or ask ours. */
static const char *fault_of(int fd, bool make)
{
	struct stat st;

	if (fstat(fd, &st))
		return strerror(errno);
	if (st.st_uid != geteuid() && (make || geteuid() != 0))
		return "it belongs to another user; give --run-dir another one";
	if (st.st_mode & 077)
		return "it is open to other users; chmod 700, or give --run-dir another one";
	return NULL;
}

int run_dir_open(struct run_dir *dir, const char *given, bool make, struct foal_error *err)
{
	const char *fault;

	dir->fd = -1;
	int r = choose(dir->path, sizeof(dir->path), given);
	if (r == 0 && make && mkdir(dir->path, 0700) && errno != EEXIST)
		r = -errno;
	if (r == 0)
		dir->fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (r == 0 && dir->fd < 0)
		r = -errno;
	if (r == -ENOENT && !make)
		return r;
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r,
				 "%s: the directory of running VMs: %s; give another one with "
				 "--run-dir",
				 dir->path, strerror(-r));
	fault = fault_of(dir->fd, make);
	if (fault) {
		run_dir_close(dir);
		return error_set(err, FOAL_EXIT_HOST, -EACCES,
				 "%s: the directory of running VMs: %s", dir->path, fault);
	}
	return 0;
}

void run_dir_close(struct run_dir *dir)
{
	if (dir->fd >= 0)
		close(dir->fd);
	dir->fd = -1;
}

/* --- the lock ------------------------------------------------------------------------- */

struct file_name {
	char text[VM_NAME_SIZE + 8];
};

static struct file_name file_of(const char *name, const char *suffix)
{
	struct file_name file;

	snprintf(file.text, sizeof(file.text), "%s%s", name, suffix);
	return file;
}

/* Is @fd still what the name leads to? Who clears away unlinks it under its lock. */
static bool still_there(const struct run_dir *dir, const char *path, int fd)
{
	struct stat now, held;

	return fstat(fd, &held) == 0 && fstatat(dir->fd, path, &now, AT_SYMLINK_NOFOLLOW) == 0 &&
	       now.st_dev == held.st_dev && now.st_ino == held.st_ino;
}

/* The locked file; -EWOULDBLOCK: somebody holds it; -EAGAIN: it went meanwhile. */
static int lock_name(const struct run_dir *dir, const char *name, int flags)
{
	struct file_name lock = file_of(name, ".lock");
	int fd = openat(dir->fd, lock.text, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB))
		r = -errno;
	else if (!still_there(dir, lock.text, fd))
		r = -EAGAIN;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static void pause_a_little(void)
{
	struct timespec a_little = {.tv_nsec = RETRY_NS};

	nanosleep(&a_little, NULL);
}

/* The name is ours: @r is its lock, or why not. */
static int take(const struct run_dir *dir, const char *name, int r, int *lock,
		struct foal_error *err)
{
	if (r < 0)
		return error_set(err, FOAL_EXIT_HOST, r, "%s/%s.lock: %s", dir->path, name,
				 error_text(r));
	*lock = r;
	unlinkat(dir->fd, file_of(name, ".sock").text, 0);
	unlinkat(dir->fd, file_of(name, ".log").text, 0);
	return 0;
}

int name_claim(const struct run_dir *dir, const char *name, int *lock, struct foal_error *err)
{
	int r = -EAGAIN;

	for (int i = 0; i < CLAIM_TRIES && (r == -EAGAIN || r == -EWOULDBLOCK); i++) {
		if (i)
			pause_a_little();
		r = lock_name(dir, name, O_CREAT);
	}
	if (r == -EWOULDBLOCK || r == -EAGAIN)
		return error_set(err, FOAL_EXIT_NAME, -EEXIST,
				 "%s: a VM of this name runs already; foal ps lists them", name);
	return take(dir, name, r, lock, err);
}

int name_try_claim(const struct run_dir *dir, const char *name, int *lock, struct foal_error *err)
{
	int r = lock_name(dir, name, O_CREAT);

	return r == -EWOULDBLOCK || r == -EAGAIN ? -EEXIST : take(dir, name, r, lock, err);
}

void name_hand_over(const struct run_dir *dir, const char *name)
{
	static const char *const suffixes[] = {".lock", ".sock", ".log"};
	struct stat st;

	if (fstat(dir->fd, &st) || st.st_uid == geteuid())
		return;
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
		if (fchownat(dir->fd, file_of(name, suffixes[i]).text, st.st_uid, st.st_gid,
			     AT_SYMLINK_NOFOLLOW))
			return; /* only root may: then they stay ours */
}

bool name_tidy(const struct run_dir *dir, const char *name)
{
	int fd = lock_name(dir, name, 0);

	if (fd == -ENOENT)
		return true;
	if (fd < 0)
		return false;
	unlinkat(dir->fd, file_of(name, ".sock").text, 0);
	unlinkat(dir->fd, file_of(name, ".lock").text, 0);
	close(fd);
	return true;
}

static bool is_held(const struct run_dir *dir, const char *name)
{
	int fd = lock_name(dir, name, 0);

	if (fd >= 0)
		close(fd);
	return fd == -EWOULDBLOCK;
}

void name_mark(const struct run_dir *dir, const char *name, struct name_mark *mark)
{
	struct stat st = {0};

	if (fstatat(dir->fd, file_of(name, ".sock").text, &st, AT_SYMLINK_NOFOLLOW))
		st = (struct stat){0};
	*mark = (struct name_mark){st.st_ino, st.st_mtim};
}

static bool is_marked(const struct run_dir *dir, const char *name, const struct name_mark *mark)
{
	struct name_mark now;

	name_mark(dir, name, &now);
	return now.inode == mark->inode && now.made.tv_sec == mark->made.tv_sec &&
	       now.made.tv_nsec == mark->made.tv_nsec;
}

int name_wait_gone(const struct run_dir *dir, const char *name, const struct name_mark *mark,
		   int timeout)
{
	for (long waited = 0; is_held(dir, name) && is_marked(dir, name, mark);
	     waited += RETRY_NS) {
		if (timeout >= 0 && waited / 1000000 >= timeout)
			return -ETIMEDOUT;
		pause_a_little();
	}
	return 0;
}

/* --- the socket and the log ------------------------------------------------------------ */

/* Through the open directory: its own path may be longer than an address has room for. */
static struct sockaddr_un address_of(const struct run_dir *dir, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s.sock", dir->fd, name);
	return addr;
}

int name_listen(const struct run_dir *dir, const char *name, struct foal_error *err)
{
	struct sockaddr_un addr = address_of(dir, name);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	    listen(fd, BACKLOG) == 0)
		return fd;
	int r = -errno;
	if (fd >= 0)
		close(fd);
	return error_set(err, FOAL_EXIT_HOST, r, "%s/%s.sock: %s", dir->path, name, error_text(r));
}

int name_log(const struct run_dir *dir, const char *name)
{
	int fd = openat(dir->fd, file_of(name, ".log").text,
			O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

bool name_has_log(const struct run_dir *dir, const char *name)
{
	return faccessat(dir->fd, file_of(name, ".log").text, R_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int name_connect(const struct run_dir *dir, const char *name)
{
	struct sockaddr_un addr = address_of(dir, name);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 &&
	    fcntl(fd, F_SETFL, 0) == 0)
		return fd;
	int r = -errno;
	if (fd >= 0)
		close(fd);
	return r;
}

/* --- all of them ------------------------------------------------------------------------- */

static int is_lock(const struct dirent *entry)
{
	size_t n = strlen(entry->d_name);

	return n > 5 && strcmp(entry->d_name + n - 5, ".lock") == 0;
}

int names_each(const struct run_dir *dir, void (*each)(void *ctx, const char *name), void *ctx)
{
	struct dirent **entries;
	int n = scandirat(dir->fd, ".", &entries, is_lock, alphasort);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		char *name = entries[i]->d_name;

		name[strlen(name) - 5] = 0;
		if (!vm_name_fault(name))
			each(ctx, name);
		free(entries[i]);
	}
	free(entries);
	return 0;
}
