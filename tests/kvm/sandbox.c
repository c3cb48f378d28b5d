#include "tests/kvm/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/kvm/runner.h"

static void must(int result, const char *what)
{
	if (result == 0)
		return;
	dprintf(STDERR_FILENO, "sandbox: %s: %s\n", what, strerror(errno));
	_exit(127);
}

/* Make a node like the host's @path in the new /dev. */
static void make_node(const struct sandbox *box, const char *path, int mode)
{
	struct stat st;
	char node[600];

	if (!mode || stat(path, &st))
		return;
	snprintf(node, sizeof(node), "%s/%s", box->devices, strrchr(path, '/') + 1);
	must(mknod(node, S_IFCHR, st.st_rdev), node);
	must(chmod(node, (mode_t)mode), node);
}

void sandbox_enter(void *arg)
{
	const struct sandbox *box = arg;

	must(unshare(CLONE_NEWNS), "unshare");
	must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make mounts private");
	must(mount("none", box->devices, "tmpfs", 0, "mode=755"), "mount a tmpfs");
	make_node(box, "/dev/null", 0666);
	make_node(box, "/dev/kvm", box->kvm_mode);
	make_node(box, "/dev/userfaultfd", box->userfaultfd_mode);
	must(mount(box->devices, "/dev", NULL, MS_MOVE, NULL), "move it to /dev");
	if (box->nobody) {
		must(setgroups(0, NULL), "setgroups");
		must(setresgid(65534, 65534, 65534), "setresgid");
		must(setresuid(65534, 65534, 65534), "setresuid");
	}
}

void mount_private_tmpfs(const char *path, const char *size)
{
	char options[32];

	snprintf(options, sizeof(options), "size=%s", size);
	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	mkdir(path, 0755);
	ck_assert_int_eq(mount("none", path, "tmpfs", 0, options), 0);
}

void kvm_is_busy(void *ignored)
{
	struct sock_filter busy[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KVM_CREATE_VM, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EBUSY),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(busy) / sizeof(busy[0]), busy};

	(void)ignored;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(127);
}
