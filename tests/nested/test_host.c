/*
 * The host that tests run on, before foal comes into play: what an emulated
 * host is for must be there, or every later failure would be read as foal's.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/run_suites.h"
#define PAGE_SIZE 4096UL
#define FILL	  0x5a

/* Case: the KVM API is the one foal is written to, and has what it relies on. */
START_TEST(kvm_api)
{
	static const long needed[] = {KVM_CAP_USER_MEMORY, KVM_CAP_BINARY_STATS_FD,
				      KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_IMMEDIATE_EXIT};
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (kvm < 0) {
		printf("SKIP kvm_api: no /dev/kvm\n");
		return;
	}
	ck_assert_int_eq(ioctl(kvm, KVM_GET_API_VERSION, 0), KVM_API_VERSION);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		ck_assert_msg(ioctl(kvm, KVM_CHECK_EXTENSION, needed[i]) > 0, "capability %ld",
			      needed[i]);
	close(kvm);
}
END_TEST

/* Case: on a host with nested paging, /sys says so. */
START_TEST(nested_paging)
{
	char value[4] = "";
	int fd = open("/sys/module/kvm_amd/parameters/npt", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		fd = open("/sys/module/kvm_intel/parameters/ept", O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		printf("SKIP nested_paging: neither kvm_amd nor kvm_intel\n");
		return;
	}
	ck_assert_int_gt(read(fd, value, sizeof(value) - 1), 0);
	ck_assert_int_eq(value[0], 'Y');
	close(fd);
}
END_TEST

struct pager {
	int uffd;
	unsigned char *page; /* what a missing page is filled from */
	int err;
};

static void *serve_one_fault(void *arg)
{
	struct pager *pager = arg;
	struct pollfd poll_fd = {.fd = pager->uffd, .events = POLLIN};
	struct uffdio_copy copy = {.len = PAGE_SIZE};
	struct uffd_msg msg;

	pager->err = ETIMEDOUT;
	if (poll(&poll_fd, 1, -1) != 1)
		return NULL;
	pager->err = EPROTO;
	if (read(pager->uffd, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_PAGEFAULT)
		return NULL;
	copy.dst = msg.arg.pagefault.address & ~(PAGE_SIZE - 1);
	copy.src = (uintptr_t)pager->page;
	pager->err = ioctl(pager->uffd, UFFDIO_COPY, &copy) ? errno : 0;
	return NULL;
}

/* Case: a missing page is filled by userfaultfd, from another thread. */
START_TEST(userfaultfd_copy)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register reg = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	struct pager pager = {.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)};
	unsigned char *mem;
	pthread_t thread;

	if (pager.uffd < 0) {
		printf("SKIP userfaultfd_copy: %s\n", strerror(errno));
		return;
	}
	ck_assert_int_eq(ioctl(pager.uffd, UFFDIO_API, &api), 0);
	mem = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(mem, MAP_FAILED);
	pager.page = mem + PAGE_SIZE;
	memset(pager.page, FILL, PAGE_SIZE);
	reg.range.start = (uintptr_t)mem;
	reg.range.len = PAGE_SIZE;
	ck_assert_int_eq(ioctl(pager.uffd, UFFDIO_REGISTER, &reg), 0);

	ck_assert_int_eq(pthread_create(&thread, NULL, serve_one_fault, &pager), 0);
	ck_assert_uint_eq(((volatile unsigned char *)mem)[PAGE_SIZE - 1], FILL);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(pager.err, 0);

	munmap(mem, 2 * PAGE_SIZE);
	close(pager.uffd);
}
END_TEST

static Suite *host_suite(void)
{
	Suite *suite = suite_create("host");
	TCase *tcase = tcase_create("host");

	tcase_add_test(tcase, kvm_api);
	tcase_add_test(tcase, nested_paging);
	tcase_add_test(tcase, userfaultfd_copy);
	suite_add_tcase(suite, tcase);
	return suite;
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {host_suite};

	return run_suites(suites, 1, argc ? argv + 1 : argv);
}
