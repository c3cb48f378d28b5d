/* A run with fewer rights or devices than the test has: for run_how.prepare. */
#ifndef TEST_KVM_SANDBOX_H
#define TEST_KVM_SANDBOX_H

#include <stdbool.h>

struct sandbox {
	const char *devices; /* an empty directory, to mount an empty /dev from */
	int kvm_mode;	     /* rights of /dev/kvm; 0: there is none */
	int userfaultfd_mode;
	bool nobody; /* as user and group 65534, no capabilities */
};

/* In the child, before exec: a mount namespace of its own. @arg: a struct sandbox. */
void sandbox_enter(void *arg);

/* A tmpfs of @size ("64k") at @path, seen by this test's process and its children alone. */
void mount_private_tmpfs(const char *path, const char *size);

/* Of who calls it, and is to become foal: KVM creates no VM, as where another hypervisor runs. */
void kvm_is_busy(void *ignored);

#endif
