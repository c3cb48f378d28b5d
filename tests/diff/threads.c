/*
 * What POSIX threads do, as musl makes them, in lines that any kernel says alike.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define THREADS 8

static void say(const char *what, long value)
{
	printf("%s: %ld\n", what, value);
	fflush(stdout);
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	int err = pthread_create(t, NULL, fn, arg);

	if (err) {
		say("a thread cannot be made", err);
		exit(1);
	}
}

/* --- made, joined, their own ----------------------------------------------------------------- */

static _Thread_local long own = 7;

static void *add_to_own(void *arg)
{
	own += (long)(intptr_t)arg;
	return (void *)(intptr_t)own;
}

static void join_and_own(void)
{
	pthread_t t[THREADS];
	long sum = 0;
	void *result;

	for (long i = 0; i < THREADS; i++)
		start(&t[i], add_to_own, (void *)(intptr_t)i);
	for (int i = 0; i < THREADS; i++) {
		pthread_join(t[i], &result);
		sum += (long)(intptr_t)result;
	}
	say("joined, sum", sum);
	say("own", own);
}

static void *ids(void *arg)
{
	long *out = arg;

	out[0] = getpid();
	out[1] = syscall(SYS_gettid);
	out[2] = getppid();
	return NULL;
}

static void one_process(void)
{
	long id[3];
	pthread_t t;

	start(&t, ids, id);
	pthread_join(t, NULL);
	say("same process", id[0] == getpid());
	say("other thread", id[1] != getpid());
	say("same parent", id[2] == getppid());
}

/* --- locks ----------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t turn_changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static long counter, turn, serial;

static void *count_up(void *arg)
{
	(void)arg;
	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&lock);
		long was = counter;
		if (i % 100 == 0)
			sched_yield();
		counter = was + 1;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void *take_turns(void *arg)
{
	for (long i = (long)(intptr_t)arg; i < 10 * THREADS; i += THREADS) {
		pthread_mutex_lock(&lock);
		while (turn != i)
			pthread_cond_wait(&turn_changed, &lock);
		turn++;
		pthread_cond_broadcast(&turn_changed);
		pthread_mutex_unlock(&lock);
	}
	int rank = pthread_barrier_wait(&barrier);
	serial += rank == PTHREAD_BARRIER_SERIAL_THREAD;
	return NULL;
}

static void all(void *(*fn)(void *))
{
	pthread_t t[THREADS];

	for (long i = 0; i < THREADS; i++)
		start(&t[i], fn, (void *)(intptr_t)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static void *die_with_lock(void *arg)
{
	pthread_mutex_lock(arg);
	return NULL;
}

static void locks(void)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t robust;
	struct timespec soon;
	pthread_t t;
	sem_t sem;

	all(count_up);
	say("counted", counter);
	pthread_barrier_init(&barrier, NULL, THREADS);
	all(take_turns);
	say("turns", turn);
	say("one of the barrier's", serial);
	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attr);
	start(&t, die_with_lock, &robust);
	pthread_join(t, NULL);
	say("owner died", pthread_mutex_lock(&robust) == EOWNERDEAD);
	say("made consistent", pthread_mutex_consistent(&robust));
	say("given back", pthread_mutex_unlock(&robust));
	sem_init(&sem, 0, 0);
	clock_gettime(CLOCK_REALTIME, &soon);
	soon.tv_nsec = (soon.tv_nsec + 50000000) % 1000000000;
	say("timed out", sem_timedwait(&sem, &soon) && errno == ETIMEDOUT);
}

/* --- signals --------------------------------------------------------------------------------- */

static atomic_long handled_by;
static _Thread_local long tid;
static sem_t handled, go_on;

static void note(int sig)
{
	(void)sig;
	atomic_store(&handled_by, tid);
	sem_post(&handled);
}

static void *take_signals(void *arg)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	tid = syscall(SYS_gettid);
	pthread_sigmask(arg ? SIG_UNBLOCK : SIG_BLOCK, &set, NULL);
	sem_post(&handled);
	while (sem_wait(&go_on))
		;
	return (void *)(intptr_t)tid;
}

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem))
		;
}

static void signals(void)
{
	pthread_t open, closed;
	sigset_t set, old;
	void *taker;

	signal(SIGUSR1, note);
	sem_init(&handled, 0, 0);
	sem_init(&go_on, 0, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	start(&open, take_signals, (void *)1);
	start(&closed, take_signals, NULL);
	wait_for(&handled);
	wait_for(&handled);
	kill(getpid(), SIGUSR1);
	wait_for(&handled);
	long by = atomic_load(&handled_by);
	pthread_kill(closed, SIGUSR1);
	sigpending(&set);
	say("pending here", sigismember(&set, SIGUSR1));
	sem_post(&go_on);
	sem_post(&go_on);
	pthread_join(open, &taker);
	say("taken by the one that does not block it", by == (long)(intptr_t)taker);
	pthread_join(closed, NULL);
	say("not by the other", atomic_load(&handled_by) == by);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* --- ends ------------------------------------------------------------------------------------ */

static _Noreturn void *sleep_long(void *arg)
{
	(void)arg;
	for (;;)
		sleep(1000);
}

static _Noreturn void *exit_all(void *arg)
{
	(void)arg;
	_exit(21);
}

static void *exec_again(void *arg)
{
	char pid[16], *argv[] = {arg, "again", pid, NULL};

	snprintf(pid, sizeof(pid), "%d", getpid());
	execv(arg, argv);
	return NULL;
}

/* Two at once: one of them goes on, and the other ends with the rest. */
static void *exec_twice(void *arg)
{
	pthread_t t;

	start(&t, exec_again, arg);
	return exec_again(arg);
}

static void *fault_here(void *arg)
{
	volatile char *none = arg;

	*none = 1;
	return arg;
}

static void *leave_last(void *arg)
{
	(void)arg;
	usleep(20000);
	return NULL;
}

static void *fork_here(void *arg)
{
	pid_t pid = fork();
	int status = 0;

	(void)arg;
	if (pid == 0)
		_exit(own == 7 ? 3 : 4);
	return (void *)(intptr_t)(waitpid(pid, &status, 0) == pid ? status : -1);
}

/* The status of a child with two threads that sleep and one that runs fn. */
static int end_of(void *(*fn)(void *), void *arg)
{
	pid_t pid = fork();
	int status = -1;
	pthread_t t;

	if (pid == 0) {
		start(&t, sleep_long, NULL);
		start(&t, sleep_long, NULL);
		start(&t, fn, arg);
		sleep_long(NULL);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

/* Of a program, as behind musl's fork() the first thread cannot leave. */
static int end_without_first(char *self)
{
	char *argv[] = {self, "leaves", NULL};
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		execv(self, argv);
		_exit(1);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static void *nothing(void *arg)
{
	return arg;
}

static void many_detached(void)
{
	pthread_attr_t attr;
	pthread_t t;
	int made = 0;

	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < 300; i++) {
		while (pthread_create(&t, &attr, nothing, NULL) == EAGAIN)
			usleep(1000);
		made++;
	}
	say("detached", made);
}

static void ends(char *self)
{
	pthread_t t;
	void *status;

	say("exit of all by one", end_of(exit_all, NULL));
	say("fault of one", end_of(fault_here, (void *)8));
	say("exec of one", end_of(exec_again, self));
	for (int i = 0; i < 5; i++)
		say("exec of two at once", end_of(exec_twice, self));
	say("the first leaves", end_without_first(self));
	start(&t, fork_here, NULL);
	pthread_join(t, &status);
	say("fork of one", (long)(intptr_t)status);
	start(&t, sleep_long, NULL);
	pthread_cancel(t);
	pthread_join(t, &status);
	say("cancelled", status == PTHREAD_CANCELED);
	many_detached();
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "again")) {
		say("after exec, the same process", getpid() == atoi(argv[2]));
		say("and its only thread", syscall(SYS_gettid) == getpid());
		return 5;
	}
	if (argc > 1 && !strcmp(argv[1], "leaves")) {
		pthread_t t;

		start(&t, leave_last, NULL);
		pthread_exit(NULL);
	}
	join_and_own();
	one_process();
	locks();
	signals();
	ends(argv[0]);
	return 0;
}
