/*
 * Timers of the time that a process runs (ITIMER_VIRTUAL, ITIMER_PROF), in lines that any kernel
 * says alike.
 */
#include <pthread.h>
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

static void handle(int sig)
{
	struct sigaction a = {.sa_sigaction = ring, .sa_flags = SA_SIGINFO};

	sigfillset(&a.sa_mask); /* none comes while another is counted */
	sigaction(sig, &a, NULL);
}

static int set(int which, long seconds, long value_us, long interval_us)
{
	const struct itimerval it = {.it_value = {seconds, value_us},
				     .it_interval = {0, interval_us}};

	return setitimer(which, &it, NULL);
}

static void say_armed(const char *what, int which)
{
	struct itimerval it;

	say(what, getitimer(which, &it));
	say("  armed", it.it_value.tv_sec || it.it_value.tv_usec);
	say("  interval", it.it_interval.tv_sec * 1000000 + it.it_interval.tv_usec);
}

static void spin_until(int n)
{
	while (rings < n)
		;
}

static void sleep_ms(long ms)
{
	struct timespec left = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&left, &left))
		;
}

static void *spin(void *of)
{
	spin_until(*(int *)of);
	return NULL;
}

static void one(const char *name, int which, int sig)
{
	int one = 1, status = 0;
	pthread_t thread;

	printf("%s\n", name);
	rings = 0;
	handle(sig);
	say_armed("not armed", which);
	say("set", set(which, LONG_AWAY, 0, 0)); /* what a slow host takes to say it counts, too */
	sleep_ms(200);
	say("asleep", rings);
	say_armed("armed", which);
	say("set anew", set(which, 0, TICK_US, 0));
	spin_until(1);
	say("rang", rings);
	say("sent by the kernel", code == SI_KERNEL);
	say_armed("behind its end", which);
	rings = 0;
	say("over and over", set(which, 0, TICK_US, TICK_US));
	spin_until(5);
	say_armed("armed", which);
	say("ended", set(which, 0, 0, 0));
	say_armed("behind that", which);
	rings = 0;
	set(which, 0, TICK_US, 0);
	pthread_create(&thread, NULL, spin, &one);
	pthread_join(thread, NULL);
	say("by another thread", rings);
	set(which, LONG_AWAY, 0, 5);
	fflush(stdout);
	if (!fork()) {
		say_armed("a child", which);
		signal(sig, SIG_DFL);
		set(which, 0, TICK_US, 0);
		for (;;)
			;
	}
	wait(&status);
	say("it ends by", WTERMSIG(status) == sig);
}

/* What the kernel does for it is of one of them alone. */
static void in_the_kernel(void)
{
	rings = 0;
	handle(SIGPROF);
	signal(SIGVTALRM, SIG_DFL);
	set(ITIMER_PROF, 0, TICK_US, 0);
	while (!rings)
		(void)getppid();
	say("in the kernel and out of it", rings);
}

static void all_three(void)
{
	handle(SIGALRM);
	handle(SIGVTALRM);
	handle(SIGPROF);
	rings = 0;
	set(ITIMER_REAL, 0, TICK_US, 0);
	set(ITIMER_VIRTUAL, 0, TICK_US, 0);
	set(ITIMER_PROF, 0, TICK_US, 0);
	spin_until(3);
	say("all three", rings);
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		say_armed("a new program", ITIMER_VIRTUAL);
		say_armed("of both", ITIMER_PROF);
		return 0;
	}
	one("virtual", ITIMER_VIRTUAL, SIGVTALRM);
	one("prof", ITIMER_PROF, SIGPROF);
	set(ITIMER_VIRTUAL, 0, 0, 0);
	in_the_kernel();
	all_three();
	set(ITIMER_VIRTUAL, LONG_AWAY, 0, 7);
	set(ITIMER_PROF, LONG_AWAY, 0, 8);
	execl(argv[0], argv[0], "new", NULL);
	return 3;
}
