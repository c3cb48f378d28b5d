/* Hosts that lack something, and users who may not: made in a sandbox. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/guests/lib/pattern.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/sandbox.h"
#include "tests/kvm/suites.h"

/* Start foal with @args as they are, in @box. */
static void run_boxed(struct run *run, struct sandbox *box, const char *const *args)
{
	struct run_how how = {.plain = true, .prepare = sandbox_enter, .arg = box};
	const char *devices = scratch("dev");

	if (!is_root())
		skip("only root can make a sandbox");
	mkdir(devices, 0755);
	box->devices = devices;
	run_start(run, &how, args);
	run_wait(run);
}

/* The same; it ends with @status and one line. */
static void boxed_end(struct sandbox *box, const char *const *args, int status, const char *words)
{
	struct run run;

	run_boxed(&run, box, args);
	expect_end(&run, status, words);
	run_free(&run);
}

static void boxed_doctor(struct sandbox *box, int status, const char *words)
{
	struct run run;

	run_boxed(&run, box, ARGS("doctor"));
	ck_assert_int_eq(run.status, status);
	ck_assert_ptr_nonnull(strstr(run.out_text, words));
	run_free(&run);
}

static bool userfaultfd_for_all(void)
{
	FILE *f = fopen("/proc/sys/vm/unprivileged_userfaultfd", "re");
	int c = f ? fgetc(f) : '1'; /* no such switch: an old kernel */

	if (f)
		fclose(f);
	return c == '1';
}

START_TEST(no_kvm_device)
{
	struct sandbox box = {.userfaultfd_mode = 0666};

	boxed_end(&box, ARGS("run", "--kernel", guest_path("exit.elf")), 101,
		  "/dev/kvm: No such file or directory; load kvm_intel or kvm_amd");
	boxed_doctor(&box, 101, "MISSING  /dev/kvm");
}
END_TEST

START_TEST(no_right_to_kvm)
{
	struct sandbox box = {.kvm_mode = 0600, .userfaultfd_mode = 0666, .nobody = true};
	const char *kernel = copy_file(guest_path("exit.elf"), "exit.elf");

	boxed_end(&box, ARGS("run", "--kernel", kernel), 101,
		  "/dev/kvm: Permission denied; use an account that may");
	boxed_doctor(&box, 101, "MISSING  /dev/kvm");
}
END_TEST

/* That is heard before anything else is looked at, and no file is emptied for a run that is none.
 */
START_TEST(kvm_is_taken)
{
	const struct run_how how = {.plain = true, .prepare = kvm_is_busy};
	const char *outputs[] = {scratch("stats"), scratch("trace")};
	const char *const *args[] = {
	    ARGS("run", "--kernel", "/nowhere", "--disk", "/nowhere", "--stats", "json",
		 "--stats-file", outputs[0], "--trace", outputs[1]),
	    ARGS("restore", "/nowhere"),
	    ARGS("bench", "exits"),
	};
	struct run run;
	size_t len;

	for (size_t i = 0; i < 2; i++)
		write_file(outputs[i], "kept", 4);
	for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++) {
		run_start(&run, &how, args[i]);
		run_wait(&run);
		expect_end(&run, 101, "KVM: create a VM: Device or resource busy; another hyperv");
		run_free(&run);
	}
	for (size_t i = 0; i < 2; i++) {
		free(read_file(outputs[i], &len));
		ck_assert_uint_eq(len, 4);
	}
}
END_TEST

/* Without userfaultfd the host kernel resolves the faults; the guest sees no difference. */
START_TEST(no_right_to_userfaultfd)
{
	struct run run;
	struct sandbox box = {.kvm_mode = 0666, .userfaultfd_mode = 0600, .nobody = true};
	const char *kernel = copy_file(guest_path("pmem.elf"), "pmem.elf");
	const char *pmem = make_pmem("pmem", 128);

	if (userfaultfd_for_all())
		skip("everybody may use userfaultfd here");
	run_boxed(&run, &box,
		  ARGS("run", "--kernel", kernel, "--append", "mode=rw pages=128", "--pmem", pmem,
		       "--stats", "json"));
	expect_end(&run, 0, "no userfaultfd (");
	json_t *stats = json_loads(run.out_text, 0, NULL);
	ck_assert_ptr_nonnull(stats);
	json_t *area = json_array_get(json_object_get(stats, "areas"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(area, "engine")), "kernel");
	json_decref(stats);
	run_free(&run);
}
END_TEST

START_TEST(handler_engine_needs_userfaultfd)
{
	struct sandbox box = {.kvm_mode = 0666, .userfaultfd_mode = 0600, .nobody = true};
	const char *kernel = copy_file(guest_path("exit.elf"), "exit.elf");

	if (userfaultfd_for_all())
		skip("everybody may use userfaultfd here");
	boxed_end(&box, ARGS("run", "--kernel", kernel, "--fault-engine", "handler"), 101,
		  "userfaultfd: ");
	boxed_doctor(&box, 1, "MISSING  userfaultfd");
}
END_TEST

/* The device alone is right enough: no capability, no sysctl. */
START_TEST(userfaultfd_by_its_device)
{
	struct run run;
	struct sandbox box = {.kvm_mode = 0666, .userfaultfd_mode = 0666, .nobody = true};
	const char *kernel = copy_file(guest_path("anon.elf"), "anon.elf");

	if (access("/dev/userfaultfd", F_OK))
		skip("no /dev/userfaultfd on this kernel");
	run_boxed(&run, &box,
		  ARGS("run", "--kernel", kernel, "--append", "mode=rw", "--fault-engine",
		       "handler", "--stats", "off"));
	ck_assert_msg(run.status == 0, "status %d: %s", run.status, run.err_text);
	ck_assert_uint_eq(foal_lines(&run), 0);
	run_free(&run);
}
END_TEST

START_TEST(files_without_rights)
{
	struct sandbox box = {.kvm_mode = 0666, .userfaultfd_mode = 0666, .nobody = true};
	const char *kernel = copy_file(guest_path("exit.elf"), "exit.elf");
	const char *pmem = make_pmem("private", 4);
	char shared[600];

	snprintf(shared, sizeof(shared), "%s,mode=shared", pmem);
	boxed_end(&box, ARGS("run", "--kernel", kernel, "--pmem", shared), 103,
		  "Permission denied");
	chmod(pmem, 0600);
	boxed_end(&box, ARGS("run", "--kernel", kernel, "--disk", pmem), 103, "Permission denied");
	chmod(kernel, 0600);
	boxed_end(&box, ARGS("run", "--kernel", kernel), 102, "Permission denied");
}
END_TEST

static void limit_descriptors(void *arg)
{
	const rlim_t *n = arg;

	setrlimit(RLIMIT_NOFILE, &(struct rlimit){*n, *n});
}

static void limit_address_space(void *arg)
{
	const rlim_t *n = arg;

	setrlimit(RLIMIT_AS, &(struct rlimit){*n, *n});
}

/* Each call for a descriptor is the one that fails, in its turn: one line, no crash. */
START_TEST(too_few_descriptors)
{
	const char *disk = make_pmem("disk", 4), *pmem = make_pmem("pmem", 4);
	bool worked = false;

	for (rlim_t n = 3; n < 64; n++) {
		struct run run;
		struct run_how how = {.prepare = limit_descriptors, .arg = &n};
		run_start(&run, &how,
			  ARGS("--kernel", guest_path("exit.elf"), "--disk", disk, "--pmem", pmem));
		run_wait(&run);
		worked = worked || run.status == 0;
		if (run.status == 127) { /* not even the loader of a sanitizer's build got on */
			run_free(&run);
			continue;
		}
		ck_assert_msg(run.status == 0 || (run.status >= 100 && run.status < 110),
			      "%lu descriptors: status %d: %s", n, run.status, run.err_text);
		ck_assert_msg(run.status == 0 || foal_lines(&run) == 1,
			      "%lu descriptors: status %d: %s", n, run.status, run.err_text);
		run_free(&run);
	}
	ck_assert_msg(worked, "64 descriptors are too few");
}
END_TEST

/* The same with ever more address space: 2 MiB to 512 MiB. */
START_TEST(too_little_address_space)
{
	for (rlim_t mib = 2; mib <= 512; mib *= 2) {
		struct run run;
		rlim_t bytes = mib << 20;
		struct run_how how = {.prepare = limit_address_space, .arg = &bytes};
		run_start(&run, &how, ARGS("--kernel", guest_path("exit.elf")));
		run_wait(&run);
		bool started = run.status != 127 && (run.status >= 0 || mib >= 8); /* exec */
		ck_assert_msg(run.status == 0 || (run.status >= 100 && run.status < 110) ||
				  !started,
			      "%lu MiB: status %d: %s", mib, run.status, run.err_text);
		ck_assert_msg(!started || run.status == 0 || foal_lines(&run) == 1,
			      "%lu MiB: status %d: %s", mib, run.status, run.err_text);
		run_free(&run);
	}
}
END_TEST

static void limit_processes(void *arg)
{
	(void)arg;
	setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 1});
}

/* Root has no such limit, whom foal becomes has: KVM cannot start a thread, if it wants one. */
START_TEST(too_few_processes)
{
	const struct run_how how = {.prepare = limit_processes};
	struct run run;

	if (!is_root())
		skip("only root becomes another user");
	run_start(&run, &how,
		  ARGS("--kernel", guest_path("exit.elf"), "--user", "54321", "--time-limit",
		       GUEST_LIMIT));
	run_wait(&run);
	if (run.status != 0)
		expect_end(&run, 101, "KVM cannot start its own thread");
	run_free(&run);
}
END_TEST

Suite *rights_suite(void)
{
	Suite *suite = suite_create("rights");
	TCase *tc = tcase_create("rights");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, no_kvm_device);
	tcase_add_test(tc, no_right_to_kvm);
	tcase_add_test(tc, kvm_is_taken);
	tcase_add_test(tc, no_right_to_userfaultfd);
	tcase_add_test(tc, handler_engine_needs_userfaultfd);
	tcase_add_test(tc, userfaultfd_by_its_device);
	tcase_add_test(tc, files_without_rights);
	tcase_add_test(tc, too_few_descriptors);
	tcase_add_test(tc, too_little_address_space);
	tcase_add_test(tc, too_few_processes);
	suite_add_tcase(suite, tc);
	return suite;
}
