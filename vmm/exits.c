/*
 * What a vCPU left KVM_RUN for, and what is done about it
 * (linux/Documentation/virt/kvm/api.rst, section 5). An exit that is not in
 * the table stops the VM with its registers.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm/vm.h"

void vcpu_print_registers(struct vcpu *vcpu)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(vcpu->fd, KVM_GET_REGS, &r) || ioctl(vcpu->fd, KVM_GET_SREGS, &s))
		return;
	notice("vCPU %u:", vcpu->index);
	notice("  rip %016llx rsp %016llx flags %08llx cpl %u", r.rip, r.rsp, r.rflags, s.ss.dpl);
	notice("  rax %016llx rbx %016llx rcx %016llx rdx %016llx", r.rax, r.rbx, r.rcx, r.rdx);
	notice("  rsi %016llx rdi %016llx rbp %016llx", r.rsi, r.rdi, r.rbp);
	notice("  cr0 %08llx cr2 %016llx cr3 %016llx cr4 %08llx efer %08llx", s.cr0, s.cr2, s.cr3,
	       s.cr4, s.efer);
}

static void exit_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT)
			bus_write(vcpu->vm->pio, run->io.port, data, run->io.size);
		else
			bus_read(vcpu->vm->pio, run->io.port, data, run->io.size);
	}
}

/* No device has it. A page that is lost ends the run here, before the guest uses what it got. */
static void stray(struct vm *vm, gpa_t gpa, enum ept_access access)
{
	if (ept_stray(vm->space, gpa, access) == EPT_CASE_IO_ERROR)
		vm_end(vm, FOAL_EXIT_FAULT, "%s", ept_space_failure(vm->space)->message);
}

static void exit_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vm *vm = vcpu->vm;
	bool taken;

	if (run->mmio.is_write)
		taken = bus_write(vm->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	else
		taken = bus_read(vm->mmio, run->mmio.phys_addr, run->mmio.data, run->mmio.len);
	/* KVM's emulator could not read guest memory, and takes it for a device. */
	if (!taken && ept_poisoned(vm->space, GPA(run->mmio.phys_addr)))
		memory_error_at(vcpu, GPA(run->mmio.phys_addr));
	else if (!taken) /* open bus: reads are all ones, writes are dropped, both are counted */
		stray(vm, GPA(run->mmio.phys_addr), run->mmio.is_write ? EPT_WRITE : EPT_READ);
}

static void exit_ioapic_eoi(struct vcpu *vcpu)
{
	ioapic_eoi(vcpu->vm->ioapic, vcpu->run->eoi.vector);
}

static void exit_nothing(struct vcpu *vcpu)
{
	(void)vcpu;
}

static void exit_shutdown(struct vcpu *vcpu)
{
	struct kvm_regs regs = {0};

	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	vm_end(vcpu->vm, FOAL_EXIT_GUEST,
	       "%s: vCPU %u: the guest ended in a triple fault (rip 0x%llx): it crashed, or resets "
	       "itself so (Linux with reboot=t); look at the kernel's last messages",
	       vcpu->vm->opt->name, vcpu->index, regs.rip);
}

/* An instruction that KVM's emulator lacks, or an access that it cannot complete. */
static void exit_internal_error(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs = {0};
	char bytes[64] = "";

	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION &&
	    run->emulation_failure.ndata > 3 &&
	    (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
		unsigned n = run->emulation_failure.insn_size, at = 0;
		for (unsigned i = 0; i < n && i < 15; i++)
			at += (unsigned)snprintf(bytes + at, sizeof(bytes) - at, " %02x",
						 run->emulation_failure.insn_bytes[i]);
	}
	vm_end(vcpu->vm, FOAL_EXIT_GUEST,
	       "%s: vCPU %u: KVM cannot go on at rip 0x%llx (internal error %u%s%s); the guest "
	       "jumped where nothing is, or uses an instruction that this host does not emulate "
	       "(foal doctor says whether stock Linux boots here)",
	       vcpu->vm->opt->name, vcpu->index, regs.rip, run->internal.suberror,
	       bytes[0] ? ", instruction" : "", bytes);
	vcpu_print_registers(vcpu);
}

static void exit_fail_entry(struct vcpu *vcpu)
{
	vm_end(vcpu->vm, FOAL_EXIT_GUEST, "%s: vCPU %u: the processor refused its state (0x%llx)",
	       vcpu->vm->opt->name, vcpu->index,
	       (unsigned long long)vcpu->run->fail_entry.hardware_entry_failure_reason);
	vcpu_print_registers(vcpu);
}

/* Hardware left the guest for a reason that KVM does not know, or did not expect there. */
static void exit_unknown(struct vcpu *vcpu)
{
	vm_end(
	    vcpu->vm, FOAL_EXIT_INTERNAL,
	    "%s: vCPU %u: the processor left the guest for reason 0x%llx, which KVM does not know",
	    vcpu->vm->opt->name, vcpu->index,
	    (unsigned long long)vcpu->run->hw.hardware_exit_reason);
	vcpu_print_registers(vcpu);
}

static void exit_exception(struct vcpu *vcpu)
{
	vm_end(vcpu->vm, FOAL_EXIT_INTERNAL,
	       "%s: vCPU %u: KVM did not expect exception %u (error code 0x%x) of the guest",
	       vcpu->vm->opt->name, vcpu->index, vcpu->run->ex.exception, vcpu->run->ex.error_code);
	vcpu_print_registers(vcpu);
}

static void exit_system_event(struct vcpu *vcpu)
{
	vm_end(vcpu->vm, FOAL_EXIT_GUEST, "%s: vCPU %u: system event %u", vcpu->vm->opt->name,
	       vcpu->index, vcpu->run->system_event.type);
}

/*
 * What is not here cannot come: HLT and TPR accesses are KVM's own with its local
 * APICs; hypercalls, MSRs, bus locks and notifications leave only a VM that asked
 * for them; a memory fault is KVM_RUN's error (vcpu.c).
 */
static void (*const exit_table[])(struct vcpu *vcpu) = {
    [KVM_EXIT_UNKNOWN] = exit_unknown,
    [KVM_EXIT_EXCEPTION] = exit_exception,
    [KVM_EXIT_IO] = exit_io,
    [KVM_EXIT_MMIO] = exit_mmio,
    [KVM_EXIT_INTR] = exit_nothing,
    [KVM_EXIT_IRQ_WINDOW_OPEN] = exit_nothing,
    [KVM_EXIT_IOAPIC_EOI] = exit_ioapic_eoi,
    [KVM_EXIT_SHUTDOWN] = exit_shutdown,
    [KVM_EXIT_FAIL_ENTRY] = exit_fail_entry,
    [KVM_EXIT_INTERNAL_ERROR] = exit_internal_error,
    [KVM_EXIT_SYSTEM_EVENT] = exit_system_event,
};

void exit_dispatch(struct vcpu *vcpu)
{
	uint32_t reason = vcpu->run->exit_reason;

	if (reason < sizeof(exit_table) / sizeof(exit_table[0]) && exit_table[reason]) {
		exit_table[reason](vcpu);
		return;
	}
	vm_end(vcpu->vm, FOAL_EXIT_INTERNAL, "%s: vCPU %u: KVM exit %u is not known to foal",
	       vcpu->vm->opt->name, vcpu->index, reason);
	vcpu_print_registers(vcpu);
}
