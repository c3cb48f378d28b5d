/*
 * What a host's KVM does with guest memory, seen from outside: a VM with one
 * vCPU in real mode writes one byte in each of PAGES untouched pages, and KVM's
 * own counters say how many faults that took.
 *
 * On nested paging every page costs one fault or more, so pf_taken >= PAGES
 * there; with shadow paging the figures are printed and nothing is asserted.
 *
 * Exit status: 0 sound, 1 not, 77 no /dev/kvm.
 *
 * Source: Linux Documentation/virt/kvm/api.rst, 4.80 and 4.133 (statistics).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_SIZE  4096UL
#define PAGES	   64UL
#define FIRST_PAGE 0x10UL /* the code lies at 0 */
#define MEM_SIZE   (1UL << 20)
#define EXIT_SKIP  77

/* Newer than the headers of Debian 12; Linux 6.8 and 6.11. */
#ifndef KVM_CAP_MEMORY_FAULT_INFO
#	define KVM_CAP_MEMORY_FAULT_INFO 232
#endif
#ifndef KVM_CAP_PRE_FAULT_MEMORY
#	define KVM_CAP_PRE_FAULT_MEMORY 236
#endif

struct vm {
	int kvm;
	int fd;
	int vcpu;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *mem;
};

/* Writes a byte at the start of cx pages, from segment ax on; then halts. */
static const uint8_t guest_code[] = {
    0x8e, 0xd8,			  /* 1: mov ds, ax         */
    0xc6, 0x06, 0x00, 0x00, 0x5a, /*    mov byte [0], 0x5a */
    0x05, 0x00, 0x01,		  /*    add ax, 0x100      */
    0xe2, 0xf4,			  /*    loop 1b            */
    0xf4,			  /*    hlt                */
};

static void print_parameter(const char *path)
{
	char value[16] = "";
	FILE *file = fopen(path, "re");

	if (!file)
		return;
	if (fgets(value, sizeof(value), file))
		printf("%s: %s", path, value);
	fclose(file);
}

static int vm_open(struct vm *vm)
{
	struct kvm_userspace_memory_region slot = {.memory_size = MEM_SIZE};
	int size;

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		return -errno;
	vm->fd = ioctl(vm->kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		return -errno;

	vm->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (vm->mem == MAP_FAILED)
		return -errno;
	/* One huge page would hide the faults that are to be counted. */
	if (madvise(vm->mem, MEM_SIZE, MADV_NOHUGEPAGE) && errno != EINVAL)
		return -errno;
	memcpy(vm->mem, guest_code, sizeof(guest_code));
	slot.userspace_addr = (uintptr_t)vm->mem;
	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &slot))
		return -errno;

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0)
		return -errno;
	size = ioctl(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0)
		return -errno;
	vm->run_size = size;
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	return vm->run == MAP_FAILED ? -errno : 0;
}

/* Runs the guest to its halt. Returns 0, a negative errno, or -EPROTO after
 * another exit than the halt. */
static int vm_run(struct vm *vm)
{
	struct kvm_regs regs = {
	    .rax = FIRST_PAGE * PAGE_SIZE / 16,
	    .rcx = PAGES,
	    .rflags = 2,
	};
	struct kvm_sregs sregs;

	if (ioctl(vm->vcpu, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	if (ioctl(vm->vcpu, KVM_SET_SREGS, &sregs) || ioctl(vm->vcpu, KVM_SET_REGS, &regs))
		return -errno;
	while (ioctl(vm->vcpu, KVM_RUN, 0)) {
		if (errno != EINTR)
			return -errno;
	}
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): errno is not 0 after a failure */
	if (vm->run->exit_reason != KVM_EXIT_HLT) {
		printf("exit reason %u instead of hlt\n", vm->run->exit_reason);
		return -EPROTO;
	}
	return 0;
}

/* One of the vCPU's statistics by name; -1 if this KVM has none of that name. */
static int64_t vcpu_stat(const struct vm *vm, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *desc = NULL;
	int64_t value = -1;
	size_t size;
	int fd = ioctl(vm->vcpu, KVM_GET_STATS_FD, NULL);

	if (fd < 0)
		return -1;
	if (pread(fd, &header, sizeof(header), 0) != sizeof(header))
		goto out;
	size = sizeof(*desc) + header.name_size;
	desc = calloc(1, size + 1);
	if (!desc)
		goto out;
	for (uint32_t i = 0; i < header.num_desc; i++) {
		if (pread(fd, desc, size, (off_t)(header.desc_offset + i * size)) != (ssize_t)size)
			goto out;
		if (strcmp(desc->name, name) != 0)
			continue;
		if (pread(fd, &value, sizeof(value), header.data_offset + desc->offset) !=
		    sizeof(value))
			value = -1;
		break;
	}
out:
	free(desc);
	close(fd);
	return value;
}

/* How many of the pages that the guest was to write hold what it wrote. */
static size_t pages_written(const struct vm *vm)
{
	size_t n = 0;

	for (size_t i = 0; i < PAGES; i++)
		n += vm->mem[(FIRST_PAGE + i) * PAGE_SIZE] == 0x5a;
	return n;
}

static bool nested_paging(void)
{
	static const char *const files[] = {"/sys/module/kvm_amd/parameters/npt",
					    "/sys/module/kvm_intel/parameters/ept"};
	bool on = false;

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		FILE *file = fopen(files[i], "re");
		int c;

		if (!file)
			continue;
		c = fgetc(file);
		on |= c == 'Y' || c == '1';
		fclose(file);
	}
	return on;
}

static void print_features(const struct vm *vm)
{
	printf("memory_fault_info %d, pre_fault_memory %d, userfaultfd %s\n",
	       ioctl(vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_MEMORY_FAULT_INFO),
	       ioctl(vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_PRE_FAULT_MEMORY),
	       access("/dev/userfaultfd", R_OK | W_OK) ? "absent" : "present");
}

int main(void)
{
	struct vm vm = {.kvm = -1, .fd = -1, .vcpu = -1};
	int64_t taken, fixed;
	size_t written;
	int err;

	if (access("/dev/kvm", R_OK | W_OK)) {
		printf("SKIP: no /dev/kvm\n");
		return EXIT_SKIP;
	}
	print_parameter("/sys/module/kvm_amd/parameters/npt");
	print_parameter("/sys/module/kvm_intel/parameters/ept");
	err = vm_open(&vm);
	if (!err)
		err = vm_run(&vm);
	if (err) {
		printf("FAIL: %s\n", strerror(-err));
		return EXIT_FAILURE;
	}

	print_features(&vm);
	written = pages_written(&vm);
	taken = vcpu_stat(&vm, "pf_taken");
	fixed = vcpu_stat(&vm, "pf_fixed");
	printf("pages %zu of %lu, pf_taken %lld, pf_fixed %lld, exits %lld\n", written, PAGES,
	       (long long)taken, (long long)fixed, (long long)vcpu_stat(&vm, "exits"));
	if (written != PAGES || (nested_paging() && taken < (int64_t)PAGES)) {
		printf("FAIL\n");
		return EXIT_FAILURE;
	}
	printf("PASS\n");
	return EXIT_SUCCESS;
}
