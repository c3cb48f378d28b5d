/*
 * What comes by a descriptor: eventfd, timerfd, signalfd, alone and with poll, in lines that any
 * kernel says alike.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RT	  (SIGRTMIN + 1)
#define TICK_NS	  10000000L
#define LONG_AWAY 10000 /* seconds */

static volatile sig_atomic_t rings;

static void say(const char *what, long value)
{
	printf("%s: %ld\n", what, value);
	fflush(stdout);
}

static void said(const char *what, long ret)
{
	printf("%s: %ld, %s\n", what, ret, ret < 0 ? strerror(errno) : "well");
	fflush(stdout);
}

static void say_read(const char *what, int fd)
{
	uint64_t value = 0;
	ssize_t n = read(fd, &value, sizeof(value));

	if (n < 0)
		printf("%s: %s\n", what, strerror(errno));
	else
		printf("%s: %zd bytes, %llu\n", what, n, (unsigned long long)value);
	fflush(stdout);
}

static void say_write(const char *what, int fd, uint64_t value)
{
	said(what, write(fd, &value, sizeof(value)));
}

static void say_poll(const char *what, int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
	int n = poll(&p, 1, ms);

	printf("%s: %d, %x\n", what, n, p.revents);
	fflush(stdout);
}

static void sleep_ticks(int n)
{
	struct timespec left = {0, n * TICK_NS};

	while (nanosleep(&left, &left))
		;
}

static void ring(int sig)
{
	(void)sig;
	rings++;
}

/* Handlers without SA_RESTART, over and over: the first may come before there is a wait. */
static void say_interrupted(const char *what, int fd)
{
	const struct sigaction a = {.sa_handler = ring};
	timer_t timer;
	const struct itimerspec it = {{0, TICK_NS}, {0, TICK_NS}};
	struct sigevent e = {.sigev_signo = SIGALRM};

	sigaction(SIGALRM, &a, NULL);
	timer_create(CLOCK_MONOTONIC, &e, &timer);
	timer_settime(timer, 0, &it, NULL);
	say_read(what, fd);
	timer_delete(timer);
}

static void say_flags(int fd)
{
	printf("flags %x, on exec %x\n", fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK),
	       fcntl(fd, F_GETFD));
	fflush(stdout);
}

/* --- eventfd ---------------------------------------------------------------------------------- */

static int wakes;

static void *write_later(void *of)
{
	sleep_ticks(3);
	say_write("from elsewhere", *(int *)of, 5);
	return NULL;
}

static void *read_later(void *of)
{
	uint64_t value;

	sleep_ticks(3);
	wakes = read(*(int *)of, &value, sizeof(value)) == sizeof(value) && value == UINT64_MAX - 1;
	return NULL;
}

static void events(void)
{
	int fd = eventfd(3, EFD_NONBLOCK | EFD_CLOEXEC), one = eventfd(2, EFD_SEMAPHORE);
	pthread_t thread;
	char small[4] = {0};

	say_flags(fd);
	say_flags(one);
	say_read("what it began with", fd);
	say_read("nothing", fd);
	say_poll("room", fd, 0);
	say_write("some", fd, 40);
	say_write("and some", fd, 2);
	say_poll("some", fd, 0);
	say_read("together", fd);
	say_write("all", fd, UINT64_MAX - 1);
	say_poll("full", fd, 0);
	say_write("one too many", fd, 1);
	say_write("none", fd, 0);
	say_write("no number", fd, UINT64_MAX);
	said("a short read", read(fd, small, sizeof(small)));
	said("a short write", write(fd, small, sizeof(small)));
	said("nowhere", read(fd, NULL, 8));
	said("a place", pread(fd, small, 4, 0) < 0);
	said("unknown flags", eventfd(0, 0x10));
	say_read("one", one);
	say_read("by one", one);
	say_interrupted("interrupted", one);
	pthread_create(&thread, NULL, write_later, &one);
	say_poll("waited for", one, -1);
	while (poll(&(struct pollfd){.fd = one, .events = POLLIN}, 1, -1) != 1)
		;
	pthread_join(thread, NULL);
	close(one);
	fcntl(fd, F_SETFL, 0);
	eventfd_write(fd, UINT64_MAX - 1);
	pthread_create(&thread, NULL, read_later, &fd);
	say_write("waits for room", fd, 7);
	pthread_join(thread, NULL);
	say("who read it made some", wakes);
	say_read("which is here", fd);
	close(fd);
}

/* A child's end of the same number. */
static void handed_on(void)
{
	int fd = eventfd(0, 0);

	if (!fork()) {
		eventfd_write(fd, 11);
		_exit(0);
	}
	say_read("a child's", fd);
	wait(NULL);
	close(fd);
}

/* --- timerfd ---------------------------------------------------------------------------------- */

static int set(int fd, int flags, long sec, long nsec, long interval)
{
	const struct itimerspec it = {.it_value = {sec, nsec}, .it_interval = {0, interval}};

	return timerfd_settime(fd, flags, &it, NULL);
}

static void say_armed(const char *what, int fd)
{
	struct itimerspec it;

	said(what, timerfd_gettime(fd, &it));
	printf("  armed %d, interval %ld\n", it.it_value.tv_sec || it.it_value.tv_nsec,
	       it.it_interval.tv_nsec);
	fflush(stdout);
}

static uint64_t ends_of(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void timers(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), waits;
	struct timespec now;
	fd_set set_of;

	waits = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
	say_flags(fd);
	say_flags(waits);
	say_armed("not armed", fd);
	say_read("nothing", fd);
	said("once", set(fd, 0, 0, TICK_NS, 0));
	say_poll("waited for", fd, -1);
	say_poll("still there", fd, 0);
	say_read("it has ended", fd);
	say_read("that is read", fd);
	say_poll("and gone", fd, 0);
	said("over and over", set(fd, 0, 0, TICK_NS, TICK_NS));
	sleep_ticks(8);
	say_armed("it goes on", fd);
	say("at least 5 ends", ends_of(fd) >= 5);
	sleep_ticks(3);
	said("set anew", set(fd, 0, LONG_AWAY, 0, TICK_NS));
	say_read("what ended is forgotten", fd);
	say_armed("far away", fd);
	said("disarmed", set(fd, 0, 0, 0, TICK_NS));
	say_armed("behind that", fd);
	say_armed("the other", waits);
	set(waits, 0, 0, TICK_NS, 0);
	say_read("a read that waits", waits);
	clock_gettime(CLOCK_REALTIME, &now);
	set(waits, TFD_TIMER_ABSTIME, now.tv_sec, now.tv_nsec, 0);
	say_read("at a time", waits);
	set(waits, TFD_TIMER_ABSTIME, 0, 1, 0);
	FD_ZERO(&set_of);
	FD_SET(waits, &set_of);
	said("long ago, by select", select(waits + 1, &set_of, NULL, NULL, NULL));
	say_read("long ago", waits);
	say_interrupted("interrupted", waits);
	said("written", write(waits, &now, 8));
	said("a short read", read(waits, &now, 4));
	said("unknown flags", set(waits, 4, 0, 0, 0));
	said("no such time", set(waits, 0, 0, -1, 0));
	said("no timer", set(1, 0, 0, 0, 0));
	said("no descriptor", set(77, 0, 0, 0, 0));
	said("no such clock", timerfd_create(77, 0));
	said("unknown flags", timerfd_create(CLOCK_MONOTONIC, 1));
	set(fd, 0, 0, TICK_NS, TICK_NS);
	close(fd);
	close(waits);
	sleep_ticks(2);
}

/* --- signalfd --------------------------------------------------------------------------------- */

static sigset_t set_of(int a, int b)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, a);
	sigaddset(&set, b);
	return set;
}

static void say_signals(const char *what, int fd, size_t most)
{
	struct signalfd_siginfo s[8];
	ssize_t n = read(fd, s, most * sizeof(s[0]));

	printf("%s: %s\n", what, n < 0 ? strerror(errno) : "well");
	for (ssize_t i = 0; i < n / (ssize_t)sizeof(s[0]); i++)
		printf("  signal %d, code %d, own %d, value %d, status %d\n",
		       (int)s[i].ssi_signo > 31 ? (int)s[i].ssi_signo - SIGRTMIN + 100
						: (int)s[i].ssi_signo,
		       s[i].ssi_code, s[i].ssi_pid == (unsigned)getpid(), s[i].ssi_int,
		       s[i].ssi_status);
	fflush(stdout);
}

static void *send_later(void *of)
{
	(void)of;
	sleep_ticks(3);
	kill(getpid(), SIGUSR1);
	return NULL;
}

static void by_timer(int fd)
{
	struct sigevent e = {.sigev_signo = RT, .sigev_value.sival_int = 12};
	const struct itimerspec it = {.it_value = {0, TICK_NS}};
	struct signalfd_siginfo s;
	timer_t timer;

	timer_create(CLOCK_MONOTONIC, &e, &timer);
	timer_settime(timer, 0, &it, NULL);
	said("a timer's", read(fd, &s, sizeof(s)));
	printf("  code %d, value %d, overrun %u\n", s.ssi_code, s.ssi_int, s.ssi_overrun);
	timer_delete(timer);
}

static void signals(void)
{
	sigset_t set = set_of(RT, SIGUSR1), other = set_of(SIGCHLD, SIGUSR2);
	int fd, waits;
	pthread_t thread;

	sigprocmask(SIG_BLOCK, &set, NULL);
	sigprocmask(SIG_BLOCK, &other, NULL);
	while (sigtimedwait(&other, NULL, &(struct timespec){0, 0}) > 0)
		; /* of children that were before */
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	waits = signalfd(-1, &other, 0);
	say_flags(fd);
	say_poll("nothing", fd, 0);
	say_signals("nothing", fd, 1);
	sigqueue(getpid(), RT, (union sigval){.sival_int = 7});
	sigqueue(getpid(), RT, (union sigval){.sival_int = 8});
	sigqueue(getpid(), SIGUSR1, (union sigval){.sival_int = 9});
	kill(getpid(), SIGUSR2);
	say_poll("some", fd, 0);
	say_signals("two of three", fd, 2);
	say_signals("the third", fd, 8);
	say_signals("no more", fd, 8);
	say_signals("the other's", waits, 8);
	if (!fork())
		_exit(5);
	say_signals("a child's end", waits, 1);
	wait(NULL);
	if (!fork()) { /* it is the reader's signals that are read */
		kill(getppid(), SIGUSR1);
		say_signals("a child has none", fd, 1);
		raise(SIGUSR1);
		say_signals("but its own", fd, 1);
		_exit(0);
	}
	wait(NULL);
	say_poll("its parent has its own", fd, 0);
	say_signals("of the child", fd, 1);
	say_signals("that has ended", waits, 1);
	pthread_create(&thread, NULL, send_later, NULL);
	say_poll("waited for", fd, -1);
	pthread_join(thread, NULL);
	say_signals("which came", fd, 1);
	fcntl(fd, F_SETFL, 0);
	by_timer(fd);
	pthread_create(&thread, NULL, send_later, NULL);
	say_signals("a read that waits", fd, 1);
	pthread_join(thread, NULL);
	say_interrupted("too short for one", fd);
	said("changed", signalfd(fd, &other, 0) == fd);
	raise(SIGUSR2);
	say_signals("by another set", fd, 1);
	said("no descriptor", signalfd(77, &set, 0));
	said("no signalfd", signalfd(1, &set, 0));
	said("unknown flags", signalfd(-1, &set, 1));
	close(fd);
	close(waits);
}

int main(void)
{
	events();
	handed_on();
	timers();
	signals();
	return 0;
}
