/*
 * Timers that a program makes (timer_create), in lines that any kernel says alike: how often at
 * least, never how long.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RT	  (SIGRTMIN + 2)
#define TICK_NS	  10000000L
#define LONG_AWAY 10000 /* seconds */

#ifndef sigev_notify_thread_id /* musl has it */
#	define sigev_notify_thread_id _sigev_un._tid
#endif

/* The kernel's own calls and numbers: the C library has SIGEV_THREAD of its own. */
static int ids[8];
static volatile sig_atomic_t rings, last_value, last_code, last_overrun, last_thread;

static void say(const char *what, long value)
{
	printf("%s: %ld\n", what, value);
	fflush(stdout);
}

static long said(const char *what, long ret)
{
	printf("%s: %ld, %s\n", what, ret, ret < 0 ? strerror(errno) : "well");
	fflush(stdout);
	return ret;
}

static void ring(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	rings++;
	last_value = info->si_value.sival_int;
	last_code = info->si_code;
	last_overrun = info->si_overrun;
	last_thread = (int)syscall(SYS_gettid) != getpid();
}

static void handle(int sig)
{
	struct sigaction a = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO};

	sigaction(sig, &a, NULL);
}

static void block(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(how, &set, NULL);
}

static long create(clockid_t clock, int notify, int sig, int value, int *id)
{
	struct sigevent e = {.sigev_notify = notify, .sigev_signo = sig};

	e.sigev_value.sival_int = value;
	if (notify == SIGEV_THREAD_ID)
		e.sigev_notify_thread_id = (int)syscall(SYS_gettid);
	return syscall(SYS_timer_create, clock, &e, id);
}

static long set(int id, int flags, time_t sec, long nsec, long interval)
{
	const struct itimerspec it = {.it_value = {sec, nsec}, .it_interval = {0, interval}};

	return syscall(SYS_timer_settime, id, flags, &it, NULL);
}

static void say_armed(const char *what, int id)
{
	struct itimerspec it;

	said(what, syscall(SYS_timer_gettime, id, &it));
	printf("  armed %d, interval %ld\n", it.it_value.tv_sec || it.it_value.tv_nsec,
	       it.it_interval.tv_nsec);
	fflush(stdout);
}

static void wait_for(int n)
{
	while (rings < n)
		nanosleep(&(struct timespec){0, TICK_NS / 10}, NULL);
}

static void sleep_ticks(int n)
{
	struct timespec left = {0, n * TICK_NS};

	while (nanosleep(&left, &left))
		;
}

static void say_last(const char *what)
{
	printf("%s: value %d, code %d\n", what, last_value, last_code);
	fflush(stdout);
	rings = 0;
}

/* --- once, and over and over ------------------------------------------------------------------ */

static void once(clockid_t clock)
{
	struct timespec at;
	int id = -1;

	printf("clock %d\n", clock);
	said("made", create(clock, SIGEV_SIGNAL, RT, 42, &id));
	say_armed("not armed", id);
	said("set", set(id, 0, 0, TICK_NS, 0));
	wait_for(1);
	say_last("rang");
	say_armed("behind its end", id);
	sleep_ticks(3);
	say("no more", rings);
	clock_gettime(clock, &at);
	said("at a time", set(id, TIMER_ABSTIME, at.tv_sec, at.tv_nsec, 0));
	wait_for(1);
	say_last("rang");
	said("at a time long ago", set(id, TIMER_ABSTIME, 0, 1, 0));
	wait_for(1);
	say_last("rang");
	said("far away", set(id, 0, LONG_AWAY, 0, TICK_NS));
	say_armed("armed", id);
	said("ended", set(id, 0, 0, 0, TICK_NS));
	say_armed("behind that", id);
	said("every 10 ms", set(id, 0, 0, TICK_NS, TICK_NS));
	wait_for(3);
	said("given back", syscall(SYS_timer_delete, id));
	say_last("rang");
	sleep_ticks(3);
	say("no more", rings);
	said("no such timer", syscall(SYS_timer_delete, id));
	rings = 0;
}

/* --- overruns --------------------------------------------------------------------------------- */

static void overruns(void)
{
	int id, other;
	long n;

	create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 1, &id);
	create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 2, &other);
	block(SIG_BLOCK, RT);
	set(id, 0, 0, TICK_NS, TICK_NS);
	set(other, 0, 0, TICK_NS, 0);
	sleep_ticks(8);
	say_armed("pending, it goes on", id);
	say_armed("pending, it does not", other);
	set(other, 0, 0, 0, 0);
	last_overrun = -1;
	block(SIG_UNBLOCK, RT);
	wait_for(1);
	syscall(SYS_timer_delete, other);
	say("one signal, and the rest counted", rings > 0);
	n = syscall(SYS_timer_getoverrun, id);
	say("it says how many", n >= 0);
	syscall(SYS_timer_delete, id);
	rings = 0;

	block(SIG_BLOCK, RT);
	create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 3, &id);
	say("none yet", syscall(SYS_timer_getoverrun, id));
	set(id, 0, 0, TICK_NS, TICK_NS);
	sleep_ticks(8);
	{
		sigset_t rt;
		siginfo_t info;

		sigemptyset(&rt);
		sigaddset(&rt, RT);
		say("waited for", sigwaitinfo(&rt, &info) == RT);
		say("its overrun is at least 5", info.si_overrun >= 5);
		say("as is said", syscall(SYS_timer_getoverrun, id) == info.si_overrun);
		say("its value", info.si_value.sival_int);
	}
	syscall(SYS_timer_delete, id);
	block(SIG_UNBLOCK, RT);
	rings = 0;
}

/* Two timers of one standard signal: each has its own. */
static void shared_signal(void)
{
	int id, other;

	block(SIG_BLOCK, SIGUSR1);
	create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 1, &id);
	create(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 2, &other);
	set(id, 0, 0, TICK_NS, 0);
	set(other, 0, 0, 2 * TICK_NS, 0);
	sleep_ticks(4);
	block(SIG_UNBLOCK, SIGUSR1);
	say("each comes", rings);
	say_last("the last one's");
	syscall(SYS_timer_delete, id);
	syscall(SYS_timer_delete, other);
}

/* --- who is told ------------------------------------------------------------------------------ */

static void *in_thread(void *of)
{
	int id;

	(void)of;
	said("made in a thread", create(CLOCK_MONOTONIC, SIGEV_THREAD_ID, RT, 9, &id));
	set(id, 0, 0, TICK_NS, 0);
	wait_for(1);
	say("it is told", last_thread);
	say_last("rang");
	ids[0] = id;
	return NULL;
}

static void told(void)
{
	struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = RT};
	pthread_t thread;
	int id;

	pthread_create(&thread, NULL, in_thread, NULL);
	pthread_join(thread, NULL);
	set(ids[0], 0, 0, TICK_NS, TICK_NS);
	sleep_ticks(3);
	say("a thread that has ended is told nothing", rings);
	said("its timer", syscall(SYS_timer_delete, ids[0]));
	said("nobody's", create(CLOCK_REALTIME, SIGEV_NONE, 0, 0, &id));
	set(id, 0, 0, TICK_NS, TICK_NS);
	sleep_ticks(3);
	say_armed("it goes on", id);
	set(id, 0, 0, TICK_NS, 0);
	sleep_ticks(3);
	say_armed("it has ended", id);
	say("nobody heard of it", rings);
	say("nor counted", syscall(SYS_timer_getoverrun, id));
	syscall(SYS_timer_delete, id);
	e.sigev_notify_thread_id = 1;
	said("another's thread", syscall(SYS_timer_create, CLOCK_REALTIME, &e, &id));
	said("no such signal", create(CLOCK_REALTIME, SIGEV_SIGNAL, 0, 0, &id));
	said("a number too high", create(CLOCK_REALTIME, SIGEV_SIGNAL, 65, 0, &id));
	said("no such way", create(CLOCK_REALTIME, 3, RT, 0, &id));
	said("no such clock", create(77, SIGEV_SIGNAL, RT, 0, &id));
	handle(SIGALRM);
	said("nothing said", syscall(SYS_timer_create, CLOCK_MONOTONIC, NULL, &id));
	set(id, 0, 0, TICK_NS, 0);
	wait_for(1);
	say("its value is its number", last_value == id);
	syscall(SYS_timer_delete, id);
	rings = 0;
}

/* --- fork, exec, the end ---------------------------------------------------------------------- */

static void heirs(char *self)
{
	char number[16];
	int id, status;

	create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 1, &id);
	set(id, 0, LONG_AWAY, 0, 0);
	if (!fork()) {
		struct itimerspec it;

		said("a child has none", syscall(SYS_timer_gettime, id, &it));
		said("its first", create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 1, &id));
		set(id, 0, 0, TICK_NS, TICK_NS);
		_exit(0); /* and leaves it behind */
	}
	wait(&status);
	snprintf(number, sizeof(number), "%d", id);
	if (!fork()) {
		create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 1, &id);
		snprintf(number, sizeof(number), "%d", id);
		execl(self, self, number, NULL);
		_exit(3);
	}
	wait(&status);
	say("status", status);
	if (!fork()) {
		create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 1, &id);
		signal(RT, SIG_DFL);
		set(id, 0, 0, TICK_NS, 0);
		for (;;)
			pause();
	}
	wait(&status);
	say("ended by it", WTERMSIG(status) == RT);
}

/* While it is ignored nothing comes; it goes on behind that. */
static void ignored(void)
{
	int id;

	signal(RT, SIG_IGN);
	create(CLOCK_MONOTONIC, SIGEV_SIGNAL, RT, 5, &id);
	set(id, 0, 0, TICK_NS, TICK_NS);
	sleep_ticks(5);
	say("ignored", rings);
	handle(RT);
	wait_for(2);
	syscall(SYS_timer_delete, id);
	say_last("then it comes");
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		said("another program has none", syscall(SYS_timer_delete, atoi(argv[1])));
		return 0;
	}
	handle(RT);
	handle(SIGUSR1);
	once(CLOCK_REALTIME);
	once(CLOCK_MONOTONIC);
	overruns();
	shared_signal();
	told();
	ignored();
	heirs(argv[0]);
	return 0;
}
