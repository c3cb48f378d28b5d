/*
 * KVM's own counts, read through KVM_GET_STATS_FD (api.rst 4.133): what
 * hardware and the host kernel did, beside what our handlers say.
 */
#ifndef FOAL_VMM_KVMSTATS_H
#define FOAL_VMM_KVMSTATS_H

#include <stdint.h>

#define KVM_STATS_MAX 128

struct kvm_stat {
	char name[48];
	uint64_t value; /* summed over the descriptors read */
};

struct kvm_stats {
	unsigned count;
	struct kvm_stat stat[KVM_STATS_MAX];
};

/*
 * The statistics descriptor of a VM or vCPU descriptor, the caller's to close;
 * -ENOTTY on a kernel before 5.14. For a vCPU this waits until it has left
 * KVM_RUN, so open it before the first one; reading waits for nobody.
 */
int kvm_stats_open(int kvm_fd);

/* Add the scalar statistics behind @fd to @stats. Returns 0 or a negative errno. */
int kvm_stats_add(struct kvm_stats *stats, int fd);

/* A few of them, for who looks often: found by name once, read at once. */
#define KVM_PICK_MAX 8
struct kvm_pick {
	uint32_t first, end;	   /* bytes behind the descriptor that hold all of them */
	uint32_t at[KVM_PICK_MAX]; /* from @first on; UINT32_MAX: KVM has no such count */
};

/* Find @count @names. 0, -EINVAL (too many, too far apart), -ENOMEM, or as above. */
int kvm_stats_pick(struct kvm_pick *pick, int fd, const char *const names[], unsigned count);
/* Their values now, 0 where there is none. 0 or a negative errno. */
int kvm_stats_read(const struct kvm_pick *pick, int fd, uint64_t values[], unsigned count);

/* The value of @name, 0 if KVM has no such count. */
uint64_t kvm_stats_get(const struct kvm_stats *stats, const char *name);

#endif
