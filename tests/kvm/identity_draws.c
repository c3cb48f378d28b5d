/* Random numbers of forks, clones and restored VMs: none comes twice. */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/kvm/identity_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

#define DRAWS  8
#define COPIES 6

/* Of all copies, with frozen clocks, from where they were forked on: no number comes twice. */
static void expect_all_new(char said[][SAID], unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		for (unsigned k = 0; k < i; k++)
			ck_assert_msg(strcmp(said[i], said[k]) != 0, "drawn twice: %s", said[i]);
}

static void draw_in(const char *name, const char *what, char said[][SAID])
{
	struct told vm = tell_to(name);

	for (unsigned i = 0; i < DRAWS; i++) {
		ck_assert_int_eq(send(vm.console, what, strlen(what), MSG_NOSIGNAL),
				 (ssize_t)strlen(what));
		do
			identity_hear(vm.console, said[i]);
		while (strlen(said[i]) < 64 && strcmp(said[i], "none") != 0); /* not its echo */
	}
	hang_up(&vm);
}

/* Forks, clones from the pool and not, and restored ones of @name. */
static unsigned copies_of(const char *name, const char *names[COPIES])
{
	const char *dir = scratch("drawn");
	unsigned n = 0;

	expect_command(ARGS("fork", name, "-n", "2", "--name", "f%"), 0, "f2: running");
	expect_command(ARGS("template", name, "--name", "t", "--pool", "1"), 0, "t: template");
	expect_command(ARGS("clone", "t", "-n", "2", "--name", "c%"), 0, "c2: running");
	names[n++] = "f1";
	names[n++] = "f2";
	names[n++] = "c1";
	names[n++] = "c2";
	if (!have_userfaultfd())
		return n;
	snapshot(name, dir);
	for (int i = 0; i < 2; i++) {
		names[n] = in_round("r%d", i);
		expect_command(
		    ARGS("restore", dir, "-d", "--name", names[n++], "--time-limit", GUEST_LIMIT),
		    0, "running");
	}
	return n;
}

START_TEST(devices_never_draw_the_same)
{
	static char said[(COPIES + 1) * DRAWS][SAID];
	const char *names[COPIES];
	unsigned n;

	identity_start("rng", "ready\n", ARGS(IDENTITY_GUEST, "--rng", "on"));
	draw_in("rng", "r", said);
	n = copies_of("rng", names);
	for (unsigned i = 0; i < n; i++)
		draw_in(names[i], "r", said + (i + 1) * DRAWS);
	expect_all_new(said, (n + 1) * DRAWS);
	/* The processor's own, where it has any. */
	for (unsigned i = 0; i < n; i++)
		draw_in(names[i], "h", said + i * DRAWS);
	if (strcmp(said[0], "none") != 0)
		expect_all_new(said, n * DRAWS);
}
END_TEST

/* The tiny kernel's, which are made of the VM generation ID. */
START_TEST(kernels_never_draw_the_same)
{
	static char said[(COPIES + 1) * DRAWS][SAID];
	const char *names[COPIES];
	unsigned n;

	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	identity_start("kernel", "random: ready",
		       ARGS("--kernel", image_path("kernel.elf"), "--disk",
			    copy_file(image_path("disk.img"), "drawn.img"), "--memory", "64M",
			    "--append", "quiet root=/dev/vda init=/bin/random", "--halt", "exit"));
	n = copies_of("kernel", names);
	for (unsigned i = 0; i < n; i++)
		draw_in(names[i], "\n", said + i * DRAWS);
	draw_in("kernel", "\n", said + n * DRAWS);
	expect_all_new(said, (n + 1) * DRAWS);
}
END_TEST

Suite *identity_draws_suite(void)
{
	Suite *suite = suite_create("identity_draws");
	TCase *tc = tcase_create("identity_draws");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_test(tc, devices_never_draw_the_same);
	tcase_add_test(tc, kernels_never_draw_the_same);
	suite_add_tcase(suite, tc);
	return suite;
}
