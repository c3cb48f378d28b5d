#include "vmm/entry.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

/* Selectors of Linux's 64-bit boot protocol, __BOOT_CS and __BOOT_DS. */
#define LINUX_CS  0x10
#define LINUX_DS  0x18

#define CR0_PE	  (1UL << 0)
#define CR0_ET	  (1UL << 4) /* fixed to 1 */
#define CR0_PG	  (1UL << 31)
#define CR4_PAE	  (1UL << 5)
#define EFER_LME  (1UL << 8)
#define EFER_LMA  (1UL << 10)

#define TYPE_DATA 3  /* read, write, accessed (SDM 3A 3.4.5.1) */
#define TYPE_CODE 11 /* execute, read, accessed */
#define TYPE_TSS  11 /* 32- or 64-bit TSS, busy (SDM 3A 3.5) */

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = 0xffffffff,
				    .selector = selector,
				    .type = type,
				    .present = 1,
				    .db = 1,
				    .s = 1,
				    .g = 1};
}

static void set_segments(struct kvm_sregs *sregs, struct kvm_segment code, struct kvm_segment data)
{
	sregs->cs = code;
	sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss = data;
	sregs->tr = (struct kvm_segment){.limit = 0x67,
					 .selector = (uint16_t)(data.selector + 8),
					 .type = TYPE_TSS,
					 .present = 1};
}

static int get_sregs(int vcpu_fd, struct kvm_sregs *sregs, struct foal_error *err)
{
	if (ioctl(vcpu_fd, KVM_GET_SREGS, sregs))
		return error_set(err, FOAL_EXIT_HOST, -errno, "KVM: read a vCPU's segments: %s",
				 strerror(errno));
	return 0;
}

static int set_state(int vcpu_fd, const struct kvm_sregs *sregs, const struct kvm_regs *regs,
		     struct foal_error *err)
{
	if (ioctl(vcpu_fd, KVM_SET_SREGS, sregs) || ioctl(vcpu_fd, KVM_SET_REGS, regs))
		return error_set(err, FOAL_EXIT_HOST, -errno, "KVM: set a vCPU's registers: %s",
				 strerror(errno));
	return 0;
}

int entry_pvh(int vcpu_fd, uint32_t entry, uint32_t start_info, struct foal_error *err)
{
	struct kvm_regs regs = {.rip = entry, .rbx = start_info, .rflags = 2};
	struct kvm_sregs sregs;
	int r = get_sregs(vcpu_fd, &sregs, err);

	if (r)
		return r;
	set_segments(&sregs, flat(0x8, TYPE_CODE), flat(0x10, TYPE_DATA));
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	return set_state(vcpu_fd, &sregs, &regs, err);
}

int entry_linux64(int vcpu_fd, uint64_t entry, struct foal_error *err)
{
	struct kvm_regs regs = {.rip = entry, .rsi = FOAL_BOOT_PARAMS, .rflags = 2};
	struct kvm_segment code = flat(LINUX_CS, TYPE_CODE);
	struct kvm_sregs sregs;
	int r = get_sregs(vcpu_fd, &sregs, err);

	if (r)
		return r;
	code.db = 0;
	code.l = 1;
	set_segments(&sregs, code, flat(LINUX_DS, TYPE_DATA));
	sregs.gdt = (struct kvm_dtable){.base = FOAL_BOOT_GDT,
					.limit = ENTRY_GDT_ENTRIES * sizeof(uint64_t) - 1};
	sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs.cr3 = FOAL_BOOT_PAGE_TABLES;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME | EFER_LMA;
	return set_state(vcpu_fd, &sregs, &regs, err);
}

/* A segment as the GDT has it (SDM 3A 3.4.5): base 0. */
static uint64_t descriptor(struct kvm_segment s)
{
	uint64_t flags = (uint64_t)s.type | (uint64_t)s.s << 4 | (uint64_t)s.dpl << 5 |
			 (uint64_t)s.present << 7 | (uint64_t)s.l << 13 | (uint64_t)s.db << 14 |
			 (uint64_t)s.g << 15;

	return 0xffff | 0xfULL << 48 | flags << 40;
}

void entry_gdt(uint64_t gdt[ENTRY_GDT_ENTRIES])
{
	struct kvm_segment code = flat(LINUX_CS, TYPE_CODE);

	code.db = 0;
	code.l = 1;
	gdt[0] = gdt[1] = 0;
	gdt[LINUX_CS / 8] = descriptor(code);
	gdt[LINUX_DS / 8] = descriptor(flat(LINUX_DS, TYPE_DATA));
}
