/*
 * Guests that live on: state of vCPUs and devices goes out and in again at random
 * moments, and the guest's own checks hold.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/emulated_host.h"
#include "tests/restore/life.h"
#include "tests/run_suites.h"
#include "tests/scratch.h"

#define KERNEL	  "build/guest/kernel.elf"
#define DISK	  "build/guest/disk.img"
#define LIVES	  rounds_here(20)
#define FEW_LIVES (LIVES / 4) /* how many there are before the guest is done is up to the host */
#define MOMENT_US 250000      /* at most, between two */
#define TEXT	  65536

static char text[TEXT];

/* Printed, so that a run that fails can be done again. */
static unsigned seed(void)
{
	const char *given = getenv("FOAL_SEED");
	unsigned value = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);

	printf("FOAL_SEED=%u\n", value);
	srand(value);
	return value;
}

static void copy_disk(const char *to)
{
	char command[300];

	snprintf(command, sizeof(command), "cp " DISK " %s", to);
	ck_assert_int_eq(system(command), 0);
}

static const struct {
	const char *cpus, *engine, *halt, *mode;
} ways[] = {
    {"1", "auto", "auto", "cow"},
    {"2", "auto", "auto", "shared"},
    {"1", "handler", "guest", "cow"},
};

/* Let @argv's guest live at most LIVES times, each at most @moment_us: how often it did. */
static unsigned live(char **argv, unsigned moment_us, const char *last_words)
{
	struct life life;
	int status;

	life_begin(&life, argv);
	while (life.rebirths < LIVES && life_again(&life, (unsigned)rand() % moment_us))
		;
	printf("%u lives\n", life.rebirths);
	status = life_end(&life, text, sizeof(text));
	ck_assert_msg(status == 0 && strstr(text, last_words), "status %d\n%s", status, text);
	return life.rebirths;
}

/* A host on which the guest is done too soon has shorter moments. */
static void live_often(char **argv, unsigned moment_us, const char *last_words)
{
	while (live(argv, moment_us, last_words) < FEW_LIVES) {
		moment_us /= 4;
		ck_assert_uint_gt(moment_us, 0);
	}
}

/* Reads, sums, forks, private and shared writes; the sums are the same before and after. */
START_TEST(programs_with_a_disk)
{
	const char *disk = scratch("disk");
	char option[64];

	if (!have_kvm())
		return;
	seed();
	copy_disk(disk);
	snprintf(option, sizeof(option), "%s,mode=%s", disk, ways[_i].mode);
	live_often((char *[]){"--kernel", KERNEL, "--disk", option, "--memory", "64M", "--append",
			      "quiet init=/bin/main root=/dev/vda -- nonce=seven", "--cpus",
			      (char *)ways[_i].cpus, "--fault-engine", (char *)ways[_i].engine,
			      "--halt", (char *)ways[_i].halt, NULL},
		   MOMENT_US, "main: ok");
}
END_TEST

/* What processors and devices remember, looked at all the time by two of them. */
START_TEST(processors_that_look)
{
	if (!have_kvm())
		return;
	seed();
	live_often((char *[]){"--kernel", "build/tests/guests/lives.elf", "--memory", "32M",
			      "--cpus", (char *)(_i ? "2" : "1"), "--append",
			      (char *)(_i ? "cpus=2 rounds=1500" : "cpus=1 rounds=1500"), NULL},
		   MOMENT_US / 8, "");
}
END_TEST

/* The same VM, back to what it was, over and over. */
START_TEST(back_in_place)
{
	struct life life;
	int status;

	if (!have_kvm())
		return;
	seed();
	life_begin(&life, (char *[]){"--kernel", "build/tests/guests/lives.elf", "--memory", "32M",
				     "--cpus", "2", "--append", "cpus=2 rounds=1000", NULL});
	while (life.rebirths < LIVES && life_back(&life, (unsigned)rand() % (MOMENT_US / 2)))
		;
	status = life_end(&life, text, sizeof(text));
	ck_assert_msg(status == 0, "status %d\n%s", status, text);
	ck_assert_uint_eq(life.rebirths, LIVES);
}
END_TEST

Suite *restore_suite(void)
{
	Suite *suite = suite_create("restore");
	TCase *tc = tcase_create("lives");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, programs_with_a_disk, 0, sizeof(ways) / sizeof(ways[0]));
	tcase_add_loop_test(tc, processors_that_look, 0, 2);
	tcase_add_test(tc, back_in_place);
	suite_add_tcase(suite, tc);
	return suite;
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {vcpu_suite, refused_suite, restore_suite};

	return run_suites(suites, 3, argc ? argv + 1 : argv);
}
