/* The gate that a run's threads pass before the guest runs. */
#include <pthread.h>
#include <stdbool.h>

#include "tests/vmm/suites.h"
#include "vmm/gate.h"

#define ARRIVING 8
#define WAITING	 4
#define ROUNDS	 20

static struct gate gate;
static int done[ARRIVING]; /* plain: what was done before is seen by who passes */

static void *arrive(void *arg)
{
	*(int *)arg = 1;
	gate_arrive(&gate);
	return NULL;
}

/* How many had not arrived when this one passed. */
static void *pass(void *unused)
{
	long missing = ARRIVING;

	(void)unused;
	gate_wait(&gate);
	for (int i = 0; i < ARRIVING; i++)
		missing -= done[i];
	return (void *)missing;
}

/* Who waits is there first, last, or meanwhile. */
START_TEST(opens_for_the_last)
{
	pthread_t arriving[ARRIVING], waiting[WAITING];
	void *missing;

	for (int round = 0; round < ROUNDS; round++) {
		gate_init(&gate, 1);
		for (int i = 0; i < ARRIVING; i++) {
			if (i % 2 == 0)
				pthread_create(&waiting[i / 2], NULL, pass, NULL);
			done[i] = 0;
			gate_expect(&gate);
			pthread_create(&arriving[i], NULL, arrive, &done[i]);
		}
		gate_arrive(&gate);
		for (int i = 0; i < WAITING; i++) {
			pthread_join(waiting[i], &missing);
			ck_assert_ptr_null(missing);
		}
		for (int i = 0; i < ARRIVING; i++)
			pthread_join(arriving[i], NULL);
	}
}
END_TEST

/* Nobody arrived, and whoever arrives or is expected afterwards does not close it. */
START_TEST(broken)
{
	pthread_t waiting;

	gate_init(&gate, 3);
	pthread_create(&waiting, NULL, pass, NULL);
	gate_break(&gate);
	pthread_join(waiting, NULL);
	for (int i = 0; i < 5; i++)
		gate_arrive(&gate);
	for (int i = 0; i < 10; i++)
		gate_expect(&gate);
	gate_wait(&gate);
	gate_break(&gate);
	gate_wait(&gate);
}
END_TEST

/* One that is made later, or could not be: nobody waits for it. */
START_TEST(stays_open)
{
	gate_init(&gate, 1);
	gate_arrive(&gate);
	gate_expect(&gate);
	ck_assert(gate_is_open(&gate));
	gate_wait(&gate);
	gate_expect(&gate);
	gate_arrive(&gate);
	ck_assert(gate_is_open(&gate));
	gate_wait(&gate);
}
END_TEST

Suite *gate_suite(void)
{
	Suite *suite = suite_create("gate");
	TCase *tc = tcase_create("gate");

	tcase_add_test(tc, opens_for_the_last);
	tcase_add_test(tc, broken);
	tcase_add_test(tc, stays_open);
	suite_add_tcase(suite, tc);
	return suite;
}
