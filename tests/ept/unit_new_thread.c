/* A new thread begins while its maker does not sleep, on another CPU; then it may run anywhere. */
#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "ept/new_thread.h"
#include "tests/ept/unit_suites.h"

#define TRIES	  100
#define ELSEWHERE 80 /* else at most 74 on a busy host, some 25 on a quiet one */
#define ROUNDS	  50

static _Atomic int begun_on; /* its CPU; -1: it has not begun */
static atomic_bool looked;

static void *begin(void *arg)
{
	atomic_store(&begun_on, sched_getcpu());
	while (!atomic_load(&looked))
		sched_yield();
	return arg;
}

static cpu_set_t own_cpus(void)
{
	cpu_set_t all;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(all), &all), 0);
	return all;
}

/* True: it began where its maker was not. */
static bool begins_elsewhere(const cpu_set_t *mine)
{
	int here = sched_getcpu(), there;
	cpu_set_t its;
	pthread_t thread;

	atomic_store(&begun_on, -1);
	atomic_store(&looked, false);
	ck_assert_int_eq(ept_new_thread(&thread, begin, NULL), 0);
	while ((there = atomic_load(&begun_on)) < 0)
		; /* who slept would make room for it */
	ck_assert_int_eq(pthread_getaffinity_np(thread, sizeof(its), &its), 0);
	ck_assert(CPU_EQUAL(&its, mine));
	atomic_store(&looked, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	return there != here;
}

START_TEST(begins_where_its_maker_is_not)
{
	cpu_set_t mine = own_cpus();
	int most = 0;

	if (CPU_COUNT(&mine) < 2)
		return; /* there is no other */
	/* On a busy host it may have been moved back, or its maker: 98 of 100, or 31. */
	for (int round = 0; round < ROUNDS && most < ELSEWHERE; round++) {
		int elsewhere = 0;

		for (int i = 0; i < TRIES; i++)
			elsewhere += begins_elsewhere(&mine);
		most = elsewhere > most ? elsewhere : most;
	}
	ck_assert_int_ge(most, ELSEWHERE);
}
END_TEST

START_TEST(begins_on_the_only_cpu)
{
	cpu_set_t one, was = own_cpus();
	pthread_t thread;

	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
	atomic_store(&looked, true);
	ck_assert_int_eq(ept_new_thread(&thread, begin, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(CPU_ISSET(atomic_load(&begun_on), &one));
	ck_assert_int_eq(sched_setaffinity(0, sizeof(was), &was), 0);
}
END_TEST

Suite *suite_new_thread(void)
{
	Suite *suite = suite_create("new thread");
	TCase *tc = tcase_create("new thread");

	tcase_add_test(tc, begins_where_its_maker_is_not);
	tcase_add_test(tc, begins_on_the_only_cpu);
	suite_add_tcase(suite, tc);
	return suite;
}
