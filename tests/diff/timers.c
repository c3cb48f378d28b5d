/*
 * Interval timers and what their signal ends, in lines that any kernel says alike: how often, never
 * how long.
 *
 *   timers [left]       left: says only what the program before it left armed
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TICK_US	  20000
#define LONG_AWAY 10000 /* seconds */

static volatile sig_atomic_t rings, code;
static int pipe_ends[2];

static void say(const char *what, long value)
{
	printf("%s: %ld\n", what, value);
	fflush(stdout);
}

static void ring(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	rings++;
	code = info->si_code;
}

static void ring_into_pipe(int sig)
{
	(void)sig;
	rings++;
	if (write(pipe_ends[1], "x", 1) != 1)
		_exit(3);
}

static void on_alarm(void (*handler)(int, siginfo_t *, void *))
{
	const struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

	rings = 0;
	sigaction(SIGALRM, &a, NULL);
}

static int set(long value_us, long interval_us)
{
	const struct itimerval it = {.it_value = {0, value_us}, .it_interval = {0, interval_us}};

	return setitimer(ITIMER_REAL, &it, NULL);
}

static void say_armed(const char *what)
{
	struct itimerval it;

	say(what, getitimer(ITIMER_REAL, &it));
	say("  armed", it.it_value.tv_sec || it.it_value.tv_usec);
	say("  interval", it.it_interval.tv_sec * 1000000 + it.it_interval.tv_usec);
}

static void say_end(const char *what)
{
	int status = 0;

	wait(&status);
	printf("%s: status %d, signal %d\n", what, WEXITSTATUS(status), WTERMSIG(status));
	fflush(stdout);
}

/* --- alarm -------------------------------------------------------------------------------------
 */

static void alarms(void)
{
	unsigned left;

	say("first alarm", alarm(LONG_AWAY));
	left = alarm(LONG_AWAY / 2);
	say("the second says of it", left > LONG_AWAY / 2 && left <= LONG_AWAY);
	left = alarm(0);
	say("its end says of that", left > 0 && left <= LONG_AWAY / 2);
	say("none is left", alarm(0));
	on_alarm(ring);
	alarm(1);
	while (!rings)
		;
	say("one in the middle of nothing", rings);
	say("sent by the kernel", code == SI_KERNEL);
	if (!fork()) {
		signal(SIGALRM, SIG_DFL);
		alarm(1);
		for (;;)
			;
	}
	say_end("without a handler");
	if (!fork()) {
		signal(SIGALRM, SIG_DFL);
		alarm(1);
		for (;;)
			pause();
	}
	say_end("asleep, without a handler");
}

/* --- intervals ---------------------------------------------------------------------------------
 */

static void intervals(void)
{
	sigset_t blocked, open;

	sigemptyset(&open);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	on_alarm(ring);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	say("every 20 ms", set(TICK_US, TICK_US));
	while (rings < 5)
		sigsuspend(&open);
	say("rings", rings);
	say("a value of none ends it", set(0, TICK_US));
	say_armed("behind its end");
	sigprocmask(SIG_UNBLOCK, &blocked, NULL); /* one may have been under way */
	rings = 0;
	say("a sleep", nanosleep(&(struct timespec){0, 5000L * TICK_US}, NULL));
	say("rings", rings);
	say("too many microseconds", set(1000000, 0));
	say("errno", errno);
	say("no such timer", setitimer(7, NULL, NULL));
	say("errno", errno);
}

/* --- what a ring ends --------------------------------------------------------------------------
 */

static void interrupted(void)
{
	const struct sigaction again = {.sa_handler = ring_into_pipe, .sa_flags = SA_RESTART};
	struct timespec left = {0};
	char c = 0;

	if (pipe(pipe_ends))
		exit(3);
	on_alarm(ring);
	/* Over and over: the first may come before there is a wait that it ends. */
	set(TICK_US, TICK_US);
	say("a sleep", nanosleep(&(struct timespec){LONG_AWAY, 0}, &left));
	say("errno", errno);
	say("most of it is left", left.tv_sec > LONG_AWAY / 2 && left.tv_sec < LONG_AWAY);
	say("a read", read(pipe_ends[0], &c, 1));
	say("errno", errno);
	set(0, 0);
	sigaction(SIGALRM, &again, NULL);
	set(TICK_US, 0);
	say("a read that is made again", read(pipe_ends[0], &c, 1));
	say("has read", c);
}

/* --- fork and exec -----------------------------------------------------------------------------
 */

static void heirs(char *self)
{
	const struct itimerval far = {.it_value = {LONG_AWAY, 0}, .it_interval = {0, 5}};

	setitimer(ITIMER_REAL, &far, NULL);
	say_armed("armed");
	if (!fork()) {
		say_armed("a child");
		exit(0);
	}
	say_end("it");
	if (!fork()) {
		setitimer(ITIMER_REAL, &far, NULL);
		execl(self, self, "left", NULL);
		exit(3);
	}
	say_end("it");
	signal(SIGALRM, SIG_IGN);
	set(TICK_US, 0);
	say("a sleep through one ignored", nanosleep(&(struct timespec){0, 5000L * TICK_US}, NULL));
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "left")) {
		say_armed("a new program");
		return 0;
	}
	alarms();
	intervals();
	interrupted();
	heirs(argv[0]);
	return 0;
}
