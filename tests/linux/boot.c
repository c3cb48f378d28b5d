/*
 * Debian's kernel from power-on to power-off: through each boot protocol and
 * firmware, its root on a disk and in persistent memory, and what it wrote as
 * the host finds it.
 *
 * The guest's part is tests/linux/root-init: it sums all files of its root,
 * writes one, syncs, looks through its kernel's log and switches off.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/linux/suites.h"

/* Where the root file system lies in boot.img (scripts/linux-image). */
#define BOOT_ROOT_AT ((1 + 20) << 20)

static const struct way {
	const char *what;
	const char *image, *use;
	const char *root;     /* on the command line; NULL: the image has its own boot loader */
	const char *firmware; /* NULL: none */
	const char *has_root; /* a part of the root's line in the guest's /proc/mounts */
	unsigned cpus;
} ways[] = {
#define DISK "root.img", "--disk", "/dev/vda"
#define PMEM "root.img", "--pmem", "/dev/pmem0 rootflags=dax=always"
#define BOOT "boot.img", "--disk", NULL
    {"disk, 2 CPUs", DISK, NULL, "/dev/vda / ext4 rw", 2},
    {"pmem, 2 CPUs", PMEM, NULL, ",dax=always ", 2},
    {"qboot, 2 CPUs", DISK, "qboot", "/dev/vda / ext4 rw", 2},
    {"SeaBIOS, the disk's boot loader, 2 CPUs", BOOT, "seabios", "/dev/vda2 / ext4 rw", 2},
    {"disk, 1 CPU", DISK, NULL, "/dev/vda / ext4 rw", 1},
    {"pmem, 1 CPU", PMEM, NULL, ",dax=always ", 1},
    {"qboot, 1 CPU", DISK, "qboot", "/dev/vda / ext4 rw", 1},
    {"SeaBIOS, the disk's boot loader, 1 CPU", BOOT, "seabios", "/dev/vda2 / ext4 rw", 1},
};

/* The rows for every host, and those from Linux 6.4 on: an older one is there to prove the
 * fallbacks of what faults, and makes the same boots take longer. */
#define WAYS_EVERYWHERE 4
#define WAYS_ALL	((int)(sizeof(ways) / sizeof(ways[0])))
#define WAY_PMEM	1

/* Boot with @image given the way @way says, in @mode. */
static void boot(struct run *run, const struct way *way, const char *image, const char *mode)
{
	char append[160], backing[320], cpus[12];
	const char *args[24] = {"--memory", "512M", "--time-limit", GUEST_LIMIT};
	unsigned n = 4;

	snprintf(backing, sizeof(backing), "%s,mode=%s", image, mode);
	snprintf(cpus, sizeof(cpus), "%u", way->cpus);
	args[n++] = "--cpus";
	args[n++] = cpus;
	args[n++] = way->use;
	args[n++] = backing;
	if (way->firmware) {
		args[n++] = "--firmware";
		args[n++] = way->firmware;
	}
	if (way->root) {
		snprintf(append, sizeof(append), "console=ttyS0 panic=-1 quiet root=%s", way->root);
		args[n++] = "--kernel";
		args[n++] = linux_path("vmlinuz");
		args[n++] = "--initrd";
		args[n++] = linux_path("initrd.gz");
		args[n++] = "--append";
		args[n++] = append;
	}
	run_foal(run, args);
	ck_assert_msg(run->status == 0, "%s: status %d\n%s\n%s", way->what, run->status,
		      run->out_text, run->err_text);
}

/* The line that names CPUs and root ends in @words somewhere. */
static void check_machine(const struct run *run, const struct way *way)
{
	char cpus[16], line[200] = "";
	const char *said = guest_said(run, "6.12.");

	sscanf(said, "%199[^\n]", line);
	snprintf(cpus, sizeof(cpus), " %u CPUs", way->cpus);
	ck_assert_msg(strstr(line, cpus) && strstr(line, way->has_root), "\"%s\" and \"%s\" in %s",
		      cpus, way->has_root, line);
}

/* What the guest said at its end, and what its kernel said all the while. */
static void check_said(const struct run *run, const struct way *way)
{
	static const char *const bad[] = {"BUG:",	"Call Trace",	   "Kernel panic",
					  "ACPI Error", "ACPI BIOS Error", "I/O error"};

	check_machine(run, way);
	if (strcmp(way->use, "--pmem") == 0)
		guest_said(run, "its files are mapped directly");
	guest_said(run, "sums of ");
	ck_assert_ptr_nonnull(strstr(guest_said(run, "sums of "), " files agree"));
	guest_said(run, "root is read-only again");
	guest_said(run, "log: clean");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!strstr(run->out_text, bad[i]), "%s in:\n%s", bad[i], run->out_text);
}

/* /written in the file system @fs has the sum that the guest said. */
static void check_written(const struct run *run, const char *fs)
{
	char sum[SHA256_HEX];

	expect_fs_clean(fs);
	sum_in_image(fs, "/written", sum);
	ck_assert_msg(strncmp(guest_said(run, "wrote "), sum, SHA256_HEX - 1) == 0,
		      "/written has %s in %s; the guest:\n%s", sum, fs, run->out_text);
}

START_TEST(reads_writes_powers_off)
{
	const struct way *way = &ways[_i];
	const char *image = copy_file(linux_path(way->image), "image");
	struct run run;

	boot(&run, way, image, "shared");
	check_said(&run, way);
	check_written(&run, way->root ? image : scratch("image?offset=%d", BOOT_ROOT_AT));
	check_events(&run);
	print_read(way->what, &run);
	run_free(&run);
}
END_TEST

/* Copy-on-write: the guest reads back what it wrote, the file keeps what it held. */
START_TEST(leaves_the_image_alone)
{
	const struct way *way = &ways[_i];
	const char *image = copy_file(linux_path(way->image), "image");
	struct run run;

	boot(&run, way, image, "cow");
	check_said(&run, way);
	ck_assert(same_files(image, linux_path(way->image)));
	check_events(&run);
	run_free(&run);
}
END_TEST

/*
 * The kernel that is not compressed, by both of its entry points, to a job and
 * off: of such a file only what the boot touches is read.
 */
START_TEST(reads_a_part_of_vmlinux)
{
	static const char *const protocols[] = {"pvh", "linux64"};
	struct run run;

	run_foal(&run,
		 ARGS("--kernel", linux_path("vmlinux"), "--boot", protocols[_i], "--initrd",
		      linux_path("initrd.gz"), "--append",
		      "console=ttyS0 panic=-1 quiet job=nothing", "--time-limit", GUEST_LIMIT));
	ck_assert_msg(run.status == 0, "%s: status %d\n%s\n%s", protocols[_i], run.status,
		      run.out_text, run.err_text);
	guest_said(&run, "job nothing ended with 0");
	ck_assert_uint_lt(file_read(&run, "kernel"), file_size(&run, "kernel") * 4 / 5);
	check_events(&run);
	print_read(protocols[_i], &run);
	run_free(&run);
}
END_TEST

Suite *boot_suite(void)
{
	Suite *suite = suite_create("boot");
	TCase *tc = tcase_create("boot");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, reads_writes_powers_off, 0,
			    linux_at_least(6, 4) ? WAYS_ALL : WAYS_EVERYWHERE);
	if (linux_at_least(6, 4))
		tcase_add_loop_test(tc, reads_a_part_of_vmlinux, 0, 2);
	tcase_add_loop_test(tc, leaves_the_image_alone, WAY_PMEM, WAY_PMEM + 1);
	suite_add_tcase(suite, tc);
	return suite;
}
