/* foal doctor: what this host offers, and the command that mends what is missing. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "vmm/kvm.h"
#include "vmm/pre_fault.h"
#include "vmm/run.h"
#include "vmm/sandbox.h"

/* Values of Linux 6.x that Debian 12's headers do not have yet. */
#define CAP_MEMORY_FAULT_INFO 232

static void line(const char *mark, const char *what, const char *value, const char *mend)
{
	printf("%-8s %-28s %s\n", mark, what, value);
	if (mend)
		printf("%-8s %-28s -> %s\n", "", "", mend);
}

static bool read_line(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(buf, (int)size, f);

	if (f)
		fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = 0;
	return ok;
}

static const struct {
	const char *what;
	int cap;
	const char *without; /* what is lost; NULL: foal needs it */
} caps[] = {
    {"split irqchip", KVM_CAP_SPLIT_IRQCHIP, NULL},
    {"read-only memory slots", KVM_CAP_READONLY_MEM, NULL},
    {"MSI injection", KVM_CAP_SIGNAL_MSI, NULL},
    {"immediate exit", KVM_CAP_IMMEDIATE_EXIT, NULL},
    {"HLT without exit", KVM_CAP_X86_DISABLE_EXITS, "some faults are KVM's worker's, as writes"},
    {"KVM statistics", KVM_CAP_BINARY_STATS_FD, "the report lacks KVM's own counts"},
    {"TSC-deadline timer", KVM_CAP_TSC_DEADLINE_TIMER, "a guest that uses it gets no interrupt"},
    {"memory fault information", CAP_MEMORY_FAULT_INFO, "nothing is lost: not used yet"},
    {"pre-fault of nested pages", KVM_CAP_PRE_FAULT_MEMORY,
     "a restored guest's first touches of what was brought in ahead are exits"},
};

static int doctor_kvm(void)
{
	struct foal_error err = {0};
	struct kvm kvm = {.dev_fd = -1, .vm_fd = -1};
	char value[64];

	if (kvm_open(&kvm, &err)) {
		line("MISSING", "/dev/kvm", err.text, NULL);
		kvm_close(&kvm);
		return FOAL_EXIT_HOST;
	}
	line("ok", "/dev/kvm", "usable", NULL);
	for (size_t i = 0; i < sizeof(caps) / sizeof(caps[0]); i++) {
		int has = ioctl(kvm.dev_fd, KVM_CHECK_EXTENSION, caps[i].cap);
		const char *without = caps[i].without;
		if (has > 0)
			line("ok", caps[i].what, "yes", NULL);
		else
			line(without ? "absent" : "MISSING", caps[i].what,
			     without ? without : "foal needs it: a newer kernel", NULL);
	}
	int vcpus = ioctl(kvm.dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	snprintf(value, sizeof(value), "%d", vcpus);
	line("ok", "vCPUs at most", value, NULL);
	kvm_close(&kvm);
	return 0;
}

/* The module's parameter says whether nested paging is on; without one KVM shadows. */
static void doctor_paging(void)
{
	char value[16];

	if (read_line("/sys/module/kvm_intel/parameters/ept", value, sizeof(value)))
		line(value[0] == 'Y' || value[0] == '1' ? "ok" : "absent", "nested paging",
		     value[0] == 'Y' || value[0] == '1' ? "EPT (Intel)" : "off: shadow paging",
		     NULL);
	else if (read_line("/sys/module/kvm_amd/parameters/npt", value, sizeof(value)))
		line(value[0] == 'Y' || value[0] == '1' ? "ok" : "absent", "nested paging",
		     value[0] == 'Y' || value[0] == '1' ? "NPT (AMD)" : "off: shadow paging", NULL);
	else
		line("absent", "nested paging",
		     "no kvm_intel or kvm_amd: software KVM, shadow paging", NULL);
}

/* Does the line "flags" of /proc/cpuinfo have @flag? */
static bool cpu_has(const char *flag)
{
	FILE *f = fopen("/proc/cpuinfo", "re");
	char line[8192], word[16];
	bool has = false;

	snprintf(word, sizeof(word), " %s ", flag);
	while (f && fgets(line, sizeof(line), f) && strncmp(line, "flags", 5) != 0)
		;
	if (f && !feof(f)) {
		line[strcspn(line, "\n")] = ' ';
		has = strstr(line, word) != NULL;
	}
	if (f)
		fclose(f);
	return has;
}

/* Without hardware virtualization KVM emulates ring 0, and knows too little of it for Linux. */
static void doctor_guests(void)
{
	if (cpu_has("vmx") || cpu_has("svm"))
		line("ok", "stock Linux guests", "they boot here", NULL);
	else
		line("absent", "stock Linux guests",
		     "ring 0 is emulated: only kernels made for that boot, such as foal's own",
		     "a processor with VMX or SVM, or nested virtualization switched on");
}

/* Every run gives up what it does not need (docs/sandbox.md). */
static int doctor_sandbox(void)
{
	int abi = sandbox_landlock_abi();
	bool seccomp = sandbox_seccomp_there();
	char value[64];

	line(seccomp ? "ok" : "MISSING", "seccomp filters", seccomp ? "yes" : "no",
	     seccomp ? NULL : "a kernel with CONFIG_SECCOMP_FILTER, or --sandbox off");
	snprintf(value, sizeof(value), "yes, ABI %d", abi);
	line(abi ? "ok" : "absent", "Landlock", abi ? value : "the sandbox does without",
	     abi ? NULL : "Linux 5.13 or newer, with landlock in its lsm= list");
	return seccomp ? 0 : 1;
}

static int doctor_userfaultfd(void)
{
	struct ept_host host;
	char names[512] = "";
	size_t n = 0;

	ept_host_probe(&host);
	if (host.userfaultfd_error) {
		line("MISSING", "userfaultfd", strerror(-host.userfaultfd_error),
		     "sysctl vm.unprivileged_userfaultfd=1, or give this user /dev/userfaultfd "
		     "(chmod, udev), or run as root; until then --fault-engine kernel is used and "
		     "no fault is seen");
		return 1;
	}
	for (unsigned bit = 0; bit < 64; bit++) {
		const char *name = ept_host_feature_name(bit);
		if ((host.features & (1ULL << bit)) && name && n < sizeof(names))
			n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s", n ? " " : "",
					      name);
	}
	line(host.usable ? "ok" : "MISSING", "userfaultfd",
	     host.usable ? "every feature that the handlers need" : "a feature is missing",
	     host.usable ? NULL : "Linux 5.19 or newer");
	line("ok", "userfaultfd features", names, NULL);
	line(host.uring_error ? "absent" : "ok", "io_uring",
	     host.uring_error ? "files are read ahead one read at a time" : "yes",
	     host.uring_error ? "sysctl kernel.io_uring_disabled=0, or a container that allows it"
			      : NULL);
	line("ok", "who may use userfaultfd",
	     host.needs_privilege ? "root, or whoever may open /dev/userfaultfd" : "everybody",
	     NULL);
	return host.usable ? 0 : 1;
}

static void doctor_memory(void)
{
	char value[128];
	struct sysinfo si;

	if (read_line("/sys/kernel/mm/transparent_hugepage/enabled", value, sizeof(value)))
		line("ok", "transparent huge pages", value, NULL);
	if (sysinfo(&si) == 0) {
		snprintf(value, sizeof(value), "%llu MiB, swap %llu MiB",
			 (unsigned long long)si.totalram * si.mem_unit >> 20,
			 (unsigned long long)si.totalswap * si.mem_unit >> 20);
		line("ok", "memory", value, NULL);
	}
	snprintf(value, sizeof(value), "%ld", sysconf(_SC_NPROCESSORS_ONLN));
	line("ok", "processors", value, NULL);
}

/* 0: everything foal can use is there; 1: it runs, with less; 101: it cannot run. */
int command_doctor(int argc, char **argv, uint64_t main_ns)
{
	(void)argv, (void)main_ns;
	if (argc > 1)
		return usage_error("doctor: takes no arguments");
	int status = doctor_kvm();
	doctor_paging();
	doctor_guests();
	int less = doctor_userfaultfd();
	less |= doctor_sandbox();
	doctor_memory();
	return status ? status : less;
}
