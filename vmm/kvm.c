#include "vmm/kvm.h"

#include <asm/kvm_para.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/cpu.h"
#include "vmm/pre_fault.h"

/*
 * Bits 8 to 14 of an interrupt's destination: in the address a guest writes, as
 * KVM_FEATURE_MSI_EXT_DEST_ID tells it, and in the one that KVM takes.
 */
#define MSI_EXT_DEST_BITS	0x7fULL
#define MSI_EXT_DEST_SHIFT	5
#define MSI_HIGH_DEST_SHIFT	40

/* SDM 2A, CPUID leaf 1, ECX */
#define LEAF_1_ECX_TSC_DEADLINE (1U << 24)
#define LEAF_1_ECX_HYPERVISOR	(1U << 31)

static int host_error(struct foal_error *err, const char *what)
{
	int error = -errno;

	return error_set(err, FOAL_EXIT_HOST, error, "KVM: %s: %s; see foal doctor", what,
			 strerror(-error));
}

static int open_device(struct kvm *kvm, struct foal_error *err)
{
	kvm->dev_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm->dev_fd >= 0)
		return 0;
	const char *mend =
	    errno == ENOENT ? "load kvm_intel or kvm_amd, or run on a host with "
			      "virtualization"
	    : errno == EACCES
		? "use an account that may: ls -l /dev/kvm says whose it is (on Debian, group kvm)"
		: "see foal doctor";
	return error_set(err, FOAL_EXIT_HOST, -errno, "/dev/kvm: %s; %s", strerror(errno), mend);
}

/* Is there a module whose parameter says that the processor walks two sets of tables? */
static bool says_yes(const char *path)
{
	FILE *f = fopen(path, "re");
	int c = f ? fgetc(f) : EOF;

	if (f)
		fclose(f);
	return c == 'Y' || c == '1';
}

bool kvm_shadows(void)
{
	return !says_yes("/sys/module/kvm_intel/parameters/ept") &&
	       !says_yes("/sys/module/kvm_amd/parameters/npt");
}

int kvm_open(struct kvm *kvm, struct foal_error *err)
{
	static const struct {
		int cap;
		const char *what;
	} needed[] = {
	    {KVM_CAP_USER_MEMORY, "user memory"},	{KVM_CAP_SPLIT_IRQCHIP, "split irqchip"},
	    {KVM_CAP_READONLY_MEM, "read-only slots"},	{KVM_CAP_SIGNAL_MSI, "MSI injection"},
	    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
	};
	int r = open_device(kvm, err);

	if (r)
		return r;
	if (ioctl(kvm->dev_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return error_set(err, FOAL_EXIT_HOST, -ENOTSUP, "/dev/kvm: API version is not %d",
				 KVM_API_VERSION);
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
		if (ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return error_set(
			    err, FOAL_EXIT_HOST, -ENOTSUP,
			    "/dev/kvm: no %s on this kernel; Linux 5.19 or newer has it",
			    needed[i].what);
	}
	int size = ioctl(kvm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return host_error(err, "size of a vCPU's mapping");
	kvm->run_size = (size_t)size;
	kvm->shadow = kvm_shadows();
	kvm->pre_faults = pre_fault_can(kvm->dev_fd);
	kvm->supported = cpu_table();
	if (!kvm->supported)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for CPUID");
	return 0;
}

static bool can(const struct kvm *kvm, int cap)
{
	return ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, cap) > 0;
}

static int enable_cap(struct kvm *kvm, unsigned cap, uint64_t arg)
{
	struct kvm_enable_cap request = {.cap = cap, .args = {arg}};

	return ioctl(kvm->vm_fd, KVM_ENABLE_CAP, &request);
}

/*
 * HLT stays in the guest by default. With it intercepted and interrupts on, KVM
 * hands a fault to its asynchronous worker, which asks for write access
 * whatever the guest did: a read of a file page would cost a private copy, and
 * the event names the worker instead of the vCPU.
 */
static int keep_halt_in_guest(struct kvm *kvm, struct foal_error *err)
{
	int can = ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_DISABLE_EXITS);

	if (can > 0 && (can & KVM_X86_DISABLE_EXITS_HLT) &&
	    enable_cap(kvm, KVM_CAP_X86_DISABLE_EXITS, KVM_X86_DISABLE_EXITS_HLT))
		return host_error(err, "leave HLT to the guest");
	return 0;
}

/* The leaf that tells a guest its clock rates, so that it need not measure them. */
static void add_timing_leaf(struct kvm *kvm)
{
	int khz = can(kvm, KVM_CAP_GET_TSC_KHZ) ? ioctl(kvm->vm_fd, KVM_GET_TSC_KHZ, 0) : -1;
	struct kvm_cpuid_entry2 *first = cpu_leaf(kvm->supported, KVM_CPUID_SIGNATURE, 0);
	struct kvm_cpuid_entry2 *timing =
	    khz > 0 ? cpu_leaf_make(kvm->supported, FOAL_CPUID_TIMING, 0) : NULL;

	if (!timing)
		return;
	if (first && first->eax < FOAL_CPUID_TIMING)
		first->eax = FOAL_CPUID_TIMING;
	timing->eax = (uint32_t)khz;
	timing->ebx = 1000000; /* KVM's local APIC timer counts nanoseconds: 1 GHz */
}

/* What KVM can do but leaves for the monitor to announce. */
static void announce(struct kvm *kvm)
{
	struct kvm_cpuid_entry2 *one = cpu_leaf(kvm->supported, 1, 0);
	struct kvm_cpuid_entry2 *own = cpu_leaf(kvm->supported, KVM_CPUID_FEATURES, 0);

	if (one)
		one->ecx |= LEAF_1_ECX_HYPERVISOR |
			    (can(kvm, KVM_CAP_TSC_DEADLINE_TIMER) ? LEAF_1_ECX_TSC_DEADLINE : 0);
	if (own && kvm->wide_destinations)
		own->eax |= 1U << KVM_FEATURE_MSI_EXT_DEST_ID;
}

int kvm_read_cpuid(struct kvm *kvm, struct foal_error *err)
{
	kvm->supported->nent = CPU_LEAVES;
	return ioctl(kvm->dev_fd, KVM_GET_SUPPORTED_CPUID, kvm->supported)
		   ? host_error(err, "supported CPUID")
		   : 0;
}

int kvm_finish_cpuid(struct kvm *kvm, const struct kvm_machine *machine, struct foal_error *err)
{
	announce(kvm);
	cpu_mask_apply(kvm->supported, machine->mask);
	add_timing_leaf(kvm);
	int r = cpu_topology(kvm->supported, machine->cpus);
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r,
				 "KVM: CPUID of %u leaves cannot be completed",
				 kvm->supported->nent);
	if (!kvm->cpuid) {
		kvm->cpuid = kvm->supported;
		kvm->supported = NULL;
	}
	return 0;
}

/*
 * APIC ids above 254 take 32 bits in the interrupt messages that KVM is given,
 * and there broadcasts are those of x2APIC.
 */
static void widen_destinations(struct kvm *kvm)
{
	kvm->wide_destinations =
	    can(kvm, KVM_CAP_X2APIC_API) &&
	    enable_cap(kvm, KVM_CAP_X2APIC_API,
		       KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK) == 0;
}

static int check_cpus(const struct kvm *kvm, unsigned cpus, struct foal_error *err)
{
	int max = ioctl(kvm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	if (max > 0 && cpus > (unsigned)max)
		return error_set(err, FOAL_EXIT_HOST, -E2BIG,
				 "--cpus %u: KVM on this host runs at most %d in a VM", cpus, max);
	return 0;
}

int kvm_create_vm(struct kvm *kvm, struct foal_error *err)
{
	do {
		kvm->vm_fd = ioctl(kvm->dev_fd, KVM_CREATE_VM, 0);
	} while (kvm->vm_fd < 0 && errno == EINTR);
	if (kvm->vm_fd < 0)
		return error_set(
		    err, FOAL_EXIT_HOST, -errno, "KVM: create a VM: %s; %s", strerror(errno),
		    errno == EBUSY ? "another hypervisor has the processor: end its VMs"
				   : "see foal doctor");
	if (enable_cap(kvm, KVM_CAP_SPLIT_IRQCHIP, FOAL_IOAPIC_PINS))
		return host_error(err, "split irqchip");
	widen_destinations(kvm);
	return 0;
}

int kvm_configure_vm(struct kvm *kvm, const struct kvm_machine *machine, struct foal_error *err)
{
	int r = check_cpus(kvm, machine->cpus, err);

	return r || machine->halt_exits ? r : keep_halt_in_guest(kvm, err);
}

void kvm_clear_log_by_hand(struct kvm *kvm)
{
	kvm->clears_log = enable_cap(kvm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
				     KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) == 0;
}

int kvm_add_slot(struct kvm *kvm, const struct ept_slot *slot, struct foal_error *err)
{
	struct kvm_userspace_memory_region region = {
	    .slot = kvm->slots,
	    .flags = slot->read_only ? KVM_MEM_READONLY : 0,
	    .guest_phys_addr = slot->gpa.v,
	    .memory_size = slot->size,
	    .userspace_addr = (uintptr_t)slot->hva,
	};

	if (ioctl(kvm->vm_fd, KVM_SET_USER_MEMORY_REGION, &region))
		return error_set(err, FOAL_EXIT_MEMORY, -errno,
				 "memory slot of %llu MiB at gpa 0x%llx: %s",
				 (unsigned long long)slot->size >> 20,
				 (unsigned long long)slot->gpa.v, strerror(errno));
	kvm->slots++;
	return 0;
}

int kvm_add_slots(struct kvm *kvm, const struct ept_space *space, struct foal_error *err)
{
	size_t count = ept_space_slots(space, NULL, 0);
	struct ept_slot *slots = calloc(count, sizeof(*slots));
	int r = 0;

	if (!slots)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for memory slots");
	ept_space_slots(space, slots, count);
	for (size_t i = 0; i < count && r == 0; i++)
		r = kvm_add_slot(kvm, &slots[i], err);
	free(slots);
	return r;
}

int kvm_create_vcpu(struct kvm *kvm, unsigned index, int *fd, struct kvm_run **run,
		    struct foal_error *err)
{
	*fd = ioctl(kvm->vm_fd, KVM_CREATE_VCPU, index);
	if (*fd < 0)
		return host_error(err, "create a vCPU");
	*run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
	if (*run == MAP_FAILED) {
		*run = NULL;
		return host_error(err, "map a vCPU");
	}
	return 0;
}

int kvm_set_cpuid(struct kvm *kvm, unsigned index, int fd, struct foal_error *err)
{
	cpu_identify(kvm->cpuid, index);
	return ioctl(fd, KVM_SET_CPUID2, kvm->cpuid) ? host_error(err, "set CPUID") : 0;
}

uint64_t kvm_msi_address(const struct kvm *kvm, uint64_t addr)
{
	uint64_t high = addr >> MSI_EXT_DEST_SHIFT & MSI_EXT_DEST_BITS;

	if (!kvm->wide_destinations)
		return addr;
	return (addr & ~(MSI_EXT_DEST_BITS << MSI_EXT_DEST_SHIFT)) | high << MSI_HIGH_DEST_SHIFT;
}

int kvm_send_msi(struct kvm *kvm, uint64_t addr, uint32_t data)
{
	addr = kvm_msi_address(kvm, addr);
	struct kvm_msi msi = {
	    .address_lo = (uint32_t)addr, .address_hi = (uint32_t)(addr >> 32), .data = data};
	int r = ioctl(kvm->vm_fd, KVM_SIGNAL_MSI, &msi);

	return r < 0 ? -errno : r;
}

int kvm_try(struct foal_error *err)
{
	struct kvm kvm = {.dev_fd = -1, .vm_fd = -1};
	int r = kvm_open(&kvm, err);

	if (r == 0)
		r = kvm_create_vm(&kvm, err);
	kvm_close(&kvm);
	return r;
}

void kvm_close(struct kvm *kvm)
{
	free(kvm->cpuid);
	free(kvm->supported);
	kvm->cpuid = kvm->supported = NULL;
	if (kvm->vm_fd >= 0)
		close(kvm->vm_fd);
	if (kvm->dev_fd >= 0)
		close(kvm->dev_fd);
	kvm->vm_fd = kvm->dev_fd = -1;
}
