/* Command lines that are wrong: a status, and one line that says what. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "devices/vsock_connector.h"
#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* Arguments of `foal run`; words that begin with '@' are made by make_argument(). */
static const struct {
	const char *args[8];
	int status;
	const char *words;
} lines[] = {
    {{NULL}, 100, "--kernel FILE is needed"},
    {{"--kernel", "@exit", "extra"}, 100, "extra: not an option"},
    {{"--kernel", "@exit", "--nonsense"}, 100, "--nonsense: no such option"},
    {{"--kernel", "@exit", "-x"}, 100, "-x: no such option"},
    {{"--kernel", "@exit", "--memory", "0"}, 100, "--memory 0: give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "0M"}, 100, "--memory 0M: give more than nothing"},
    {{"--kernel", "@exit", "--memory", "256"}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "-1M"}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", ""}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "1MM"}, 100, "give a whole number and a unit"},
    {{"--kernel", "@exit", "--memory", "99999999999999999999M"}, 100, "give a whole number"},
    {{"--kernel", "@exit", "--memory", "5K"}, 100, "give a multiple of 4K"},
    {{"--kernel", "@exit", "--memory", "1M"}, 104, "a guest needs more than 1M"},
    {{"--kernel", "@exit", "--memory", "1000T"}, 100, "more than guest-physical addresses"},
    {{"--kernel", "@exit", "--memory", "200T"}, 104, "more than this machine has"},
    {{"--kernel", "@exit", "--memory-limit", "8M"}, 100, "--memory-limit 8M: give at least 16M"},
    {{"--kernel", "@exit", "--swap", "@missing"}, 100, "--swap: what is swapped is decided by"},
    {{"--kernel", "@exit", "--memory-limit", "16M", "--fault-engine", "kernel"},
     100,
     "--memory-limit: with --fault-engine kernel"},
    {{"--kernel", "@exit", "--memory-limit", "16M", "--huge", "always"},
     100,
     "leave --huge always"},
    {{"--kernel", "@exit", "--memory-limit", "16M", "--swap", "/"}, 103, "--swap /: Is a dir"},
    {{"--kernel", "@exit", "--memory-limit", "16M", "--swap", "/dev/null"}, 103, "not a regular"},
    {{"--kernel", "@exit", "--cpus", "0"}, 100, "--cpus 0: give a whole number from 1 to 4096"},
    {{"--kernel", "@exit", "--cpus", "4097"}, 100, "--cpus 4097: give a whole number"},
    {{"--kernel", "@exit", "--cpus", "two"}, 100, "--cpus two"},
    {{"--kernel", "@exit", "--fault-around", "3"}, 100, "give a power of two"},
    {{"--kernel", "@exit", "--fault-around", "1024"}, 100, "from 1 to 512"},
    {{"--kernel", "@exit", "--fault-engine", "magic"}, 100, "one of handler, kernel, auto"},
    {{"--kernel", "@exit", "--huge", "yes"}, 100, "one of auto, always, never"},
    {{"--kernel", "@exit", "--halt", "now"}, 100, "one of auto, guest, exit"},
    {{"--kernel", "@exit", "--time-limit", "0"}, 100, "--time-limit 0"},
    {{"--kernel", "@exit", "--name", ""}, 100, "give 1 to 63 characters"},
    {{"--kernel", "@exit", "--name", "a\nb"}, 100, "letters, digits"},
    {{"--kernel", "@exit", "--disk", ""}, 100, "give a file"},
    {{"--kernel", "@exit", "--disk", ",mode=ro"}, 100, "give a file"},
    {{"--kernel", "@exit", "--disk", "@disk,mode=rw"}, 100, "mode=rw: one of ro, cow, shared"},
    {{"--kernel", ""}, 100, "--kernel : give a file"},
    {{"--kernel", "@exit", "--stats-file", ""}, 100, "--stats-file : give a file"},
    {{"--kernel", "@exit", "--rng", "yes"}, 100, "--rng yes: one of off, on"},
    {{"--kernel", "@exit", "--balloon", "1G"}, 100, "--balloon 1G: one of off, on, target=SIZE"},
    {{"--kernel", "@exit", "--balloon", "target=1"}, 100, "give a whole number and a unit"},
    {{"--kernel", "@missing"}, 102, "missing: No such file"},
    {{"--kernel", "/"}, 102, "kernel /: not a regular file"},
    {{"--kernel", "/dev/null"}, 102, "kernel /dev/null: not a regular file"},
    {{"--kernel", "@fifo"}, 102, "not a regular file"},
    {{"--kernel", "@empty"}, 102, "cut short"},
    {{"--kernel", "@exit", "--initrd", "@missing"}, 102, "initrd "},
    {{"--kernel", "@exit", "--initrd", "@empty"}, 102, "empty, or not a regular file"},
    {{"--kernel", "@exit", "--initrd", "/"}, 102, "empty, or not a regular file"},
    {{"--kernel", "@exit", "--initrd", "@big", "--memory", "8M"}, 104, "does not fit"},
    {{"--kernel", "@exit", "--boot", "efi"}, 100, "--boot efi: one of auto, linux64, pvh"},
    {{"--initrd", "@big", "--firmware", "@rom"}, 100, "--initrd needs --kernel"},
    {{"--append", "x", "--firmware", "@rom"}, 100, "--append needs --kernel"},
    {{"--kernel", "@exit", "--boot", "pvh", "--firmware", "@rom"}, 100, "--boot: with --firmware"},
    {{"--firmware", "seabios"}, 100, "--firmware seabios has nothing to boot: give --disk FILE"},
    {{"--firmware", "seabios", "--pmem", "@big"}, 100, "has nothing to boot"},
    {{"--firmware", "qboot", "--disk", "@big"}, 100, "--firmware qboot boots a kernel: give"},
    {{"--firmware", "@missing"}, 102, "missing: No such file"},
    {{"--firmware", "@empty"}, 102, "a ROM has 4 KiB to 8 MiB"},
    {{"--firmware", "@odd"}, 102, "whole pages of 4 KiB"},
    {{"--firmware", "/"}, 102, "firmware /: not a regular file"},
    {{"--kernel", "@exit", "--disk", "@missing"}, 103, "missing: No such file"},
    {{"--kernel", "@exit", "--disk", "@empty"}, 103, "empty file"},
    {{"--kernel", "@exit", "--disk", "@odd"}, 103, "no multiple of 512"},
    {{"--kernel", "@exit", "--disk", "/"}, 103, "neither a regular file nor a block device"},
    {{"--kernel", "@exit", "--disk", "/dev/null"}, 103, "neither a regular file"},
    {{"--kernel", "@exit", "--disk", "@fifo"}, 103, "neither a regular file"},
    {{"--kernel", "@exit", "--pmem", "@missing"}, 103, "missing: No such file"},
    {{"--kernel", "@exit", "--pmem", "@empty"}, 103, "empty file"},
    {{"--kernel", "@exit", "--pmem", "@odd"}, 103, "no multiple of 512"},
    {{"--kernel", "@exit", "--pmem", "/"}, 103, "neither a regular file nor a block device"},
    {{"--kernel", "@exit", "--disk", "@disk,mode=shared", "--disk", "@disk,mode=shared"},
     103,
     "in use by another VM"},
    {{"--kernel", "@exit", "--disk", "@disk,mode=shared", "--pmem", "@disk,mode=ro"},
     103,
     "in use by a VM that writes it"},
    {{"--kernel", "@exit", "--disk", "@disk", "--pmem", "@disk,mode=shared"},
     103,
     "in use by another VM"},
    {{"--kernel", "@exit", "--disk", "@disk,mod=ro"}, 103, "disk,mod=ro: No such file or "},
    {{"--kernel", "@exit", "--disk", "@disk,mod=ro"}, 103, "only mode=, and a disk's format="},
    {{"--kernel", "@exit", "--disk", "@qcow2"}, 103, "a qcow2 image: add format=qcow2"},
    {{"--kernel", "@exit", "--pmem", "@qcow2"}, 103, "no multiple of 512"},
    {{"--kernel", "@exit", "--disk", "@disk,format=qcow2"}, 103, "not a qcow2 image"},
    {{"--kernel", "@exit", "--disk", "@escape"}, 103, "?[31m: No such file"},
};

/* Make the file that @word names and return the argument to give. */
static const char *make_argument(const char *word)
{
	const char *path = scratch("%s", word + 1);

	if (word[0] != '@')
		return word;
	if (strcmp(word, "@exit") == 0)
		return guest_path("exit.elf");
	if (strcmp(word, "@escape") == 0)
		return "\33[31m";
	if (strcmp(word, "@empty") == 0)
		write_file(path, "", 0);
	else if (strcmp(word, "@odd") == 0)
		write_file(path, "some bytes", 10);
	else if (strcmp(word, "@qcow2") == 0)
		write_file(path, "QFI\xfb, odd", 9);
	else if (strcmp(word, "@fifo") == 0)
		mkfifo(path, 0600);
	else if (strcmp(word, "@big") == 0)
		make_pmem("big", 2048);
	else if (strncmp(word, "@disk", 5) == 0)
		make_pmem("disk", 4);
	return path;
}

START_TEST(wrong_line)
{
	const char *args[9] = {NULL};

	for (int i = 0; lines[_i].args[i]; i++)
		args[i] = make_argument(lines[_i].args[i]);
	expect_refusal(args, lines[_i].status, lines[_i].words);
}
END_TEST

/* A value that is missing at the very end: nothing may stand behind it. */
START_TEST(missing_value)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how, ARGS("run", "--kernel"));
	run_wait(&run);
	expect_end(&run, 100, "--kernel needs a value");
	run_free(&run);
}
END_TEST

static const struct {
	const char *args[3];
	const char *words;
} commands[] = {
    {{NULL}, "a command is needed"},
    {{"walk"}, "walk: no such command"},
    {{""}, ": no such command"},
    {{"doctor", "now"}, "doctor: takes no arguments"},
    {{"version", "now"}, "version: takes no arguments"},
    {{"help", "walk"}, "help: walk: no such command"},
    {{"help", "run", "doctor"}, "help: doctor: one word at most"},
    {{"walk", "--help"}, "help: walk: no such command"},
    {{"vsock-connect"}, "not for users"},
};

START_TEST(wrong_command)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how, commands[_i].args);
	run_wait(&run);
	expect_end(&run, 100, commands[_i].words);
	run_free(&run);
}
END_TEST

START_TEST(too_many_files)
{
	struct run run;
	struct run_how how = {.plain = true};
	const char *args[3 + 2 * 33 + 1] = {"run", "--kernel", guest_path("exit.elf")};

	for (unsigned i = 0; i < 33; i++) {
		args[3 + 2 * i] = i % 2 ? "--disk" : "--pmem";
		args[4 + 2 * i] = "file";
	}
	run_start(&run, &how, args);
	run_wait(&run);
	expect_end(&run, 100, "at most 32 disks and pmems together");
	run_free(&run);
}
END_TEST

/* A file stays locked for as long as its VM runs, and not longer. */
START_TEST(in_use_by_another_vm)
{
	struct run one, two;
	char shared[600];
	const char *path = make_pmem("disk", 4);
	int n = snprintf(shared, sizeof(shared), "%s,mode=shared", path);

	ck_assert_int_lt(n, sizeof(shared));
	run_start(
	    &one, NULL,
	    ARGS("--kernel", guest_path("loop.elf"), "--append", "how=halt", "--disk", shared));
	run_until(&one, "ready\n");
	expect_refusal(ARGS("--kernel", guest_path("exit.elf"), "--disk", path), 103,
		       "in use by a VM that writes it");
	kill(one.pid, SIGTERM);
	run_wait(&one);
	run_free(&one);
	run_guest(&two, "exit.elf", "", "--disk", path, NULL, NULL);
	run_free(&two);
}
END_TEST

/* A path that names somebody's file is no left-over socket, though connecting to it is refused. */
START_TEST(vsock_path_is_a_file)
{
	const char *path = scratch("precious");
	char value[256];
	size_t len;

	write_file(path, "keep", 4);
	snprintf(value, sizeof(value), "cid=3,path=%s", path);
	expect_refusal(ARGS("--kernel", guest_path("exit.elf"), "--vsock", value), 101,
		       "or it is another file");
	char *kept = read_file(path, &len);
	ck_assert_uint_eq(len, 4);
	ck_assert_mem_eq(kept, "keep", 4);
	free(kept);
}
END_TEST

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

static void give_descriptor_3(void *fd)
{
	dup2(*(int *)fd, 3);
}

/*
 * The connector ends with its foal. By then another may have found that nobody
 * listens, and have put its own socket there (@_i: 1).
 */
START_TEST(connector_removes_its_own_socket)
{
	const char *path = scratch("listener-%d", _i);
	struct vsock_ask ask = {.tag = 7, .port = 1};
	struct vsock_answer answer = {.tag = 0};
	int pair[2], listener = listen_at(path);
	struct run run;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	struct run_how how = {.plain = true, .prepare = give_descriptor_3, .arg = &pair[1]};
	run_start(&run, &how, ARGS("vsock-connect", path));
	close(pair[1]);
	/* It is at work: nobody listens at port 1. */
	ck_assert_int_eq(write(pair[0], &ask, sizeof(ask)), sizeof(ask));
	ck_assert_int_eq(read(pair[0], &answer, sizeof(answer)), sizeof(answer));
	ck_assert_uint_eq(answer.tag, 7);
	ck_assert_int_eq(answer.error, -ENOENT);
	close(listener);
	if (_i) {
		unlink(path);
		listener = listen_at(path);
	}
	close(pair[0]);
	run_wait(&run);
	ck_assert_int_eq(run.status, 0);
	ck_assert_int_eq(access(path, F_OK), _i ? 0 : -1);
	if (_i)
		close(listener);
	run_free(&run);
}
END_TEST

START_TEST(statistics_cannot_be_written)
{
	struct run run;
	struct run_how how = {.plain = true};

	run_start(&run, &how,
		  ARGS("run", "--kernel", guest_path("exit.elf"), "--stats", "json", "--stats-file",
		       _i ? "/dev/full" : "/nowhere/at/all"));
	run_wait(&run);
	expect_end(&run, _i ? 101 : 100, _i ? "No space left" : "--stats-file /nowhere/at/all");
	run_free(&run);
}
END_TEST

Suite *options_suite(void)
{
	Suite *suite = suite_create("options");
	TCase *tc = tcase_create("options");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, wrong_line, 0, sizeof(lines) / sizeof(lines[0]));
	tcase_add_test(tc, missing_value);
	tcase_add_loop_test(tc, wrong_command, 0, sizeof(commands) / sizeof(commands[0]));
	tcase_add_test(tc, too_many_files);
	tcase_add_test(tc, in_use_by_another_vm);
	tcase_add_test(tc, vsock_path_is_a_file);
	tcase_add_loop_test(tc, connector_removes_its_own_socket, 0, 2);
	tcase_add_loop_test(tc, statistics_cannot_be_written, 0, 2);
	suite_add_tcase(suite, tc);
	return suite;
}
