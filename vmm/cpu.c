#include "vmm/cpu.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Bits that the topology decides. */
#define LEAF_1_EDX_HT	   (1U << 28)
#define LEAF_80000001_CMP  (1U << 1)

/* Levels of leaves 0xb and 0x1f (SDM 2A, CPUID). */
#define LEVEL_THREAD	   (1U << 8)
#define LEVEL_CORE	   (2U << 8)

/* The last type of leaf 4 and 0x8000001d; how far a cache is shared. */
#define CACHE_TYPE	   0x1fU
#define CACHE_LEVEL(eax)   ((eax) >> 5 & 7)
#define CACHE_SHARED_SHIFT 14
#define CACHE_SHARED	   (0xfffU << CACHE_SHARED_SHIFT)
#define CACHE_CORES_SHIFT  26
#define CACHE_CORES	   (0x3fU << CACHE_CORES_SHIFT)
#define SHARED_CACHE_LEVEL 3

struct kvm_cpuid2 *cpu_table(void)
{
	return calloc(1, sizeof(struct kvm_cpuid2) + CPU_LEAVES * sizeof(struct kvm_cpuid_entry2));
}

struct kvm_cpuid_entry2 *cpu_leaf(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		if (e->function == leaf && e->index == index)
			return e;
	}
	return NULL;
}

struct kvm_cpuid_entry2 *cpu_leaf_make(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t index)
{
	struct kvm_cpuid_entry2 *e = cpu_leaf(cpuid, leaf, index);

	if (e || cpuid->nent == CPU_LEAVES)
		return e;
	e = &cpuid->entries[cpuid->nent++];
	*e = (struct kvm_cpuid_entry2){.function = leaf, .index = index};
	return e;
}

static uint32_t *word_of(struct kvm_cpuid_entry2 *e, enum cpu_register reg)
{
	switch (reg) {
	case CPU_EAX:
		return &e->eax;
	case CPU_EBX:
		return &e->ebx;
	case CPU_ECX:
		return &e->ecx;
	case CPU_EDX:
		break;
	}
	return &e->edx;
}

uint32_t cpu_word_of(struct kvm_cpuid2 *cpuid, unsigned word)
{
	struct kvm_cpuid_entry2 *e = cpu_leaf(cpuid, cpu_words[word].leaf, cpu_words[word].index);

	return e ? *word_of(e, cpu_words[word].reg) : 0;
}

/* State components of XCR0 (SDM 1, 13.1) that go with a feature. */
static void mask_state(struct kvm_cpuid2 *cpuid)
{
	static const struct {
		uint32_t leaf;
		enum cpu_register reg;
		unsigned bit;
		uint32_t components;
	} owners[] = {
	    {1, CPU_ECX, 28, 1U << 2},	/* AVX */
	    {7, CPU_EBX, 16, 7U << 5},	/* AVX-512 */
	    {7, CPU_ECX, 3, 1U << 9},	/* protection keys */
	    {7, CPU_EDX, 24, 3U << 17}, /* AMX */
	};
	struct kvm_cpuid_entry2 *state = cpu_leaf(cpuid, 0xd, 0);

	for (size_t i = 0; state && i < sizeof(owners) / sizeof(owners[0]); i++) {
		struct kvm_cpuid_entry2 *e = cpu_leaf(cpuid, owners[i].leaf, 0);
		if (!e || !(*word_of(e, owners[i].reg) & 1U << owners[i].bit))
			state->eax &= ~owners[i].components;
	}
}

void cpu_mask_apply(struct kvm_cpuid2 *cpuid, const struct cpu_mask *mask)
{
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		struct kvm_cpuid_entry2 *e = cpu_leaf(cpuid, cpu_words[w].leaf, cpu_words[w].index);
		if (e)
			*word_of(e, cpu_words[w].reg) &= ~mask->off[w];
	}
	mask_state(cpuid);
}

/* Bits of an APIC id that number the cores. */
static unsigned core_bits(unsigned cpus)
{
	unsigned bits = 0;

	while (1U << bits < cpus)
		bits++;
	return bits;
}

static unsigned at_most(unsigned value, unsigned limit)
{
	return value < limit ? value : limit;
}

static bool is_amd(struct kvm_cpuid2 *cpuid)
{
	struct kvm_cpuid_entry2 *e = cpu_leaf(cpuid, 0, 0);

	/* "Auth"enticAMD, "Hygo"nGenuine */
	return e && (e->ebx == 0x68747541 || e->ebx == 0x6f677948);
}

/* One level each for threads and cores, and the one that ends the list. */
static int extended_topology(struct kvm_cpuid2 *cpuid, uint32_t leaf, unsigned cpus)
{
	const struct kvm_cpuid_entry2 levels[] = {
	    {.eax = 0, .ebx = 1, .ecx = 0 | LEVEL_THREAD},
	    {.eax = core_bits(cpus), .ebx = cpus, .ecx = 1 | LEVEL_CORE},
	    {.ecx = 2},
	};

	for (uint32_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		struct kvm_cpuid_entry2 *e = cpu_leaf_make(cpuid, leaf, i);
		if (!e)
			return -E2BIG;
		*e = levels[i];
		e->function = leaf;
		e->index = i;
		e->flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	}
	return 0;
}

/* Each core has its own caches of levels 1 and 2, all share the third. */
static void cache_topology(struct kvm_cpuid2 *cpuid, unsigned cpus)
{
	unsigned shared = at_most((1U << core_bits(cpus)) - 1, 0xfff);
	unsigned cores = at_most((1U << core_bits(cpus)) - 1, 0x3f);

	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		bool intel = e->function == 4, amd = e->function == 0x8000001d;
		if ((!intel && !amd) || !(e->eax & CACHE_TYPE))
			continue;
		e->eax &= ~(CACHE_SHARED | (intel ? CACHE_CORES : 0));
		if (CACHE_LEVEL(e->eax) >= SHARED_CACHE_LEVEL)
			e->eax |= shared << CACHE_SHARED_SHIFT;
		if (intel)
			e->eax |= cores << CACHE_CORES_SHIFT;
	}
}

/* What AMD's processors say besides, and Intel's leave zero. */
static void amd_topology(struct kvm_cpuid2 *cpuid, unsigned cpus)
{
	struct kvm_cpuid_entry2 *size = cpu_leaf(cpuid, 0x80000008, 0);
	struct kvm_cpuid_entry2 *features = cpu_leaf(cpuid, 0x80000001, 0);
	struct kvm_cpuid_entry2 *newest = cpu_leaf(cpuid, 0x80000026, 0);
	bool amd = is_amd(cpuid);

	if (size)
		size->ecx = amd ? at_most(cpus - 1, 0xff) | core_bits(cpus) << 12 : 0;
	if (features && amd) {
		features->ecx &= ~LEAF_80000001_CMP;
		features->ecx |= cpus > 1 ? LEAF_80000001_CMP : 0;
	}
	if (newest) /* no level: the other leaves are to be used */
		newest->eax = newest->ebx = newest->ecx = newest->edx = 0;
}

int cpu_topology(struct kvm_cpuid2 *cpuid, unsigned cpus)
{
	struct kvm_cpuid_entry2 *max = cpu_leaf(cpuid, 0, 0), *one = cpu_leaf(cpuid, 1, 0);
	int r;

	if (!max || !one)
		return -EINVAL;
	if (max->eax < 0xb)
		max->eax = 0xb;
	one->ebx &= 0xff00ffff;
	one->ebx |= at_most(1U << core_bits(cpus), 0xff) << 16;
	one->edx = cpus > 1 ? one->edx | LEAF_1_EDX_HT : one->edx & ~LEAF_1_EDX_HT;
	r = extended_topology(cpuid, 0xb, cpus);
	if (r == 0 && max->eax >= 0x1f)
		r = extended_topology(cpuid, 0x1f, cpus);
	cache_topology(cpuid, cpus);
	amd_topology(cpuid, cpus);
	return r;
}

void cpu_identify(struct kvm_cpuid2 *cpuid, unsigned index)
{
	for (unsigned i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];
		switch (e->function) {
		case 1:
			e->ebx = (e->ebx & 0x00ffffff) | index << 24;
			break;
		case 0xb:
		case 0x1f:
			e->edx = index;
			break;
		case 0x8000001e:
			e->eax = index;
			e->ebx = index & 0xff; /* core; one thread each */
			e->ecx = 0;	       /* one node */
			break;
		}
	}
}
