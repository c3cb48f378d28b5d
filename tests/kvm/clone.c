/*
 * Templates, and VMs that are cloned from them: each begins where the VM was that the template
 * was made of, whatever that one, other clones or the template's end do.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/kvm/snapshot_rig.h"
#include "tests/kvm/suites.h"
#include "tests/kvm/told.h"

/* Ways in which the memory was held that becomes a template, and how many clones are made ahead. */
static const struct {
	const char *words[5], *pool;
} ways[] = {
    {{"--fault-engine", "auto"}, "0"},
    {{"--fault-engine", "auto"}, "2"},
    {{"--fault-engine", "handler"}, "1"},
    {{"--huge", "always", "--cpus", "2"}, "3"},
};

START_TEST(nonces)
{
	const char *source = in_round("src%d", _i), *name = in_round("t%d", _i);
	char id[5][33];
	struct told vm[5];

	if (strcmp(ways[_i].words[1], "handler") == 0 && !have_userfaultfd())
		skip("no userfaultfd");
	pid_t pid = start_told(source, ways[_i].words);
	tell_once(source, "h1");
	json_t *reply =
	    forks_of(ARGS("template", source, "--name", name, "--pool", ways[_i].pool, "--json"));
	pid_t template = fork_pid(reply, 0);
	json_decref(reply);
	tell_once(source, "w9"); /* the source goes on */
	expect_command(ARGS("clone", name, "-n", "5", "--name", in_round("c%d-%%", _i)), 0,
		       in_round("c%d-5: running", _i));
	kill_and_wait(pid);
	for (int i = 0; i < 5; i++) {
		char one[32];

		snprintf(one, sizeof(one), "c%d-%d", _i, i + 1);
		vm[i] = tell_to(strdup(one));
		generation(&vm[i], id[i]);
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(id[i], id[k]);
	}
	tell(&vm[0], "e1");
	tell(&vm[0], "w2");
	tell(&vm[1], "e1");
	tell(&vm[1], "w3");
	tell(&vm[0], "a2");
	/* One that comes later begins where all did. */
	expect_command(ARGS("clone", name, "--name", in_round("late%d", _i), "--clock", "jump"), 0,
		       "running");
	tell_once(in_round("late%d", _i), "e1");
	/* A clone can be forked, and nobody needs the template. */
	expect_command(ARGS("fork", vm[1].name, "--name", in_round("f%d", _i)), 0, "running");
	tell_once(in_round("f%d", _i), "a3");
	kill_and_wait(template);
	tell(&vm[2], "e1");
	tell(&vm[2], "w4");
	tell(&vm[1], "a3");
	tell(&vm[3], "e1");
	tell_once(in_round("f%d", _i), "a3");
	for (int i = 0; i < 5; i++)
		hang_up(&vm[i]);
}
END_TEST

/* What its timer's count falls by in as many nanoseconds. */
#define COUNT_NS     128
#define POOL_REST_US 300000

static uint64_t monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/*
 * A timer that counted in a clone that waited for its name stands again where its template's does.
 * What time took before the template was there, and since the clone was asked for, it may count.
 */
START_TEST(timers)
{
	start_told("ticks", ARGS("--cpus", "2"));
	struct told vm = tell_to("ticks");
	tell(&vm, "t");
	uint64_t begun = monotonic_ns(), had = count_now(&vm);
	expect_command(ARGS("template", "ticks", "--name", "tt", "--pool", "1"), 0, "template");
	uint64_t counted = monotonic_ns() - begun;
	usleep(POOL_REST_US);
	begun = monotonic_ns();
	expect_command(ARGS("clone", "tt", "--name", "tc"), 0, "tc: running");
	hang_up(&vm);
	vm = tell_to("tc");
	uint64_t has = count_now(&vm);
	counted += monotonic_ns() - begun;
	ck_assert_uint_gt(has, 0);
	ck_assert_uint_le(has, had);
	ck_assert_uint_le((had - has) * COUNT_NS, counted + COUNT_NS);
	hang_up(&vm);
}
END_TEST

/* What the files of @pid's template take. */
static int64_t template_bytes(pid_t pid)
{
	int64_t blocks = 0;

	for (int fd = 0; fd < 256; fd++) {
		char path[64], name[64];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		ssize_t len = readlink(path, name, sizeof(name) - 1);
		name[len > 0 ? len : 0] = 0;
		if (strstr(name, "foal-template") && stat(path, &st) == 0)
			blocks += st.st_blocks;
	}
	return blocks * 512;
}

/*
 * Clones of a template can be frozen, and what comes back is theirs. Their template's files do
 * not grow by that: each page would be looked at if the writer had no page map.
 */
START_TEST(snapshots)
{
	const char *dir = scratch("of-a-clone");

	if (!have_userfaultfd())
		skip("no userfaultfd");
	start_told("origin", ARGS("--halt", "exit"));
	tell_once("origin", "h1");
	expect_command(ARGS("template", "origin", "--pool", "0"), 0, "origin.template: template");
	json_t *reply = forks_of(ARGS("clone", "origin.template", "--name", "cl", "--json"));
	pid_t clone = fork_pid(reply, 0);
	json_decref(reply);
	int64_t held = template_bytes(clone);
	expect_command(ARGS("snapshot", "cl", dir), 0, "the guest was paused for");
	ck_assert_int_lt(template_bytes(clone), held + (4 << 20));
	tell_once("cl", "w2");
	expect_command(ARGS("restore", dir, "-d", "--name", "back", "--time-limit", "150"), 0,
		       "running");
	tell_once("back", "e1");
	/* A template of what is frozen, of which nothing ran. */
	expect_command(ARGS("template", dir, "--name", "of-dir"), 0, "of-dir: template");
	expect_command(ARGS("clone", "of-dir", "-n", "2"), 0, "of-dir.2: running");
	tell_once("of-dir.1", "e1");
	tell_once("of-dir.1", "w5");
	tell_once("of-dir.2", "e1");
	expect_command(ARGS("template", scratch("nowhere/at-all")), 114, "No such file");
	expect_command(ARGS("snapshot", "origin.template", dir), 113, "it is a template");
	expect_command(ARGS("pause", "origin.template"), 113, "it is a template");
	expect_command(ARGS("ps"), 0, "template");
	expect_command(ARGS("stop", "origin.template"), 0, "gone, status 0");
	expect_command(ARGS("clone", "origin.template"), 112, "no running VM");
	tell_once("cl", "a2");
	/* By a name it is a VM, and who meant the directory is told how to say so. */
	char *foal = realpath(foal_path(), NULL);
	ck_assert_int_eq(setenv("FOAL", foal, 1), 0);
	free(foal);
	ck_assert_int_eq(chdir(scratch(".")), 0);
	expect_command(ARGS("template", "of-a-clone"), 112, "foal template ./of-a-clone");
}
END_TEST

/* What of a clone was not read yet at its reset point comes out of the template. */
START_TEST(resets)
{
	start_told("again", ARGS("--halt", "exit"));
	tell_once("again", "h1");
	expect_command(ARGS("template", "again", "--name", "rt", "--pool", "1"), 0, "template");
	expect_command(ARGS("clone", "rt", "--name", "rc"), 0, "rc: running");
	expect_command(ARGS("reset", "rc", "--here"), 0, "rc");
	for (int i = 0; i < 3; i++) {
		tell_once("rc", "w2");
		expect_command(ARGS("reset", "rc"), 0, "rc");
		tell_once("rc", "e1");
	}
	/* Its point is its own: a fork has none, and the state that it was in. */
	tell_once("rc", "w3");
	expect_command(ARGS("fork", "rc", "--name", "rf"), 0, "rf: running");
	expect_command(ARGS("reset", "rf"), 113, "reset point");
	tell_once("rf", "a3");
	expect_command(ARGS("reset", "rc"), 0, "rc");
	tell_once("rc", "e1");
}
END_TEST

/* Back to the template's state, without having been told when: with a pool and without. */
START_TEST(back_to_the_template)
{
	const char *source = in_round("goes%d", _i), *template = in_round("gt%d", _i);
	char id[3][33];
	struct told vm;

	start_told(source, ARGS("--halt", "exit", "--disk", make_pmem("goes.img", 16)));
	tell_once(source, "h1");
	expect_command(ARGS("template", source, "--name", template, "--pool", _i ? "2" : "0"), 0,
		       "template");
	tell_once(source, "w9");
	expect_command(
	    ARGS("clone", template, "-n", "2", "--name", in_round("g%d-%%", _i), "--reset-point"),
	    0, in_round("g%d-2: running", _i));
	for (int i = 0; i < 3; i++) {
		vm = tell_to(in_round("g%d-1", _i));
		tell(&vm, i ? "e1" : "w2");
		tell(&vm, i ? "w3" : "a2");
		generation(&vm, id[i]);
		hang_up(&vm);
		for (int k = 0; k < i; k++)
			ck_assert_str_ne(id[i], id[k]);
		expect_command(ARGS("reset", in_round("g%d-1", _i)), 0, "back at its reset point");
	}
	/* With the template gone, and of one that has read nothing yet. */
	expect_command(ARGS("stop", template), 0, "gone");
	expect_command(ARGS("reset", in_round("g%d-2", _i)), 0, "back at its reset point");
	tell_once(in_round("g%d-1", _i), "e1");
	tell_once(in_round("g%d-2", _i), "w4");
	expect_command(ARGS("reset", in_round("g%d-2", _i)), 0, "back at its reset point");
	tell_once(in_round("g%d-2", _i), "e1");
	/* A fork has no such point, and refuses the words. */
	expect_command(ARGS("fork", source, "--reset-point"), 100, "no such option");
	expect_command(ARGS("clone", source, "--swap", "x"), 100, "no such option");
	expect_command(ARGS("clone"), 100, "the TEMPLATE's name is needed");
	expect_command(ARGS("template"), 100, "the VM's NAME, or a snapshot's DIR, is needed");
	int fd = control_connect(source);
	control_refused(fd, "{\"command\":\"fork\",\"reset_point\":true}", "bad-request");
	close(fd);
}
END_TEST

/* A clone can be a template: what it never looked at is in its own template's files. */
START_TEST(of_a_clone)
{
	start_told("oc", ARGS("--halt", "exit"));
	tell_once("oc", "h1");
	expect_command(ARGS("template", "oc", "--name", "oct", "--pool", "0"), 0, "template");
	expect_command(ARGS("clone", "oct", "--name", "occ"), 0, "occ: running");
	expect_command(ARGS("template", "occ", "--name", "oct2", "--pool", "0"), 0, "template");
	expect_command(ARGS("stop", "oct"), 0, "gone");
	expect_command(ARGS("clone", "oct2", "-n", "2", "--name", "occ2-%"), 0, "occ2-2: running");
	tell_once("occ2-1", "e1");
	tell_once("occ", "w2");
	tell_once("occ2-1", "w3");
	tell_once("occ2-2", "e1");
	/* What it wrote since goes with it. */
	expect_command(ARGS("template", "occ2-1", "--name", "oct3", "--pool", "0"), 0, "template");
	expect_command(ARGS("clone", "oct3", "--name", "occ3"), 0, "occ3: running");
	tell_once("occ3", "a3");
}
END_TEST

static bool has_thread(pid_t pid, const char *name)
{
	char path[320], comm[32];
	bool has = false;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *dir = opendir(path);
	for (struct dirent *e; dir && (e = readdir(dir));) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/comm", (int)pid, e->d_name);
		FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "re");
		has |= f && fscanf(f, "%31s", comm) == 1 && strcmp(comm, name) == 0;
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return has;
}

/* A clone that does nothing has few threads; the first client has one made. */
START_TEST(rests)
{
	static const char *const pools[] = {"0", "1"};
	const char *source = in_round("resting%d", _i);
	const char *template = in_round("rest%d", _i), *name = in_round("rests%d", _i);

	start_told(source, ARGS("--halt", "exit"));
	expect_command(ARGS("template", source, "--name", template, "--pool", pools[_i]), 0,
		       "template");
	json_t *reply = forks_of(ARGS("clone", template, "--name", name, "--json"));
	pid_t pid = fork_pid(reply, 0);
	json_decref(reply);
	ck_assert(has_thread(pid, "foal-vcpu/0"));
	ck_assert(has_thread(pid, "foal-fork"));
	ck_assert(!has_thread(pid, "foal-stop"));
	ck_assert(!has_thread(pid, "foal-control"));
	tell_once(name, "h1");
	ck_assert(has_thread(pid, "foal-control"));
	expect_command(ARGS("stop", name), 0, "gone");
}
END_TEST

static const char *const checks[] = {"init=/bin/check", "init=/bin/main"};

/* Programs with files, from the middle of their work, several times. */
START_TEST(programs)
{
	const char *source = in_round("prog%d", _i);
	char line[128], name[32];
	int fds[4];

	if (access(image_path("kernel.elf"), R_OK) || access(image_path("disk.img"), R_OK))
		skip("no guest kernel or images here");
	snprintf(line, sizeof(line), "quiet root=/dev/vda %s", checks[_i % 2]);
	background(source, ARGS("--kernel", image_path("kernel.elf"), "--disk",
				copy_file(image_path("disk.img"), "clones.img"), "--memory", "64M",
				"--append", line, "--stats", "off"));
	usleep(30000 * (unsigned)(_i + 1)); /* somewhere in its work */
	expect_command(ARGS("template", source, "--name", in_round("pt%d", _i), "--pool", "2"), 0,
		       "template");
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "pc%d-%d", _i, i);
		expect_command(ARGS("clone", in_round("pt%d", _i), "--name", name), 0, "running");
		fds[i] = control_listen(name);
	}
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(control_end(fds[i]), 0);
}
END_TEST

/* How many of @most; -1: the kernel does not say. */
static int children_of(pid_t pid, int *pids, int most)
{
	char path[64];
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return -1;
	while (n < most && fscanf(f, "%d", &pids[n]) == 1)
		n++;
	fclose(f);
	return n;
}

/* Whoever waits for a name ends with the template, however that ends; or when it is told to. */
START_TEST(pool_ends)
{
	int pids[3], n;

	start_told("pe", ARGS("--halt", "exit"));
	json_t *reply = forks_of(ARGS("template", "pe", "--name", "pt", "--pool", "3", "--json"));
	pid_t template = fork_pid(reply, 0);
	json_decref(reply);
	n = children_of(template, pids, 3);
	if (n < 0)
		skip("the host's kernel does not list children");
	ck_assert_int_eq(n, 3);
	/* One without a name ends as anybody does, and another one is made; nobody has asked. */
	ck_assert_int_eq(kill(pids[0], SIGTERM), 0);
	while (kill(pids[0], 0) == 0) /* until its parent has seen it */
		usleep(1000);
	while (children_of(template, pids, 3) < 3)
		usleep(1000);
	expect_command(ARGS("clone", "pt", "--name", "named"), 0, "named: running");
	kill_and_wait(template);
	ck_assert(alive(pids[2]));
	while (alive(pids[1]))
		usleep(1000);
}
END_TEST

static int child_after(pid_t parent, int last)
{
	int pid;

	while (children_of(parent, &pid, 1) < 1 || pid == last)
		usleep(1000);
	return pid;
}

/* One that cannot be made ends, and another is tried: it does not take a name that it has no use
 * for. */
START_TEST(short_pool)
{
	struct rlimit limit;
	int pid, first;

	start_told("sp", ARGS("--halt", "exit"));
	json_t *reply = forks_of(ARGS("template", "sp", "--name", "spt", "--pool", "1", "--json"));
	pid_t template = fork_pid(reply, 0);
	json_decref(reply);
	if (children_of(template, &pid, 1) < 0)
		skip("the host's kernel does not list children");
	rlim_t had = descriptors_of(template);
	ck_assert_int_eq(prlimit(template, RLIMIT_NOFILE, NULL, &limit), 0);
	for (rlim_t more = 1; more <= 12; more++) {
		const struct rlimit few = {had + more, limit.rlim_max};
		ck_assert_int_eq(prlimit(template, RLIMIT_NOFILE, &few, NULL), 0);
		kill(pid, SIGKILL); /* one that could not be made may have ended by itself */
		first = child_after(template, pid);
		while (children_of(template, &pid, 1) < 1 ||
		       (pid == first && !has_thread(pid, "foal-fork")))
			usleep(1000);
	}
	ck_assert_int_eq(prlimit(template, RLIMIT_NOFILE, &limit, NULL), 0);
	kill(pid, SIGKILL); /* if it is there still */
	child_after(template, pid);
	expect_command(ARGS("clone", "spt", "--name", "spc"), 0, "spc: running");
}
END_TEST

START_TEST(many)
{
	start_told("m", ARGS("--halt", "exit"));
	tell_once("m", "h1");
	expect_command(ARGS("template", "m", "--name", "first", "--pool", "1"), 0,
		       "first: template");
	/* While that one lives. */
	expect_command(ARGS("fork", "m", "--name", "more"), 0, "more: running");
	expect_command(ARGS("template", "m", "--name", "mt", "--pool", "8"), 0, "mt: template");
	for (int i = 0; i < 3; i++)
		expect_command(
		    ARGS("clone", "mt", "-n", emulated_host() ? "4" : "16", "--name", "many-%"), 0,
		    "running");
	tell_once("many-1", "e1");
	expect_command(ARGS("stop", "mt"), 0, "gone");
	tell_once("many-12", "e1");
}
END_TEST

/* A request of clones is answered, and its channel; the other end. */
static int ask_for_clones(int fd, const char *first, int passed, unsigned times)
{
	int ends[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	if (first)
		control_pass(ends[0], first, passed, times);
	control_pass(fd, "{\"command\":\"fork\",\"clone\":true,\"count\":2}\n", ends[1], 1);
	close(ends[1]);
	json_t *reply = control_line(fd);
	ck_assert(json_is_true(json_object_get(reply, "ok")));
	json_decref(reply);
	return ends[0];
}

/* A template that was made of one that another made: it has a pool of its own, and nothing of that.
 */
START_TEST(template_of_a_clone)
{
	start_told("first", ARGS("--halt", "exit"));
	tell_once("first", "w1");
	expect_command(ARGS("template", "first", "--name", "tf", "--pool", "3"), 0, "tf: template");
	expect_command(ARGS("clone", "tf", "--name", "second", "--reset-point"), 0, "second");
	tell_once("second", "w2");
	expect_command(ARGS("template", "second", "--name", "ts", "--pool", in_round("%d", _i)), 0,
		       "ts: template");
	expect_command(ARGS("clone", "ts", "-n", "6", "--name", "third%"), 0, "third6: running");
	tell_once("third1", "a2");
	tell_once("third6", "a2");
	expect_command(ARGS("clone", "tf", "--name", "fourth"), 0, "fourth: running");
	tell_once("fourth", "a1");
	expect_command(ARGS("clone", "ts", "--name", "fifth", "--clock", "jump"), 0, "running");
	tell_once("fifth", "a2");
}
END_TEST

/* The answer does not wait for names, and what comes with messages that are none is not kept. */
START_TEST(orders)
{
	char text[512];
	int channel;

	start_told("o", ARGS("--halt", "exit"));
	json_t *reply = forks_of(ARGS("template", "o", "--name", "ot", "--pool", "0", "--json"));
	pid_t template = fork_pid(reply, 0);
	json_decref(reply);
	int fd = control_connect("ot");
	control_number(fd, "{\"command\":\"status\"}", "pid");
	unsigned had = descriptors_of(template);
	for (unsigned n = 1; n <= 8; n++) {
		close(ask_for_clones(fd, "", fd, n));
		close(ask_for_clones(fd, "name", fd, n));
	}
	channel = ask_for_clones(fd, NULL, -1, 0);
	ck_assert_int_eq(send(channel, "good", 4, MSG_NOSIGNAL), 4);
	ssize_t n = recv(channel, text, sizeof(text) - 1, 0);
	ck_assert_int_gt(n, 0);
	text[n] = 0;
	ck_assert_msg(strstr(text, "no name with its files"), "%s", text);
	ck_assert_int_eq(recv(channel, text, sizeof(text), 0), 0);
	close(channel);
	control_number(fd, "{\"command\":\"status\"}", "pid");
	descriptors_fall(template, had);
	close(fd);
}
END_TEST

/* Asked to stop and for a clone at once: what it would make would take itself for told to end. */
START_TEST(of_one_that_ends)
{
	int ends[2];

	start_told("en", ARGS("--halt", "exit"));
	json_t *reply = forks_of(ARGS("template", "en", "--name", "ent", "--pool", "0", "--json"));
	pid_t template = fork_pid(reply, 0);
	json_decref(reply);
	int first = control_connect("ent"), second = control_connect("ent");
	control_number(first, "{\"command\":\"status\"}", "pid");
	control_number(second, "{\"command\":\"status\"}", "pid");
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
	ck_assert_int_eq(kill(template, SIGSTOP), 0);
	control_pass(first, "{\"command\":\"stop\"}\n", ends[0], 1);
	control_pass(second, "{\"command\":\"fork\",\"clone\":true}\n", ends[1], 1);
	close(ends[1]);
	ck_assert_int_eq(kill(template, SIGCONT), 0);
	reply = control_line(second);
	/* It may have ended before it came to that: its end is the answer, too. */
	if (json_object_get(reply, "event")) {
		json_decref(reply);
		reply = control_line(second);
	}
	const json_t *error = json_object_get(reply, "error");
	ck_assert_msg(!reply ||
			  (error && strstr(json_string_value(json_object_get(error, "message")),
					   "the template is ending")),
		      "%s", json_dumps(reply, 0));
	json_decref(reply);
	/* None was made: nobody has the other end of what came with it. */
	ck_assert_int_eq(recv(ends[0], &(char){0}, 1, 0), 0);
	close(ends[0]);
	close(first);
	close(second);
}
END_TEST

/* A limit that stops it is named, and nothing of those that were to come is left. */
START_TEST(limits)
{
	const struct rlimit few = {64, 64};

	start_told("l", ARGS("--halt", "exit"));
	expect_command(ARGS("template", "l", "--name", "lt", "--pool", "0"), 0, "lt: template");
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0); /* of this test's process */
	expect_command(ARGS("clone", "lt", "-n", "64", "--name", "few-%"), 101,
		       "too many open files: raise the limit (ulimit -n)");
	expect_command(ARGS("stat", "few-1"), 112, "no running VM");
	expect_command(ARGS("clone", "lt", "--name", "few-1"), 0, "few-1: running");
}
END_TEST

START_TEST(refused)
{
	if (!have_userfaultfd())
		skip("no userfaultfd");
	start_told("small", ARGS("--memory-limit", "16M"));
	expect_command(ARGS("template", "small"), 113, "no template: --memory-limit");
	expect_command(ARGS("template", "nobody"), 112, "no running VM");
	expect_command(ARGS("template", "small", "--pool", "many"), 100, "give a whole number");
	expect_command(ARGS("clone", "small", "--clock", "slow"), 100, "freeze or jump");
	expect_command(ARGS("clone", "small"), 113, "it is no template");
	start_told("large", ARGS("--halt", "exit"));
	expect_command(ARGS("template", "large"), 0, "large.template: template");
	expect_command(ARGS("template", "large.template", "--name", "twice"), 113,
		       "it is a template already");
	expect_command(ARGS("stat", "twice"), 112, "no running VM");
}
END_TEST

Suite *clone_suite(void)
{
	Suite *suite = suite_create("clone");
	TCase *tc = tcase_create("clone");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_checked_fixture(tc, NULL, end_all);
	tcase_add_loop_test(tc, nonces, 0, (int)(sizeof(ways) / sizeof(ways[0])));
	tcase_add_test(tc, timers);
	tcase_add_test(tc, snapshots);
	tcase_add_test(tc, resets);
	tcase_add_test(tc, of_a_clone);
	tcase_add_loop_test(tc, template_of_a_clone, 0, 3);
	tcase_add_loop_test(tc, back_to_the_template, 0, 2);
	tcase_add_loop_test(tc, rests, 0, 2);
	tcase_add_loop_test(tc, programs, 0, 2);
	tcase_add_test(tc, many);
	tcase_add_test(tc, orders);
	tcase_add_test(tc, of_one_that_ends);
	tcase_add_test(tc, pool_ends);
	tcase_add_test(tc, short_pool);
	tcase_add_test(tc, limits);
	tcase_add_test(tc, refused);
	suite_add_tcase(suite, tc);
	return suite;
}
