/* A thread of the monitor touches guest memory whose file is gone. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/scratch.h"
#include "tests/vmm/suites.h"
#include "vmm/bus_error.h"
#include "vmm/sandbox.h"

#define PAGES 8

/* A file with pages. */
static int make_file(void)
{
	int fd = scratch_file();

	ck_assert_int_eq(ftruncate(fd, PAGES * EPT_PAGE_SIZE), 0);
	return fd;
}

/* A space that the host kernel backs with @fd; where it lies. */
static struct ept_space *make_space(int fd, char **hva)
{
	struct ept_config config = {.vm_name = "vm", .engine = EPT_ENGINE_KERNEL, .vcpus = 1};
	struct ept_object *obj;
	struct ept_space *space;
	struct ept_slot slot;

	ck_assert_int_eq(ept_space_create(&config, &space), 0);
	ck_assert_int_eq(
	    ept_object_file(fd, "gone.img", 0, PAGES * EPT_PAGE_SIZE, EPT_FILE_COW, &obj), 0);
	ck_assert_int_eq(ept_area_add(space, "pmem0", GPA(0), PAGES * EPT_PAGE_SIZE, obj, NULL), 0);
	ept_object_put(obj);
	ck_assert_int_eq(ept_space_start(space), 0);
	ck_assert_uint_eq(ept_space_slots(space, &slot, 1), 1);
	*hva = slot.hva;
	return space;
}

/* In the sandbox of a device, too: what the handler needs is allowed there. */
static void *touch(void *hva)
{
	struct sandbox box = {.on = true};
	struct foal_error err = {0};

	if (FOAL_SANDBOX_DEFAULT &&
	    (sandbox_prepare(&box, &err) || sandbox_enter(&box, THREAD_DEVICE, &err)))
		return "no sandbox";
	for (unsigned i = 0; i < PAGES; i++)
		((volatile char *)hva)[i * EPT_PAGE_SIZE] += 1;
	return NULL;
}

START_TEST(guest_memory)
{
	int fd = make_file();
	char *hva;
	struct ept_space *space = make_space(fd, &hva);
	pthread_t thread;
	void *why;

	bus_error_catch(space);
	ck_assert_int_eq(ftruncate(fd, EPT_PAGE_SIZE), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, touch, hva), 0);
	ck_assert_int_eq(pthread_join(thread, &why), 0);
	ck_assert_ptr_null(why);
	ck_assert_ptr_nonnull(ept_space_failure(space));
	ck_assert_ptr_nonnull(strstr(ept_space_failure(space)->message, "gone.img for pmem0"));
	bus_error_catch(NULL);
	ept_space_destroy(space);
	close(fd);
}
END_TEST

/* @how 0: a page of nobody's; 1: sent by another process. How a child that gets it ends. */
static int die(int how)
{
	int fd = make_file(), status;
	pid_t pid = fork();

	if (pid == 0) {
		char *hva, *page = mmap(NULL, EPT_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
		struct ept_space *space = make_space(make_file(), &hva);

		bus_error_catch(space);
		if (how == 1)
			kill(getpid(), SIGBUS);
		else if (ftruncate(fd, 0) == 0)
			(void)*(volatile char *)page;
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	close(fd);
	ck_assert(WIFSIGNALED(status));
	return WTERMSIG(status);
}

START_TEST(nobodys)
{
	ck_assert_int_eq(die(0), SIGBUS);
	ck_assert_int_eq(die(1), SIGABRT);
}
END_TEST

Suite *bus_error_suite(void)
{
	Suite *suite = suite_create("bus errors");
	TCase *tc = tcase_create("bus errors");

	tcase_add_test(tc, guest_memory);
	tcase_add_test(tc, nobodys);
	suite_add_tcase(suite, tc);
	return suite;
}
