/* The kernel's engine: the same contents by the host's own path. Needs no userfaultfd. */
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

static struct vm kernel_vm(int fd, uint64_t offset, uint64_t size, enum ept_file_mode mode)
{
	struct ept_config config = {.vm_name = "test", .engine = EPT_ENGINE_KERNEL, .vcpus = 1};

	return vm_create(&config, fd, offset, size, mode);
}

START_TEST(anonymous)
{
	struct vm vm = kernel_vm(-1, 0, 1024 * PAGE, EPT_FILE_COW);
	volatile char *p = vm.hva;
	char c = 1;

	ck_assert_int_eq(p[5 * PAGE], 0);
	p[7 * PAGE] = 1;
	ck_assert_uint_ge(area_info(&vm).resident, PAGE);
	discard(&vm, 0, 1024);
	ck_assert_uint_eq(area_info(&vm).resident, 0);
	ck_assert_int_eq(p[7 * PAGE], 0);
	ck_assert_int_eq(ept_read(vm.space, GPA(8 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), 0);
	ck_assert_int_eq(c, 0);
	vm_destroy(&vm);
}
END_TEST

/* Every mode and alignment: the bytes of the handler engine, zeros after the object's end. */
START_TEST(contents_are_equal)
{
	static const struct {
		uint64_t offset, length;
	} ranges[] = {{0, 64 * PAGE}, {8 * PAGE, 20 * PAGE + 100}, {777, 20 * PAGE + 100}, {0, 5}};
	int fd = temp_file(64 * PAGE);
	uint64_t offset = ranges[_i / 3].offset, length = ranges[_i / 3].length;
	enum ept_file_mode mode = (enum ept_file_mode)(_i % 3);
	struct vm vm = kernel_vm(fd, offset, length, mode);

	ck_assert(has_pattern(vm.hva, offset, length));
	for (uint64_t i = length; i < vm.size; i++)
		ck_assert_int_eq(vm.hva[i], 0);
	ck_assert_uint_eq(area_info(&vm).file_read, length);
	if (mode != EPT_FILE_RO) {
		memset(vm.hva, 1, vm.size);
		ck_assert_int_eq(ept_area_sync(vm.area), 0);
		uint8_t in_file = mode == EPT_FILE_SHARED ? 1 : pattern_byte(offset);
		ck_assert(file_has(fd, offset, &in_file, 1));
	}
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(sync_writes_what_differs)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = kernel_vm(fd, 0, 64 * PAGE, EPT_FILE_SHARED);
	struct stat st;

	vm.hva[5 * PAGE] = 0;
	vm.hva[9 * PAGE] = 0;
	ck_assert_int_eq(ept_area_sync(vm.area), 0);
	ck_assert_uint_eq(inject_get(bytes_written), 2 * PAGE);
	ck_assert(file_has(fd, 0, vm.hva, 64 * PAGE));
	ck_assert_int_eq(ftruncate(fd, PAGE), 0);
	ck_assert_int_eq(ept_area_sync(vm.area), -EIO);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, PAGE);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* The pages of a mapped file that was cut off: an error. */
START_TEST(truncated_file_is_an_error)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = kernel_vm(fd, 0, 64 * PAGE, EPT_FILE_COW);
	struct iovec iov;
	char buf[2 * PAGE];

	ck_assert_int_eq(ftruncate(fd, 20 * PAGE), 0);
	ck_assert_int_eq(ept_read(vm.space, GPA(PAGE), buf, PAGE, EPT_ORIGIN_DEVICE), 0);
	ck_assert(has_pattern(buf, PAGE, PAGE));
	ck_assert_int_eq(ept_read(vm.space, GPA(19 * PAGE), buf, 2 * PAGE, EPT_ORIGIN_DEVICE),
			 -EIO);
	ck_assert_int_eq(ept_write(vm.space, GPA(30 * PAGE), "x", 1, EPT_ORIGIN_DEVICE), -EIO);
	ck_assert_int_eq(ept_map(vm.space, GPA(40 * PAGE), 1, EPT_READ, EPT_ORIGIN_DEVICE, &iov, 1),
			 -EIO);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "shrank"));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

static struct ept_space *failing;
static volatile sig_atomic_t strangers;

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	siginfo_t outside = {.si_code = BUS_ADRERR}, sent = {.si_code = SI_USER};

	(void)signal, (void)context;
	outside.si_addr = &failing;
	sent.si_addr = info->si_addr;
	if (!ept_space_bus_error(failing, info))
		_exit(1);
	if (ept_space_bus_error(failing, &outside) || ept_space_bus_error(failing, &sent))
		strangers = 1;
}

/* Between ept_map() and the touch: the thread goes on, the space does not. */
START_TEST(truncated_after_it_was_mapped)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
	int fd = temp_file(64 * PAGE);
	struct vm vm = kernel_vm(fd, 0, 64 * PAGE, _i ? EPT_FILE_RO : EPT_FILE_COW);
	struct pollfd told = {.fd = ept_space_failure_fd(vm.space), .events = POLLIN};
	enum ept_access access = _i ? EPT_READ : EPT_WRITE;
	const struct ept_failure *failure;
	struct iovec iov;
	volatile char *p;

	failing = vm.space;
	sigaction(SIGBUS, &action, NULL);
	ck_assert_int_eq(
	    ept_map(vm.space, GPA(30 * PAGE + 5), 1, access, EPT_ORIGIN_DEVICE, &iov, 1), 1);
	p = iov.iov_base;
	ck_assert_int_eq(ftruncate(fd, 20 * PAGE), 0);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	errno = ENOTTY;
	ck_assert_int_eq(*p, 0);
	ck_assert_int_eq(errno, ENOTTY);
	if (access == EPT_WRITE)
		*p = 1;
	ck_assert(!strangers);
	ck_assert_int_eq(poll(&told, 1, 0), 1);
	failure = ept_space_failure(vm.space);
	ck_assert_ptr_nonnull(failure);
	ck_assert_int_eq(failure->error, -EIO);
	ck_assert_uint_eq(failure->gpa.v, 30 * PAGE);
	ck_assert_ptr_nonnull(strstr(failure->message, "disk.img for pmem0: it shrank"));
	/* A second page: the same, and the first reason stays. */
	ck_assert_int_eq(vm.hva[40 * PAGE], 0);
	ck_assert_uint_eq(ept_space_failure(vm.space)->gpa.v, 30 * PAGE);
	ck_assert_int_eq(ept_map(vm.space, GPA(0), 1, EPT_READ, EPT_ORIGIN_DEVICE, &iov, 1),
			 -ESHUTDOWN);
	signal(SIGBUS, SIG_DFL);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

START_TEST(access_rights_are_kept)
{
	int fd = temp_file(4 * PAGE);
	struct vm vm = kernel_vm(fd, 0, 4 * PAGE, EPT_FILE_RO);
	char c;

	ck_assert_int_eq(ept_write(vm.space, GPA(0), "x", 1, EPT_ORIGIN_DEVICE), -EFAULT);
	ck_assert_int_eq(ept_read(vm.space, GPA(4 * PAGE), &c, 1, EPT_ORIGIN_DEVICE), -EFAULT);
	assert_faults(&vm, EPT_CASE_RO_WRITE, 1);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

Suite *suite_kernel_engine(void)
{
	Suite *suite = suite_create("ept, the kernel's engine");
	TCase *tc = tcase_create("kernel");

	tcase_add_test(tc, anonymous);
	tcase_add_loop_test(tc, contents_are_equal, 0, 12);
	tcase_add_test(tc, sync_writes_what_differs);
	tcase_add_test(tc, truncated_file_is_an_error);
	tcase_add_loop_test(tc, truncated_after_it_was_mapped, 0, 2);
	tcase_add_test(tc, access_rights_are_kept);
	suite_add_tcase(suite, tc);
	return suite;
}
