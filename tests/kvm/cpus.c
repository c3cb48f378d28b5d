/* Processors as a guest finds them: their number, ids and topology. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ept/ept.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

static unsigned most_cpus(void)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int max = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	close(fd);
	ck_assert_int_gt(max, 0);
	return (unsigned)max;
}

/* 65: more than there are fault threads; 300: APIC ids that take more than 8 bits. */
static const unsigned counts[] = {1, 2, 8, 65, 300};

START_TEST(started_and_counted)
{
	unsigned n = counts[_i];
	char number[16], append[32], said[32];
	struct run run;

	if (n > most_cpus())
		skip("KVM here runs fewer vCPUs");
	snprintf(number, sizeof(number), "%u", n);
	snprintf(append, sizeof(append), "cpus=%u x2apic=%d", n, n > 255);
	snprintf(said, sizeof(said), "%016x", n);
	/* Started processors halt: left in the guest, each would keep a CPU of the host. */
	run_guest(&run, "cpus.elf", append, "--cpus", number, "--halt", n > 8 ? "exit" : "guest");
	ck_assert_str_eq(run.out_text, said);
	check_events(&run);
	run_free(&run);
}
END_TEST

START_TEST(more_than_the_host_has)
{
	unsigned n = most_cpus() + 1;
	char number[16], words[64];

	if (n > EPT_MAX_VCPUS)
		skip("KVM here runs as many as can be asked for");
	snprintf(number, sizeof(number), "%u", n);
	snprintf(words, sizeof(words), "--cpus %u: KVM on this host runs at most %u in a VM", n,
		 n - 1);
	expect_refusal(ARGS("--kernel", guest_path("exit.elf"), "--cpus", number), 101, words);
}
END_TEST

static const char *const models[] = {"host", "baseline", "host,-avx512,-tsx,-kvm_steal_time",
				     "baseline,+avx2"};

/* Whatever the model, a guest runs; what it sees of it is tests/vmm's. */
START_TEST(model)
{
	struct run run;

	run_guest(&run, "cpus.elf", "cpus=2", "--cpus", "2", "--cpu", models[_i]);
	run_free(&run);
}
END_TEST

START_TEST(no_such_feature)
{
	expect_refusal(ARGS("--kernel", guest_path("exit.elf"), "--cpu", "host,-warp"), 100,
		       "--cpu host,-warp: warp is no feature; foal help cpu lists");
}
END_TEST

Suite *cpus_suite(void)
{
	Suite *suite = suite_create("cpus");
	TCase *tc = tcase_create("cpus");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, started_and_counted, 0, sizeof(counts) / sizeof(counts[0]));
	tcase_add_test(tc, more_than_the_host_has);
	tcase_add_loop_test(tc, model, 0, sizeof(models) / sizeof(models[0]));
	tcase_add_test(tc, no_such_feature);
	suite_add_tcase(suite, tc);
	return suite;
}
