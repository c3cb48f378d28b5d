/* What the kernel makes of a poisoned page: SIGBUS to who touches it, an error to a system call. */
#include "ept/uffd_compat.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <setjmp.h>
#include <signal.h>

#define BAD 20 /* this page of the file cannot be read */

static sigjmp_buf back;
static volatile sig_atomic_t code;
static void *volatile address; /* some byte of the page */

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	code = info->si_code;
	address = info->si_addr;
	siglongjmp(back, 1);
}

/* Does a touch of @p end in a memory error at @p? */
static bool is_memory_error(volatile char *p, enum ept_access access)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	sigaction(SIGBUS, &action, NULL);
	if (sigsetjmp(back, 1)) /* a kernel without CONFIG_MEMORY_FAILURE says ADRERR */
		return (code == BUS_MCEERR_AR || code == BUS_ADRERR) &&
		       ((uintptr_t)address & EPT_PAGE_MASK) == ((uintptr_t)p & EPT_PAGE_MASK);
	if (access == EPT_WRITE)
		*p = 1;
	else
		(void)*p;
	return false;
}

START_TEST(io_poison)
{
	int fd = temp_file(64 * PAGE), pipes[2];
	struct ept_config config = one_thread;
	struct vm vm;
	char c;

	config.on_io_error = EPT_IO_POISON;
	vm = vm_create(&config, fd, 0, 64 * PAGE, first_touches[_i].mode);
	if (!ept_space_can_poison(vm.space)) {
		vm_destroy(&vm);
		return; /* before Linux 6.6: no_poison_stops, of the unit tests */
	}
	inject_set(pread_errno, EIO);
	inject_set(bad_from, BAD * PAGE);
	inject_set(bad_to, (BAD + 1) * PAGE);
	for (int i = 0; i < 3; i++)
		ck_assert(is_memory_error(vm.hva + BAD * PAGE + 8, first_touches[_i].access));
	inject_set(pread_errno, 0);
	ck_assert(is_memory_error(vm.hva + BAD * PAGE + 8, EPT_READ));
	ck_assert_int_eq(pipe(pipes), 0);
	ck_assert_int_eq(write(pipes[1], vm.hva + BAD * PAGE, 1), -1);
	ck_assert(errno == EFAULT || errno == EHWPOISON);
	ck_assert_int_eq(ept_read(vm.space, GPA(BAD * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EIO);
	ck_assert(has_pattern(vm.hva + (BAD - 1) * PAGE, (BAD - 1) * PAGE, PAGE));
	ck_assert(has_pattern(vm.hva + (BAD + 1) * PAGE, (BAD + 1) * PAGE, PAGE));
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ept_space_stop(vm.space);
	/* The kernel knows after the first: one event, and the device's own fault. */
	assert_faults(&vm, EPT_CASE_IO_POISON, 2);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

Suite *suite_uffd_poison(void)
{
	Suite *suite = suite_create("ept on userfaultfd: poison");
	TCase *tc = tcase_create("poison");

	tcase_add_loop_test(tc, io_poison, 0, FIRST_TOUCHES);
	suite_add_tcase(suite, tc);
	return suite;
}
