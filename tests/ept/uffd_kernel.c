/* The kernel's engine: the same contents by the host's own path. Needs no userfaultfd. */
#include "ept/host_pages.h"
#include "ept/lead.h"
#include "ept/stats.h"
#include "tests/ept/fork_rig.h"
#include "tests/ept/uffd_suites.h"
#include "tests/ept/util.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

static struct vm kernel_vm(int fd, uint64_t offset, uint64_t size, enum ept_file_mode mode)
{
	struct ept_config config = {
	    .vm_name = "test", .log = true, .engine = EPT_ENGINE_KERNEL, .vcpus = 1};

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

/* The map that a space keeps tells what is there, and of nothing where, also to root. */
START_TEST(map_has_no_frames)
{
	struct vm vm = kernel_vm(-1, 0, PAGE, EPT_FILE_COW);
	uint64_t entry = 0;

	*vm.hva = 1;
	ck_assert_int_eq(pread(vm.space->pagemap_fd, &entry, sizeof(entry),
			       (off_t)((uintptr_t)vm.hva / PAGE * sizeof(entry))),
			 sizeof(entry));
	ck_assert_uint_ne(entry >> 63, 0);
	ck_assert_uint_eq(entry << 9, 0);
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

	ept_file_watch_stop(vm.space); /* which would find it first */
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
	ept_file_watch_stop(vm.space); /* which would find it first */
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

/* In a template's clone nobody looks at files before somebody has it done. */
START_TEST(clone_looks_when_told)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = kernel_vm(fd, 0, 64 * PAGE, EPT_FILE_COW);

	ept_file_watch_stop(vm.space); /* the parent's */
	make_template(&vm);
	struct pair p = fork_space(&vm);
	if (!p.child) {
		struct pollfd failed = {.fd = ept_space_failure_fd(vm.space), .events = POLLIN};

		child_assert(!vm.space->files.running);
		child_assert(ftruncate(fd, 20 * PAGE) == 0);
		child_assert(ept_space_watch_files(vm.space) == 0);
		child_assert(ept_space_watch_files(vm.space) == 0);
		child_assert(poll(&failed, 1, -1) == 1);
		child_assert(strstr(ept_space_failure(vm.space)->message, "shrank"));
		ept_space_stop(vm.space);
		child_assert(ept_space_watch_files(vm.space) == 0);
		child_assert(!vm.space->files.running);
		_exit(0);
	}
	join(&vm, &p);
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

/* --- led: the steps, one by one; unit_lead.c has the rules ------------------------------- */

static struct ept_lead_stats led(const struct vm *vm)
{
	struct ept_lead_stats stats;

	ept_area_lead_stats(vm->area, &stats);
	return stats;
}

static uint64_t mapped(const struct vm *vm, unsigned char bit)
{
	uint64_t pages = vm->size / PAGE, n = 0;
	unsigned char *bits = malloc(pages);

	ck_assert_int_eq(ept_host_pages(vm->space->pagemap_fd, vm->hva, pages, bits), 0);
	for (uint64_t i = 0; i < pages; i++)
		n += (bits[i] & bit) != 0;
	free(bits);
	return n;
}

/* A space whose files' thread is the test. */
static struct vm led_vm(int fd, uint64_t offset, uint64_t size, enum ept_huge huge)
{
	struct ept_config config = {
	    .vm_name = "test", .engine = EPT_ENGINE_KERNEL, .vcpus = 1, .huge = huge};
	struct vm vm = vm_create(&config, fd, offset, size, EPT_FILE_COW);

	ept_governor_stop(vm.space);
	ept_file_watch_stop(vm.space);
	return vm;
}

/* At an odd place, with and without folios of 2 MiB: just what was asked is in the page cache. */
START_TEST(led_reader)
{
	const uint64_t size = 4 * EPT_LEAF_BYTES, offset = 3 * PAGE;
	int fd = temp_file(size + offset);
	struct vm vm = led_vm(fd, offset, size, _i ? EPT_HUGE_NEVER : EPT_HUGE_AUTO);
	struct ept_object *obj = vm.area->obj;
	int64_t cached;

	fsync(fd);
	ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	cached = ept_object_host_cached(obj, 0, size);
	/* In the middle: two pieces of the file, of which one lies in it whole. */
	ck_assert_int_eq(ept_lead_read(vm.area, 600, 700), 0);
	while (ept_lead_work(vm.space))
		;
	ck_assert_uint_eq(led(&vm).windows, 1);
	ck_assert_uint_eq(led(&vm).failed, 0);
	ck_assert_uint_eq(mapped(&vm, EPT_HOST_THERE), 0);
	if (cached == 0) { /* the host tells, and this file system lets go of its cache */
		ck_assert_uint_eq(led(&vm).read, 700 * PAGE);
		ck_assert_uint_eq(led(&vm).pieces, 2);
		ck_assert_int_eq(ept_object_host_cached(obj, 600 * PAGE, 1300 * PAGE), 700);
		ck_assert_int_eq(ept_lead_read(vm.area, 600, 700), 0);
		while (ept_lead_work(vm.space))
			;
		ck_assert_uint_eq(led(&vm).pieces, 2); /* not again */
	}
	ck_assert(has_pattern(vm.hva, offset, size));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* The pages asked for are own copies, their bytes the file's; its other pages are as before. */
START_TEST(led_writer)
{
	int fd = temp_file(64 * PAGE);
	struct vm vm = led_vm(fd, 0, 64 * PAGE, EPT_HUGE_AUTO);

	ck_assert_int_eq(ept_lead_copy(vm.area, 10, 20), 0);
	ck_assert_int_eq(ept_lead_copy(vm.area, 31, 1), 0);
	while (ept_lead_work(vm.space))
		;
	ck_assert_uint_eq(led(&vm).copied, 21);
	ck_assert_uint_eq(mapped(&vm, EPT_HOST_COPY), 21);
	ck_assert_uint_eq(area_info(&vm).copied, 21 * PAGE);
	ck_assert(has_pattern(vm.hva, 0, 64 * PAGE));
	memset(vm.hva, 1, 64 * PAGE);
	ck_assert(file_has(fd, 0, &(uint8_t){pattern_byte(0)}, 1));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

/* The file is cut off: what is led fails quietly, and the look at its size says why. */
START_TEST(led_into_a_hole)
{
	int fd = temp_file(4 * EPT_LEAF_BYTES);
	struct vm vm = led_vm(fd, 0, 4 * EPT_LEAF_BYTES, EPT_HUGE_AUTO);

	ck_assert_int_eq(ftruncate(fd, PAGE), 0);
	ck_assert_int_eq(ept_lead_read(vm.area, 512, 512), 0);
	ck_assert_int_eq(ept_lead_copy(vm.area, 1024, 8), 0);
	while (ept_lead_work(vm.space))
		;
	ck_assert_uint_ge(led(&vm).failed, 1);
	ck_assert_uint_eq(led(&vm).copied, 0);
	ck_assert_ptr_null(ept_space_failure(vm.space));
	ept_space_check_files(vm.space);
	ck_assert_ptr_nonnull(strstr(ept_space_failure(vm.space)->message, "shrank"));
	vm_destroy(&vm);
	close(fd);
}
END_TEST

static uint64_t scans(const struct vm *vm)
{
	struct ept_huge_stats stats;

	ept_space_huge_stats(vm->space, &stats);
	return stats.scans;
}

/* With all its threads: who writes in order is led, as a reader and as a writer. */
START_TEST(led_by_its_threads)
{
	const uint64_t size = 32UL << 20;
	int fd = temp_file(size);
	struct vm vm = kernel_vm(fd, 0, size, EPT_FILE_COW);
	uint64_t page, before = 0;

	for (page = 0; page < size / PAGE; page++) {
		/* Not led yet: the governor looks after so many faults, whenever it gets a CPU. */
		if (page % 64 == 63 && !led(&vm).copied) {
			while (scans(&vm) == before)
				;
			before = scans(&vm);
		}
		*at(&vm, page) = 1;
	}
	for (page = 0; page < size / PAGE; page++) {
		ck_assert_int_eq(*at(&vm, page), 1);
		ck_assert(has_pattern(at(&vm, page) + 1, page * PAGE + 1, PAGE - 1));
	}
	ept_space_stop(vm.space);
	ck_assert_uint_gt(led(&vm).windows, 0);
	ck_assert_uint_gt(led(&vm).copied, 0);
	ck_assert_uint_eq(led(&vm).failed, 0);
	vm_destroy(&vm);
	close(fd);
}
END_TEST

Suite *suite_kernel_engine(void)
{
	Suite *suite = suite_create("ept, the kernel's engine");
	TCase *tc = tcase_create("kernel");

	tcase_add_test(tc, anonymous);
	tcase_add_test(tc, map_has_no_frames);
	tcase_add_loop_test(tc, contents_are_equal, 0, 12);
	tcase_add_test(tc, sync_writes_what_differs);
	tcase_add_test(tc, truncated_file_is_an_error);
	tcase_add_loop_test(tc, truncated_after_it_was_mapped, 0, 2);
	tcase_add_test(tc, clone_looks_when_told);
	tcase_add_test(tc, access_rights_are_kept);
	tcase_add_loop_test(tc, led_reader, 0, 2);
	tcase_add_test(tc, led_writer);
	tcase_add_test(tc, led_into_a_hole);
	tcase_add_test(tc, led_by_its_threads);
	tcase_set_timeout(tc, 60);
	suite_add_tcase(suite, tc);
	return suite;
}
