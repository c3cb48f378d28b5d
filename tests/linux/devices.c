/*
 * Drivers of a stock Linux guest against virtio-vsock and virtio-balloon: a MiB
 * each way between guest and host, and memory that the guest frees and the host
 * gets back.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/linux/suites.h"

#define MIB (1UL << 20)

static void start_guest(struct run *run, const char *job, const char *option, const char *value,
			const char *more, const char *more_value)
{
	char append[128];

	snprintf(append, sizeof(append), "console=ttyS0 panic=-1 quiet job=%s", job);
	run_start(run, &(struct run_how){0},
		  ARGS("--kernel", linux_path("vmlinuz"), "--initrd", linux_path("initrd.gz"),
		       "--append", append, option, value, more, more_value, "--time-limit",
		       GUEST_LIMIT));
}

static void ends_well(struct run *run, const char *job)
{
	char line[64];

	run_wait(run);
	snprintf(line, sizeof(line), "guest: job %s ended with 0\n", job);
	ck_assert_msg(run->status == 0 && strstr(run->out_text, line), "status %d\n%s\n%s",
		      run->status, run->out_text, run->err_text);
}

/* --- vsock ---------------------------------------------------------------------------------- */

static struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	ck_assert_uint_lt(strlen(path), sizeof(at.sun_path));
	memcpy(at.sun_path, path, strlen(path) + 1);
	return at;
}

/* Take what comes until its end, then send a MiB; the sums of both. */
static void exchange(int fd, char got[SHA256_HEX], char sent[SHA256_HEX])
{
	static uint8_t data[64 << 10];
	struct sha256 sha;
	uint64_t bytes = 0;
	ssize_t n;

	sha256_init(&sha);
	while ((n = recv(fd, data, sizeof(data), 0)) > 0) {
		sha256_update(&sha, data, (size_t)n);
		bytes += (uint64_t)n;
	}
	sha256_final_hex(&sha, got);
	ck_assert_uint_eq(bytes, MIB);
	sha256_init(&sha);
	for (size_t i = 0; i < MIB / sizeof(data); i++) {
		memset(data, (int)i * 31 + 7, sizeof(data));
		data[i] = 1;
		for (size_t done = 0; done < sizeof(data); done += (size_t)n) {
			n = send(fd, data + done, sizeof(data) - done, MSG_NOSIGNAL);
			ck_assert_int_gt(n, 0);
		}
		sha256_update(&sha, data, sizeof(data));
	}
	sha256_final_hex(&sha, sent);
	close(fd);
}

/* The guest's side said these sums. */
static void compare(const struct run *run, const char *word, const char *got, const char *sent)
{
	ck_assert_mem_eq(guest_said(run, "sends "), got, SHA256_HEX - 1);
	ck_assert_mem_eq(guest_said(run, word), sent, SHA256_HEX - 1);
}

START_TEST(vsock_both_ways)
{
	const char *path = scratch("vsock");
	struct sockaddr_un at = unix_address(path), at_2000;
	char option[256], got[SHA256_HEX], sent[SHA256_HEX], line[32] = "";
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	struct run run;
	json_t *stats;

	snprintf(option, sizeof(option), "%s_2000", path);
	at_2000 = unix_address(option);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)&at_2000, sizeof(at_2000)), 0);
	ck_assert_int_eq(listen(listener, 1), 0);
	snprintf(option, sizeof(option), "cid=77,path=%s", path);
	start_guest(&run, "vsock", "--vsock", option, "--memory", "256M");
	run_until(&run, "guest: sends ");

	fd = accept(listener, NULL, NULL);
	exchange(fd, got, sent);
	run_until(&run, "guest: received ");
	run_until(&run, "guest: listening");
	compare(&run, "received ", got, sent);

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(send(fd, "CONNECT 3000\n", 13, MSG_NOSIGNAL), 13);
	for (size_t i = 0; i < sizeof(line) - 1 && !strchr(line, '\n'); i++)
		ck_assert_int_eq(recv(fd, line + i, 1, 0), 1);
	ck_assert_mem_eq(line, "OK ", 3);
	exchange(fd, got, sent);
	run_until(&run, "guest: refused");
	ends_well(&run, "vsock");
	compare(&run, "accepted ", got, sent);
	stats = json_object_get(run.stats, "vsock");
	ck_assert_int_eq(json_integer_value(json_object_get(stats, "from_guest")), 1);
	ck_assert_int_eq(json_integer_value(json_object_get(stats, "from_host")), 1);
	ck_assert_int_eq(json_integer_value(json_object_get(stats, "bytes_to_host")), 2 * MIB);
	ck_assert_int_eq(json_integer_value(json_object_get(stats, "bytes_to_guest")), 2 * MIB);
	/* The connector has cleared up. */
	ck_assert_int_ne(access(path, F_OK), 0);
	run_free(&run);
	close(listener);
}
END_TEST

/* --- balloon --------------------------------------------------------------------------------- */

/* MiB of memory that a process has. */
static unsigned long resident(pid_t pid)
{
	char path[64], line[128];
	unsigned long kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file) && sscanf(line, "VmRSS: %lu kB", &kib) != 1)
		;
	fclose(file);
	return kib >> 10;
}

/* The guest reports free blocks of 2 MiB, not what is between, within seconds. */
static unsigned long resident_below(pid_t pid, unsigned long limit)
{
	unsigned long now = resident(pid);

	for (unsigned i = 0; i < 1000 && now >= limit; i++) {
		usleep(100000);
		now = resident(pid);
	}
	return now;
}

static int64_t balloon_number(const struct run *run, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(run->stats, "balloon"), name));
}

START_TEST(freed_memory_comes_back)
{
	static const char *const engines[] = {"auto", "handler"};
	unsigned long full, freed, again;
	struct run run;

	if (_i == 1 && !have_userfaultfd())
		skip("no userfaultfd here");
	start_guest(&run, "balloon", "--balloon", "on", "--fault-engine", engines[_i]);
	run_until(&run, "guest: filled ");
	full = resident(run.pid);
	run_type(&run, "\n", 1);
	run_until(&run, "guest: freed");
	freed = resident_below(run.pid, full - 24);
	run_type(&run, "\n", 1);
	run_until(&run, "guest: refilled ");
	again = resident(run.pid);
	run_type(&run, "\n", 1);
	ends_well(&run, "balloon");
	printf("balloon, engine %s: %lu MiB resident, %lu after 48 MiB were freed, %lu filled "
	       "again; %lld MiB reported, %lld given back\n",
	       engines[_i], full, freed, again, (long long)balloon_number(&run, "reported") >> 20,
	       (long long)balloon_number(&run, "given_back") >> 20);
	ck_assert_uint_ge(full, 48);
	ck_assert_uint_lt(freed, full - 24);
	ck_assert_uint_ge(again, freed + 24);
	ck_assert_int_ge(balloon_number(&run, "given_back"), 40 * (int64_t)MIB);
	run_free(&run);
}
END_TEST

/* A guest that is asked for all but 128 MiB puts the rest into the balloon. */
START_TEST(balloon_target)
{
	struct run run;

	start_guest(&run, "wait", "--balloon", "target=128M", "--memory", "256M");
	run_until(&run, "guest: waiting");
	run_type(&run, "\n", 1);
	ends_well(&run, "wait");
	ck_assert_int_eq(balloon_number(&run, "target"), 128 * (int64_t)MIB);
	ck_assert_int_ge(balloon_number(&run, "actual"), 32 * (int64_t)MIB);
	ck_assert_int_ge(balloon_number(&run, "inflated"), 32 * (int64_t)MIB);
	run_free(&run);
}
END_TEST

Suite *devices_suite(void)
{
	Suite *suite = suite_create("devices");
	TCase *vsock = tcase_create("vsock"), *balloon = tcase_create("balloon");

	tcase_set_timeout(vsock, TEST_LIMIT);
	tcase_add_test(vsock, vsock_both_ways);
	suite_add_tcase(suite, vsock);
	tcase_set_timeout(balloon, TEST_LIMIT);
	/* With an event a page a boot takes minutes on an older kernel. */
	tcase_add_loop_test(balloon, freed_memory_comes_back, 0, linux_at_least(6, 4) ? 2 : 1);
	tcase_add_test(balloon, balloon_target);
	suite_add_tcase(suite, balloon);
	return suite;
}
