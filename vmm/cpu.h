/*
 * The processor a guest sees: CPUID as KVM supports it on this host, less what
 * --cpu takes away, with the topology of this VM (one socket, a core a vCPU,
 * one thread a core). Sources: SDM 2A CPUID, SDM 3A 9.9; AMD APM 3 appendix E;
 * linux/Documentation/virt/kvm/x86/cpuid.rst. Private to vmm/.
 */
#ifndef FOAL_VMM_CPU_H
#define FOAL_VMM_CPU_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmm/error.h"

#define CPU_WORDS    14 /* rows of cpu_words[] */
#define CPU_WORD_KVM 0	/* the one of KVM's own features */

enum cpu_register { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* A CPUID register whose bits are features. */
struct cpu_word {
	uint32_t leaf, index;
	enum cpu_register reg;
	const char *names;    /* of bits 0, 1, ..., as /proc/cpuinfo has them; "-": no name */
	const char *baseline; /* those of them that --cpu baseline keeps; NULL: all */
};

extern const struct cpu_word cpu_words[CPU_WORDS];

/* What --cpu says: bits that a guest is not to see. */
struct cpu_mask {
	uint32_t off[CPU_WORDS];
};

/* What --cpu host means: all but asynchronous page faults. */
void cpu_mask_default(struct cpu_mask *out);

/*
 * "host" or "baseline", then ",-feature" and ",+feature" in any number; a
 * feature that another one needs takes that along when it goes. @name is the
 * option's, for messages. Errors: -EINVAL.
 */
int cpu_mask_parse(const char *name, const char *value, struct cpu_mask *out,
		   struct foal_error *err);

/* Print every feature name there is, by register. */
void cpu_features_print(void);

/* The register that row @word of cpu_words[] names; 0 where there is no such leaf. */
uint32_t cpu_word_of(struct kvm_cpuid2 *cpuid, unsigned word);

/* The name of bit @bit of that row, or where it is if it has none. */
void cpu_feature_name(unsigned word, unsigned bit, char *name, size_t size);

/* Take the bits of @mask out of @cpuid. */
void cpu_mask_apply(struct kvm_cpuid2 *cpuid, const struct cpu_mask *mask);

/* More leaves than any processor reports today, and those that are added here. */
#define CPU_LEAVES 256

/* An empty table with room for them, for free(); NULL: no memory. */
struct kvm_cpuid2 *cpu_table(void);

/* Make what is the same for all of @cpus vCPUs; @cpuid has room for CPU_LEAVES. -E2BIG: it has not.
 */
int cpu_topology(struct kvm_cpuid2 *cpuid, unsigned cpus);

/* Make @cpuid that of vCPU @index, whose APIC id is its index. */
void cpu_identify(struct kvm_cpuid2 *cpuid, unsigned index);

/* The entry of a leaf and its subleaf (0 where it has none), or NULL. */
struct kvm_cpuid_entry2 *cpu_leaf(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index);

/* The leaf's entry, made if there was none; NULL: no room. */
struct kvm_cpuid_entry2 *cpu_leaf_make(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index);

#endif
