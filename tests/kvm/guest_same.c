#include "tests/kvm/guest_same.h"

#include <string.h>
#include <unistd.h>

#include "tests/kvm/runner.h"

/* The programs that musl-gcc built, where foal's build is. */
static const char *diff_program(const char *name)
{
	static char path[64];

	snprintf(path, sizeof(path), "build/tests/diff/%s", name);
	if (access(path, X_OK))
		skip("no musl-gcc here when the tests were built");
	return path;
}

static const char *make_image(const char *name)
{
	const char *root = scratch("root"), *image = scratch("same.img");
	char command[2048];

	if (run_tool(NULL, ARGS("e2fsck", "-V")))
		skip("no e2fsprogs here");
	snprintf(command, sizeof(command),
		 "mkdir -p %s/bin %s/tmp && cp build/guest/user/run %s %s/bin", root, root,
		 diff_program(name), root);
	ck_assert_int_eq(system(command), 0);
	make_ext2(image, root, "4096", "16M");
	return image;
}

static char *said_on_host(const char *name, const char *argument)
{
	const char *out = scratch("host.txt");
	char command[2048];
	size_t len;

	snprintf(command, sizeof(command), "%s %s >%s </dev/null", diff_program(name), argument,
		 out);
	ck_assert_int_eq(system(command), 0);
	return read_file(out, &len);
}

/* Lines are compared one by one: what differs is said, and not all of it. */
static void expect_same_lines(char *guest, char *host)
{
	char *g_rest, *h_rest;
	char *g = strtok_r(guest, "\n", &g_rest), *h = strtok_r(host, "\n", &h_rest);

	while (g && h) {
		ck_assert_msg(!strcmp(g, h), "host says \"%s\", the guest \"%s\"", h, g);
		g = strtok_r(NULL, "\n", &g_rest);
		h = strtok_r(NULL, "\n", &h_rest);
	}
	ck_assert_msg(!g && !h, "host ends with \"%s\", the guest with \"%s\"", h ? h : "",
		      g ? g : "");
}

/* What the kernel says of programs that it ends, and run of those that ended. */
static void drop_kernel_lines(char *text, const char *name)
{
	char mark[64], last[64];
	char *to = text;

	snprintf(mark, sizeof(mark), "%s[", name);
	snprintf(last, sizeof(last), "run: /bin/%s: ", name);
	for (char *line = text, *next; *line; line = next) {
		next = strchrnul(line, '\n');
		next += *next == '\n';
		if (!strncmp(line, mark, strlen(mark)) || !strncmp(line, last, strlen(last)))
			continue;
		memmove(to, line, (size_t)(next - line));
		to += next - line;
	}
	*to = '\0';
}

void same_on_both(const char *name, const char *in_guest, const char *on_host, const char *cpus)
{
	const char *image = make_image(name);
	char disk[600], append[256];
	struct run run;
	char *host = said_on_host(name, on_host);

	snprintf(disk, sizeof(disk), "%s,mode=shared", image);
	snprintf(append, sizeof(append), "quiet init=/bin/run -- /bin/%s %s", name, in_guest);
	run_start(&run, NULL,
		  ARGS("--kernel", image_path("kernel.elf"), "--disk", disk, "--memory", "64M",
		       "--cpus", cpus, "--append", append, "--time-limit", GUEST_LIMIT));
	run_wait(&run);
	ck_assert_msg(run.status == 0, "status %d\n%s", run.status, run.err_text);
	ck_assert_ptr_nonnull(strstr(run.out_text, ", 0 not given back"));
	guest_lines(run.out_text);
	drop_kernel_lines(run.out_text, name);
	expect_same_lines(run.out_text, host);
	expect_fs_clean(image);
	free(host);
	run_free(&run);
}
