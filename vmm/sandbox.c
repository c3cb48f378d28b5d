#include "vmm/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "vmm/console.h"
#include "vmm/filters/filters.h"

/* --- what the kernel answers to anything else --------------------------------- */

static __thread char thread_name[16];

struct line {
	char text[256];
	size_t length;
};

/* Only what may be called in a signal handler (signal-safety(7)). */
static void add(struct line *line, const char *text)
{
	while (*text && line->length < sizeof(line->text))
		line->text[line->length++] = *text++;
}

static void add_number(struct line *line, unsigned long n)
{
	char digits[21];
	size_t at = sizeof(digits) - 1;

	digits[at] = 0;
	do {
		digits[--at] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	add(line, digits + at);
}

static void on_trap(int signal, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	unsigned nr = (unsigned)info->si_syscall;
	const char *name = nr < nr_system_call_names ? system_call_names[nr] : NULL;
	struct line line = {.length = 0};

	console_restore();
	add(&line, "foal: ");
	add(&line, thread_name[0] ? thread_name : "a thread");
	add(&line, " made a system call that the sandbox does not allow: ");
	add(&line, name ? name : "number");
	add(&line, " ");
	add_number(&line, nr);
	if (nr == SYS_ioctl) {
		add(&line, ", request ");
		add_number(&line, (unsigned long)uc->uc_mcontext.gregs[REG_RSI]);
	}
	add(&line, "; foal ends here: docs/sandbox.md, and please report it\n");
	if (write(STDERR_FILENO, line.text, line.length) < 0)
		line.length = 0; /* nobody is listening */
	raise(signal);		 /* SA_RESETHAND: the default action, after this returns */
}

static void catch_traps(void)
{
	struct sigaction action = {.sa_sigaction = on_trap,
				   .sa_flags = SA_SIGINFO | (int)SA_RESETHAND};

	sigemptyset(&action.sa_mask);
	sigaction(SIGSYS, &action, NULL);
}

/* --- Landlock (Documentation/userspace-api/landlock.rst) ------------------------ */

/* Linux 6.12's; Debian 12's header ends before. */
struct ruleset_attr {
	uint64_t handled_fs, handled_net, scoped;
};

#define FS_RIGHTS_ABI_1	     13 /* so many rights, from bit 0 */
#define FS_RIGHTS_ABI_2	     14 /* and REFER */
#define FS_RIGHTS_ABI_3	     15 /* and TRUNCATE */
#define FS_RIGHTS_ABI_5	     16 /* and IOCTL_DEV */
#define NET_BIND_AND_CONNECT 3	/* TCP's, from ABI 4 on */
#define SCOPE_ABSTRACT_UNIX  1	/* from ABI 6 on */

int sandbox_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	return abi < 0 ? 0 : (int)abi;
}

/*
 * Every right that this kernel knows is handled, and none is given. Signals are
 * left out: early kernels that scope them also keep the threads of one process
 * apart, each of which has a domain of its own here; the filters see to signals.
 */
static int create_ruleset(void)
{
	static const unsigned char rights[] = {
	    0, FS_RIGHTS_ABI_1, FS_RIGHTS_ABI_2, FS_RIGHTS_ABI_3, FS_RIGHTS_ABI_3, FS_RIGHTS_ABI_5};
	int abi = sandbox_landlock_abi();
	size_t row = (size_t)abi < sizeof(rights) ? (size_t)abi : sizeof(rights) - 1;
	struct ruleset_attr attr = {.handled_fs = (1ULL << rights[row]) - 1,
				    .handled_net = abi >= 4 ? NET_BIND_AND_CONNECT : 0,
				    .scoped = abi >= 6 ? SCOPE_ABSTRACT_UNIX : 0};

	return (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
}

/* --- seccomp ------------------------------------------------------------------ */

bool sandbox_seccomp_there(void)
{
	uint32_t action = SECCOMP_RET_TRAP;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static int install_filter(enum thread_kind kind, pid_t pid)
{
	const struct thread_filter *filter = &thread_filters[kind];
	/* Not on the stack: its page would be kept, by each thread of each copy of a VM. */
	struct sock_filter *code = malloc(filter->length * sizeof(*code));
	struct sock_fprog program = {.len = filter->length, .filter = code};
	int r;

	if (!code)
		return -ENOMEM;
	for (unsigned i = 0; i < filter->length; i++) {
		code[i] = filter->code[i];
		if (BPF_CLASS(code[i].code) == BPF_JMP && code[i].k == FILTER_OWN_PID)
			code[i].k = (uint32_t)pid;
	}
	r = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) ? -errno : 0;
	free(code);
	return r;
}

/* --- the steps, in order -------------------------------------------------------- */

static int fail(struct foal_error *err, const char *what, const char *mend)
{
	int error = -errno;

	return error_set(err, FOAL_EXIT_HOST, error, "sandbox: %s: %s; %s", what, strerror(-error),
			 mend);
}

/* A process that was forked looks at itself: its page map, where its threads run. */
static int allow_proc(int ruleset)
{
	struct landlock_path_beneath_attr proc = {
	    .allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
	    .parent_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC)};
	long r = proc.parent_fd < 0 ? 0
				    : syscall(SYS_landlock_add_rule, ruleset,
					      LANDLOCK_RULE_PATH_BENEATH, &proc, 0);

	if (proc.parent_fd >= 0)
		close(proc.parent_fd);
	return (int)r;
}

static int open_ruleset(struct sandbox *box, struct foal_error *err)
{
	if (sandbox_landlock_abi() == 0)
		return 0;
	box->ruleset_fd = create_ruleset();
	box->fork_ruleset_fd = create_ruleset();
	if (box->ruleset_fd < 0 || box->fork_ruleset_fd < 0 || allow_proc(box->fork_ruleset_fd))
		return fail(err, "Landlock", "--sandbox off does without");
	return 0;
}

int sandbox_prepare(struct sandbox *box, struct foal_error *err)
{
	box->ruleset_fd = box->fork_ruleset_fd = -1;
	box->pid = getpid();
	/*
	 * Nothing allocates often; an arena a thread would be pages and tables that each copy of
	 * a VM has. And no confined thread may open the files that libc asks for another
	 * (/sys/devices/system/cpu/online) or for less of one (/proc/sys/vm/overcommit_memory).
	 */
	mallopt(M_ARENA_MAX, 1);
	if (!box->on)
		return 0;
	if (!sandbox_seccomp_there())
		return fail(err, "seccomp filters",
			    "a kernel with CONFIG_SECCOMP_FILTER has them, --sandbox off does "
			    "without");
	catch_traps();
	return open_ruleset(box, err);
}

/* By the system calls themselves: libc would change all threads, some of which may not any more. */
static int change_ids(const struct sandbox *box, struct foal_error *err)
{
	if (syscall(SYS_setgroups, 0, NULL) ||
	    syscall(SYS_setresgid, box->gid, box->gid, box->gid) ||
	    syscall(SYS_setresuid, box->uid, box->uid, box->uid))
		return fail(err, "--user", "only root may become somebody else");
	return 0;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	return (int)syscall(SYS_capset, &header, none);
}

int sandbox_enter(const struct sandbox *box, enum thread_kind kind, struct foal_error *err)
{
	int ruleset = kind == THREAD_FORK ? box->fork_ruleset_fd : box->ruleset_fd;
	int r = box->change_ids && !box->forked ? change_ids(box, err) : 0;

	if (r || !box->on)
		return r;
	pthread_getname_np(pthread_self(), thread_name, sizeof(thread_name));
	if (box->forked && kind == THREAD_FORK)
		return 0; /* it was made by one */
	if (drop_capabilities())
		return fail(err, "capabilities", "--sandbox off does without");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return fail(err, "no_new_privs", "--sandbox off does without");
	if (ruleset >= 0 && syscall(SYS_landlock_restrict_self, ruleset, 0))
		return fail(err, "Landlock", "--sandbox off does without");
	r = install_filter(kind, box->pid);
	if (r) {
		errno = -r;
		return fail(err, "seccomp filter", "--sandbox off does without");
	}
	return 0;
}

void sandbox_forked(struct sandbox *box)
{
	box->forked = true;
	box->pid = getpid();
}

void sandbox_close(struct sandbox *box)
{
	if (box->ruleset_fd >= 0)
		close(box->ruleset_fd);
	if (box->fork_ruleset_fd >= 0)
		close(box->fork_ruleset_fd);
	box->ruleset_fd = box->fork_ruleset_fd = -1;
}
