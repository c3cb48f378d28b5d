/* Names of the features in CPUID, and what --cpu makes of them. */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/cpu.h"
#include "vmm/option_values.h"

#define SIGNATURE_NAMES \
	"fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov pat pse36 pn clflush - " \
	"dts acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"

/*
 * "=" repeats a bit of leaf 1. The baseline is x86-64-v2 with what hosts of the last ten years have
 * besides, and everything that keeps a guest safe: leaving that out would make it look for
 * work-arounds, or go without.
 */
const struct cpu_word cpu_words[CPU_WORDS] = {
    [CPU_WORD_KVM] =
	{0x40000001, 0, CPU_EAX,
	 "kvmclock_old kvm_nopiodelay - kvmclock kvm_asyncpf kvm_steal_time kvm_pv_eoi "
	 "kvm_pv_unhalt - "
	 "kvm_pv_tlb_flush kvm_asyncpf_vmexit kvm_pv_ipi kvm_poll_control kvm_pv_sched_yield "
	 "kvm_asyncpf_int kvm_msi_ext_dest_id - - - - - - - - kvmclock_stable",
	 NULL},
    {1, 0, CPU_EDX, SIGNATURE_NAMES, NULL},
    {1, 0, CPU_ECX,
     "pni pclmulqdq dtes64 monitor ds_cpl vmx smx est tm2 ssse3 cid sdbg fma cx16 xtpr pdcm - pcid "
     "dca sse4_1 sse4_2 x2apic movbe popcnt tsc_deadline_timer aes xsave osxsave avx f16c rdrand "
     "hypervisor",
     "pni ssse3 cx16 pcid sse4_1 sse4_2 x2apic popcnt tsc_deadline_timer aes pclmulqdq hypervisor"},
    {7, 0, CPU_EBX,
     "fsgsbase tsc_adjust sgx bmi1 hle avx2 fdp_excptn_only smep bmi2 erms invpcid rtm cqm "
     "zero_fcs_fds mpx rdt_a avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb "
     "intel_pt avx512pf avx512er avx512cd sha_ni avx512bw avx512vl",
     "fsgsbase tsc_adjust fdp_excptn_only smep erms invpcid zero_fcs_fds smap"},
    {7, 0, CPU_ECX,
     "prefetchwt1 avx512vbmi umip pku ospke waitpkg avx512_vbmi2 shstk gfni vaes vpclmulqdq "
     "avx512_vnni avx512_bitalg tme avx512_vpopcntdq - la57 - - - - - rdpid - bus_lock_detect "
     "cldemote - movdiri movdir64b enqcmd sgx_lc pks",
     "umip"},
    {7, 0, CPU_EDX,
     "- - avx512_4vnniw avx512_4fmaps fsrm - - - avx512_vp2intersect srbds_ctrl md_clear "
     "rtm_always_abort - tsx_force_abort serialize hybrid_cpu tsxldtrk - pconfig arch_lbr ibt - "
     "amx_bf16 avx512_fp16 amx_tile amx_int8 spec_ctrl intel_stibp flush_l1d arch_capabilities "
     "core_capabilities ssbd",
     "fsrm srbds_ctrl md_clear spec_ctrl intel_stibp flush_l1d arch_capabilities ssbd"},
    {7, 1, CPU_EAX,
     "sha512 sm3 sm4 rao_int avx_vnni avx512_bf16 lass cmpccxadd arch_perfmon_ext - fzrm fsrs fsrc "
     "- - - - fred lkgs wrmsrns nmi_src amx_fp16 hreset avx_ifma - - lam msrlist - - - -",
     "lass"},
    {7, 2, CPU_EDX, "psfd ipred_ctrl rrsba_ctrl ddpd_u bhi_ctrl mcdt_no", NULL},
    {0xd, 1, CPU_EAX, "xsaveopt xsavec xgetbv1 xsaves xfd", ""},
    {0x80000001, 0, CPU_EDX,
     "= = = = = = = = = = - syscall = = = = = = - mp nx - mmxext = = fxsr_opt pdpe1gb rdtscp - lm "
     "3dnowext 3dnow",
     "syscall nx fxsr_opt rdtscp lm"},
    {0x80000001, 0, CPU_ECX,
     "lahf_lm cmp_legacy svm extapic cr8_legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop "
     "skinit wdt - lwp fma4 tce - nodeid_msr - tbm topoext perfctr_core perfctr_nb - bpext ptsc "
     "perfctr_llc mwaitx",
     "lahf_lm cmp_legacy cr8_legacy topoext"},
    {0x80000007, 0, CPU_EDX, "- - - - - - - - constant_tsc_and_nonstop", ""},
    {0x80000008, 0, CPU_EBX,
     "clzero irperf xsaveerptr invlpgb rdpru - - - - wbnoinvd - - amd_ibpb - amd_ibrs amd_stibp "
     "ibrs_always_on stibp_always_on ibrs_preferred - - - - ppin amd_ssbd virt_ssbd ssb_no cppc "
     "amd_psfd btc_no ibpb_ret",
     "xsaveerptr amd_ibpb amd_ibrs amd_stibp ibrs_always_on stibp_always_on amd_ssbd virt_ssbd "
     "ssb_no amd_psfd btc_no ibpb_ret"},
    {0x80000021, 0, CPU_EAX,
     "no_nested_data_bp - lfence_rdtsc - - verw_clear null_sel_clr_base - autoibrs no_smm_ctl_msr "
     "- - - - - - - - - - prefetchi - - - - - - sbpb ibpb_brtype srso_no",
     "no_nested_data_bp lfence_rdtsc verw_clear null_sel_clr_base autoibrs sbpb ibpb_brtype "
     "srso_no"},
};

/* Without the first, the others would fault or mean nothing. */
static const struct {
	const char *needed, *by;
} needs[] = {
    {"xsave", "avx xsaveopt xsavec xgetbv1 xsaves xfd pku amx_tile"},
    {"avx", "avx2 fma f16c xop fma4 avx512f vaes vpclmulqdq avx_vnni avx_ifma sha512 sm3 sm4"},
    {"avx512f", "avx512dq avx512ifma avx512pf avx512er avx512cd avx512bw avx512vl avx512vbmi "
		"avx512_vbmi2 avx512_vnni avx512_bitalg avx512_vpopcntdq avx512_4vnniw "
		"avx512_4fmaps avx512_vp2intersect avx512_fp16 avx512_bf16"},
    {"amx_tile", "amx_bf16 amx_int8 amx_fp16"},
    {"kvm_asyncpf", "kvm_asyncpf_vmexit kvm_asyncpf_int"},
};

/* One word for several. */
static const struct {
	const char *name, *means;
} aliases[] = {
    {"tsx", "hle rtm"},
    {"avx512", "avx512f"},
    {"amx", "amx_tile"},
    {"sse3", "pni"},
    {"invtsc", "constant_tsc_and_nonstop"},
};

/* The next word of @list and its length; NULL at the end. */
static const char *next_word(const char *list, size_t *length)
{
	list += strspn(list, " ");
	*length = strcspn(list, " ");
	return *length ? list : NULL;
}

static bool is_word(const char *at, size_t length, const char *name, size_t name_length)
{
	return length == name_length && memcmp(at, name, length) == 0;
}

/* The bits of @names whose name is @name. */
static uint32_t bits_of(const char *names, const char *name, size_t name_length)
{
	size_t length;
	uint32_t bits = 0;
	unsigned bit = 0;

	for (const char *at = names; (at = next_word(at, &length)); at += length, bit++) {
		if (is_word(at, length, name, name_length))
			bits |= 1U << bit;
	}
	return bits;
}

static bool has_name(const char *word)
{
	return word[0] != '-' && word[0] != '=';
}

static bool set_list(struct cpu_mask *mask, const char *list, bool off);

static bool set_one(struct cpu_mask *mask, const char *name, size_t length, bool off)
{
	bool found = false;

	if (!has_name(name))
		return false;
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++) {
		if (is_word(aliases[i].name, strlen(aliases[i].name), name, length))
			return set_list(mask, aliases[i].means, off);
	}
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		uint32_t bit = bits_of(cpu_words[w].names, name, length);
		mask->off[w] = off ? mask->off[w] | bit : mask->off[w] & ~bit;
		found = found || bit;
	}
	for (size_t i = 0; found && i < sizeof(needs) / sizeof(needs[0]); i++) {
		bool is_needed = is_word(needs[i].needed, strlen(needs[i].needed), name, length);
		if (off && is_needed)
			set_list(mask, needs[i].by, true);
		if (!off && bits_of(needs[i].by, name, length))
			set_list(mask, needs[i].needed, false);
	}
	return found;
}

static bool set_list(struct cpu_mask *mask, const char *list, bool off)
{
	size_t length;
	bool all = true;

	for (; (list = next_word(list, &length)); list += length)
		all = set_one(mask, list, length, off) && all;
	return all;
}

/* What is not of the baseline goes, also what has no name yet. */
static void set_baseline(struct cpu_mask *mask)
{
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		const char *keep = cpu_words[w].baseline;
		size_t length;

		mask->off[w] |= keep ? ~bits_of(cpu_words[w].names, "=", 1) : 0;
		for (; keep && (keep = next_word(keep, &length)); keep += length)
			mask->off[w] &= ~bits_of(cpu_words[w].names, keep, length);
	}
}

/*
 * A guest that is told of asynchronous page faults would have KVM's worker fetch
 * its pages, which asks for write access whatever the guest does.
 */
void cpu_mask_default(struct cpu_mask *out)
{
	*out = (struct cpu_mask){0};
	out->off[CPU_WORD_KVM] = 1U << KVM_FEATURE_ASYNC_PF | 1U << KVM_FEATURE_ASYNC_PF_VMEXIT |
				 1U << KVM_FEATURE_ASYNC_PF_INT;
}

int cpu_mask_parse(const char *name, const char *value, struct cpu_mask *out,
		   struct foal_error *err)
{
	size_t length = strcspn(value, ",");

	cpu_mask_default(out);
	if (is_word(value, length, "baseline", 8))
		set_baseline(out);
	else if (!is_word(value, length, "host", 4))
		return option_bad(err, name, value, "begins with host or baseline");
	for (const char *at = value + length; *at; at += length) {
		at++; /* the comma */
		length = strcspn(at, ",");
		if (length < 2 || (at[0] != '-' && at[0] != '+'))
			return option_bad(err, name, value,
					  "features follow as -NAME or +NAME, separated by commas");
		if (!set_one(out, at + 1, length - 1, at[0] == '-'))
			return error_set(err, FOAL_EXIT_USAGE, -EINVAL,
					 "run: --%s %s: %.*s is no feature; foal help cpu lists "
					 "their names",
					 name, value, (int)length - 1, at + 1);
	}
	return 0;
}

static const char *const registers[] = {"eax", "ebx", "ecx", "edx"};

void cpu_feature_name(unsigned word, unsigned bit, char *name, size_t size)
{
	const struct cpu_word *w = &cpu_words[word];
	const char *at = w->names;
	size_t length = 0;

	for (unsigned i = 0; at; i++, at += length) {
		at = next_word(at, &length);
		if (!at || i == bit)
			break;
	}
	if (at && has_name(at))
		snprintf(name, size, "%.*s", (int)length, at);
	else
		snprintf(name, size, "cpuid %x.%x %s bit %u", w->leaf, w->index, registers[w->reg],
			 bit);
}

void cpu_features_print(void)
{
	size_t length;

	puts("--cpu host|baseline[,-FEATURE|,+FEATURE]...\n\n"
	     "host is what KVM supports on this host, baseline its part that hosts of the last\n"
	     "ten years share (x86-64-v2). A feature goes with those that need it; +FEATURE\n"
	     "brings one back that baseline left out, if this host has it.");
	for (unsigned w = 0; w < CPU_WORDS; w++) {
		int column = printf("\n%x.%x %s:", cpu_words[w].leaf, cpu_words[w].index,
				    registers[cpu_words[w].reg]) -
			     1;
		for (const char *at = cpu_words[w].names; (at = next_word(at, &length));
		     at += length) {
			if (!has_name(at))
				continue;
			if (column + (int)length + 1 > 79)
				column = printf("\n   ") - 1;
			column += printf(" %.*s", (int)length, at);
		}
	}
	puts("\n\nShort for several:");
	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		printf("    %s: %s\n", aliases[i].name, aliases[i].means);
}
