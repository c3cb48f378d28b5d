/*
 * Debian's busybox in the guest kernel, as it is: a script of it says in the guest what it says on
 * the host, and its shell on the console knows the keys of a terminal.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

/* Files, pipes, processes, signals: in the directory that it is given. */
static const char script[] =
    "cd \"$1\" || exit 9\n"
    "dd if=/dev/zero bs=1k count=40 2>/dev/null | tr '\\0' x >x; sha256sum x\n"
    "mkdir -p d/e; cp x d/e/y; ln -s e/y d/l; ln x d/h\n"
    "tar cf t.tar d; tar tf t.tar | sort; rm -r d; tar xf t.tar; sha256sum d/l d/h d/e/y\n"
    "find . | sort; ls d | wc -l\n"
    "(sleep 0.1; echo late) & wait $!; echo \"status $?\"\n"
    "sh -c 'kill -TERM $$'; echo \"status $?\"; sh -c 'exit 7'; echo \"status $?\"\n"
    "seq 1 300 | sort -rn | head -n 3; yes | head -n 2\n"
    "echo word >>x; tail -c 5 x; wc -c <x; mv x z; test -e x || echo moved\n"
    "dd if=z of=part bs=1 skip=10 count=5 2>/dev/null; cat part; echo; printf '%s\\n' *\n"
    "trap 'echo told' USR1; kill -USR1 $$; mkfifo p; (echo through >p) & cat p; wait\n"
    "printf '#!/bin/sh -e\\necho $0 \"$1\" $# $(echo $* | wc -c); false; echo no\\n' >s1\n"
    "printf '#! \\t./s1  a word \\t\\n' >s2; printf '#!./s2' >s3; printf '#!./s4\\n' >s4\n"
    "printf '#! \\necho plain $1\\n' >s5; printf '#!/none\\n' >s6; printf '#!%0300d\\n' 7 >s7\n"
    "chmod +x s?; for s in 1 2 3 4 5 6 7; do ./s$s x 2>/dev/null; echo $?; done; ./s1 $(seq 1 "
    "20000)\n"
    "basename $(readlink /proc/self/exe); sh -c 'basename $(readlink /proc/$$/exe)'\n"
    "exec 3<z; dd bs=2 count=1 <&3 2>/dev/null; echo; exit 4\n";

/* A tree with busybox and a link for each of its words, and an image of it. */
static const char *make_tree(void)
{
	const char *root = scratch("root");
	char command[1024], path[256];

	snprintf(command, sizeof(command),
		 "mkdir -p %s/bin %s/tmp && for word in $(busybox --list); do "
		 "ln -sf busybox %s/bin/$word; done && rm -f %s/bin/busybox && "
		 "cp \"$(command -v busybox)\" %s/bin/busybox",
		 root, root, root, root, root);
	ck_assert_int_eq(system(command), 0);
	snprintf(path, sizeof(path), "%s/script", root);
	write_file(path, script, sizeof(script) - 1);
	return root;
}

static const char *make_image(const char *root)
{
	const char *image = scratch("shell.img");

	make_ext2(image, root, "1024", "32M");
	return image;
}

static void need_busybox(void)
{
	if (system("busybox --list >/dev/null 2>&1"))
		skip("guest_shell: no busybox here");
	if (run_tool(NULL, ARGS("e2fsck", "-V")))
		skip("guest_shell: no e2fsprogs here");
}

static void start_shell(struct run *run, const struct run_how *how, const char *image,
			const char *append)
{
	char disk[600];

	snprintf(disk, sizeof(disk), "%s,mode=shared", image);
	run_start(run, how,
		  ARGS("--kernel", image_path("kernel.elf"), "--disk", disk, "--memory", "64M",
		       "--append", append, "--time-limit", GUEST_LIMIT));
}

static char *said_on_host(const char *root)
{
	const char *dir = scratch("host"), *out = scratch("host.txt");
	char command[1024];
	size_t len;

	ck_assert_int_eq(mkdir(dir, 0755), 0);
	snprintf(command, sizeof(command), "PATH=%s/bin %s/bin/sh %s/script %s >%s 2>&1", root,
		 root, root, dir, out);
	ck_assert_int_eq(WEXITSTATUS(system(command)), 4);
	return read_file(out, &len);
}

START_TEST(same_as_host)
{
	struct run run;

	need_busybox();
	const char *root = make_tree(), *image = make_image(root);
	char *host = said_on_host(root);
	start_shell(&run, NULL, image, "quiet init=/bin/sh -- /script /tmp");
	run_wait(&run);
	ck_assert_msg(run.status == 4, "status %d\n%s\n%s", run.status, run.out_text, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, ", 0 not given back"));
	guest_lines(run.out_text);
	ck_assert_str_eq(run.out_text, host);
	expect_fs_clean(image);
	free(host);
	run_free(&run);
}
END_TEST

static void type(struct run *run, const char *keys)
{
	run_type(run, keys, strlen(keys));
}

/* What is awaited is never in what was typed: the shell reckons it. */
START_TEST(keys)
{
	const struct run_how on_terminal = {.terminal = true};
	struct run run;

	need_busybox();
	start_shell(&run, &on_terminal, make_image(make_tree()), "quiet init=/bin/sh");
	run_until(&run, "/ # ");
	type(&run, "sh -c 'echo up-$((1+1)); sleep 1000'\r");
	run_until(&run, "up-2");
	type(&run, "\3"); /* ^C */
	type(&run, "echo after-$((1+2))\r");
	run_until(&run, "after-3");
	type(&run, "sh -c 'echo up-$((2+2)); sleep 1000'\r");
	run_until(&run, "up-4");
	type(&run, "\32"); /* ^Z */
	run_until(&run, "Stopped");
	type(&run, "kill %1; wait; echo gone-$((2+3))\r");
	run_until(&run, "gone-5");
	type(&run, "stty -icanon; stty icanon; echo lines-$((4+4)); cat >/tmp/typed\r");
	/* Typed before, it would be the shell's, whose lines the terminal does not correct. */
	run_until(&run, "lines-8");
	type(&run, "lime\177\177ne\r\4"); /* corrected, and the end of the file */
	type(&run, "echo $(cat /tmp/typed)-$((3+3)); exit 5\r");
	run_until(&run, "line-6");
	run_wait(&run);
	ck_assert_int_eq(run.status, 5);
	run_free(&run);
}
END_TEST

Suite *guest_shell_suite(void)
{
	Suite *suite = suite_create("guest_shell");
	TCase *tc = tcase_create("guest_shell");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, same_as_host);
	tcase_add_test(tc, keys);
	suite_add_tcase(suite, tc);
	return suite;
}
