/*
 * Signals that are queued, and waiting for them, in lines that any kernel says alike.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RT    (SIGRTMIN + 1)
#define MOST  64
#define LIMIT 10
#define MORE  500

static struct {
	int sig, code, value, own;
} seen[MOST];
static volatile sig_atomic_t nr_seen;

static void say(const char *what, long value)
{
	printf("%s: %ld\n", what, value);
	fflush(stdout);
}

static void say_error(const char *what, long ret)
{
	printf("%s: %ld, %s\n", what, ret, ret < 0 ? strerror(errno) : "well");
	fflush(stdout);
}

static void note(int sig, siginfo_t *info, void *context)
{
	(void)context;
	if (nr_seen == MOST)
		return;
	seen[nr_seen].sig = sig;
	seen[nr_seen].code = info->si_code;
	seen[nr_seen].value = info->si_value.sival_int;
	seen[nr_seen].own = info->si_pid == getpid() && info->si_uid == getuid();
	nr_seen++;
}

static void handle(int sig)
{
	struct sigaction a = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};

	sigfillset(&a.sa_mask);
	sigaction(sig, &a, NULL);
}

static void block(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	if (sig)
		sigaddset(&set, sig);
	else
		sigfillset(&set);
	sigprocmask(how, &set, NULL);
}

static void say_seen(const char *what)
{
	printf("%s: %d\n", what, (int)nr_seen);
	for (int i = 0; i < nr_seen; i++)
		printf("  signal %d, code %d, value %d, own %d\n",
		       seen[i].sig > 31 ? seen[i].sig - SIGRTMIN + 100 : seen[i].sig, seen[i].code,
		       seen[i].code == SI_QUEUE ? seen[i].value : 0, seen[i].own);
	fflush(stdout);
	nr_seen = 0;
}

static long queue(int sig, int value)
{
	return sigqueue(getpid(), sig, (union sigval){.sival_int = value});
}

/* --- order ------------------------------------------------------------------------------------ */

static void order(void)
{
	block(SIG_BLOCK, 0);
	for (int i = 0; i < 5; i++) {
		queue(RT + 1, 200 + i);
		queue(SIGUSR2, 300 + i);
		queue(RT, 100 + i);
		queue(SIGUSR1, 400 + i);
	}
	kill(getpid(), RT);
	kill(getpid(), RT);
	block(SIG_UNBLOCK, 0);
	say_seen("one after the other");
	block(SIG_BLOCK, RT);
	queue(RT, 1);
	queue(RT, 2);
	raise(RT);
	queue(RT, 3);
	block(SIG_UNBLOCK, RT);
	say_seen("the thread's first");
	say_error("none that would be sent", queue(0, 1));
	say_error("a number too high", queue(65, 1));
	say_error("nobody", sigqueue(0x3ffffff, RT, (union sigval){0}));
}

/* --- what a program may say of a signal ------------------------------------------------------- */

static void forged(void)
{
	static const int codes[] = {SI_USER, SI_KERNEL, SI_TKILL, SI_QUEUE, SI_TIMER, -60, 3};
	siginfo_t info = {0};

	handle(RT);
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		info.si_code = codes[i];
		printf("code %d: ", codes[i]);
		say_error("to itself", syscall(SYS_rt_sigqueueinfo, getpid(), RT, &info));
		say_error("to its thread",
			  syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), RT, &info));
		say_error("to another", syscall(SYS_rt_sigqueueinfo, getppid(), 0, &info));
	}
	say_error("no thread", syscall(SYS_rt_tgsigqueueinfo, getpid(), 0, RT, &info));
	say_error("nothing said", syscall(SYS_rt_sigqueueinfo, getpid(), RT, NULL));
	nr_seen = 0;
}

/* --- limits ----------------------------------------------------------------------------------- */

static void limited(rlim_t to)
{
	struct rlimit l;

	getrlimit(RLIMIT_SIGPENDING, &l);
	l.rlim_cur = to;
	if (setrlimit(RLIMIT_SIGPENDING, &l))
		exit(3);
}

static void limits(void)
{
	int sent = 0;

	block(SIG_BLOCK, 0);
	limited(0);
	say_error("none may be queued", queue(RT, 1));
	say_error("a standard one", kill(getpid(), SIGUSR1));
	say_error("by kill", kill(getpid(), RT));
	say_error("to a thread", syscall(SYS_tgkill, getpid(), getpid(), RT));
	limited(LIMIT);
	while (sent <= LIMIT && !queue(RT + 1, 0))
		sent++;
	say("no more than that", sent <= LIMIT); /* others of the same user may have some, too */
	say_error("then", queue(RT + 1, 0));
	limited(MORE);
	say_error("with more room", queue(RT + 1, 0));
	nr_seen = 0;
	block(SIG_UNBLOCK, 0);
	say("all came", nr_seen == sent + 3);
	nr_seen = 0;
}

/* --- waiting ---------------------------------------------------------------------------------- */

static sigset_t set_of(int a, int b)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, a);
	sigaddset(&set, b);
	return set;
}

static void say_waited(const char *what, int sig, const siginfo_t *info)
{
	if (sig < 0)
		printf("%s: %s\n", what, strerror(errno));
	else
		printf("%s: %d, code %d, value %d\n", what, sig == SIGUSR1 ? sig : sig - SIGRTMIN,
		       info->si_code, info->si_code == SI_QUEUE ? info->si_value.sival_int : 0);
	fflush(stdout);
}

static void *send_later(void *of)
{
	(void)of;
	nanosleep(&(struct timespec){0, 50000000}, NULL);
	queue(RT, 77);
	return NULL;
}

static void waits(void)
{
	const sigset_t set = set_of(RT, SIGUSR1);
	const struct timespec now = {0, 0}, soon = {0, 30000000}, late = {1000, 0}, bad = {0, -1};
	pthread_t thread;
	siginfo_t info;

	block(SIG_BLOCK, RT);
	block(SIG_BLOCK, SIGUSR1);
	signal(SIGUSR1, SIG_IGN);
	say_waited("nothing there", sigtimedwait(&set, &info, &now), &info);
	say_waited("nor soon", sigtimedwait(&set, &info, &soon), &info);
	say_waited("no such time", sigtimedwait(&set, &info, &bad), &info);
	queue(RT, 1);
	queue(RT, 2);
	queue(SIGUSR1, 3);
	say_waited("the lowest", sigwaitinfo(&set, &info), &info);
	say_waited("the first of two", sigtimedwait(&set, &info, &late), &info);
	say_waited("the second", sigtimedwait(&set, &info, &now), &info);
	say_waited("no more", sigtimedwait(&set, &info, &now), &info);
	pthread_create(&thread, NULL, send_later, NULL);
	say_waited("from elsewhere", sigwaitinfo(&set, &info), &info);
	pthread_join(thread, NULL);
	say("no handler ran", nr_seen);
	signal(SIGALRM, SIG_DFL);
	handle(SIGALRM);
	alarm(1);
	/* musl's own waits again. */
	say_waited("interrupted", (int)syscall(SYS_rt_sigtimedwait, &set, &info, &late, 8L), &info);
	say("by a handler", nr_seen);
	nr_seen = 0;
}

/* What is ignored is forgotten; what was sent is neither a child's nor lost by exec. */
static void forgotten(void)
{
	const sigset_t set = set_of(RT, RT + 1);
	const struct timespec now = {0, 0};
	siginfo_t info;
	int status = 0;

	block(SIG_BLOCK, RT);
	queue(RT, 1);
	queue(RT, 2);
	if (!fork()) {
		say_waited("a child", sigtimedwait(&set, &info, &now), &info);
		exit(0);
	}
	wait(&status);
	signal(RT, SIG_IGN);
	signal(RT, SIG_DFL);
	say_waited("behind its being ignored", sigtimedwait(&set, &info, &now), &info);
	queue(RT, 3);
	if (!fork()) {
		block(SIG_UNBLOCK, RT);
		queue(RT, 1);
		exit(0);
	}
	wait(&status);
	say("a child ended by one", WTERMSIG(status) - SIGRTMIN);
}

/* --- several threads that wait ---------------------------------------------------------------- */

#define WAITERS 3

static int got[WAITERS];

static void *wait_for_one(void *of)
{
	const sigset_t set = set_of(RT, RT + 1);
	siginfo_t info;

	if (sigwaitinfo(&set, &info) == RT)
		*(int *)of = info.si_value.sival_int;
	return NULL;
}

static void crowd(void)
{
	pthread_t threads[WAITERS];
	int sum = 0;

	block(SIG_BLOCK, RT);
	block(SIG_BLOCK, RT + 1);
	while (sigtimedwait(&(sigset_t){{~0UL}}, NULL, &(struct timespec){0, 0}) > 0)
		;
	for (int i = 0; i < WAITERS; i++)
		pthread_create(&threads[i], NULL, wait_for_one, &got[i]);
	nanosleep(&(struct timespec){0, 30000000}, NULL);
	for (int i = 0; i < WAITERS; i++)
		queue(RT, 1 << i);
	for (int i = 0; i < WAITERS; i++) {
		pthread_join(threads[i], NULL);
		sum += got[i];
	}
	say("each thread got one", sum);
}

int main(void)
{
	handle(RT);
	handle(RT + 1);
	handle(SIGUSR1);
	handle(SIGUSR2);
	order();
	forged();
	limits();
	waits();
	forgotten();
	crowd();
	return 0;
}
