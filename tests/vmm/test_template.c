/* A clone that was made ahead, and cannot run: what is said of it has the name that it was given.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/vmm/suites.h"
#include "vmm/template.h"
#include "vmm/vm.h"

static struct run_options opt;
static struct fork_birth birth;
static struct vm_restore damaged = {.state = (const uint8_t *)"none", .len = 4};
static struct vm vm;
static struct foal_error err;
static _Atomic pid_t heeding;

static void *heed(void *unused)
{
	(void)unused;
	heeding = (pid_t)syscall(SYS_gettid);
	return (void *)(intptr_t)template_heed(&vm, &err);
}

/* Does the thread wait for something, or has it ended? */
static bool rests(pid_t thread)
{
	char path[64], state = 'R';
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)thread);
	f = fopen(path, "re");
	if (!f)
		return true;
	if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 'S';
	fclose(f);
	return state == 'S';
}

/* Until then another thread writes the name: here there is not even a place for it. */
START_TEST(name_is_read_when_it_is_there)
{
	pthread_t thread;
	void *result;
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	close(ends[1]); /* it is asked for */
	birth.heed_fd = ends[0];
	vm = (struct vm){.birth = &birth, .restore = &damaged};
	gate_init(&vm.confined, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, heed, NULL), 0);
	while (!heeding || !rests(heeding))
		;
	snprintf(opt.name, sizeof(opt.name), "given");
	vm.opt = &opt;
	gate_arrive(&vm.confined);
	pthread_join(thread, &result);
	ck_assert_int_lt((int)(intptr_t)result, 0);
	ck_assert_msg(strncmp(err.text, "given: ", 7) == 0, "%s", err.text);
	ck_assert_int_eq(birth.heed_fd, -1);
}
END_TEST

Suite *template_suite(void)
{
	Suite *suite = suite_create("template");
	TCase *tc = tcase_create("template");

	tcase_add_test(tc, name_is_read_when_it_is_there);
	suite_add_tcase(suite, tc);
	return suite;
}
