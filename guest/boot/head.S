/*
 * The first instructions: from PVH's 32-bit protected mode without paging (Xen's
 * docs/misc/pvh.markdown) to 64-bit C in the high half. %ebx holds the physical address of
 * hvm_start_info and is kept all the way. The other CPUs come in with 0 there, from real mode.
 */
#include "guest/include/asm.h"

#define BOOT_CS32 0x18
#define PHYS(sym) ((sym)-KERNEL_BASE)

	.section .note.Xen, "a", @note
	.long 4, 4, XEN_ELFNOTE_PHYS32_ENTRY
	.asciz "Xen"
	.long PHYS(pvh_start)

	.section .text.head, "ax"
	.code32
	.globl pvh_start
pvh_start:
	cld
	movl $PHYS(boot_pml4), %eax
	movl %eax, %cr3
	movl $(CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
	movl %eax, %cr4

	movl $MSR_EFER, %ecx
	rdmsr
	orl $(EFER_SCE | EFER_LME | EFER_NXE), %eax
	wrmsr

	movl $(CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG), %eax
	movl %eax, %cr0
	lgdt PHYS(boot_gdt_ptr)
	ljmp $KERNEL_CS, $PHYS(start64)

	/* Another CPU, from the trampoline: flat segments, and on as the first one. */
secondary_start:
	movl $KERNEL_DS, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	xorl %ebx, %ebx
	jmp pvh_start

	.code64
start64:
	movabsq $1f, %rax
	jmp *%rax
1:	xorl %eax, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %fs
	movl %eax, %gs
	movl $KERNEL_DS, %eax
	movl %eax, %ss
	xorl %ebp, %ebp
	testl %ebx, %ebx
	jz 3f
	leaq boot_stack_top(%rip), %rsp
	movl %ebx, %edi
	call kernel_main
2:	cli
	hlt
	jmp 2b
3:	movq secondary_stack(%rip), %rsp
	call secondary_main
	ud2

	/* Copied to TRAMPOLINE, where STARTUP begins in real mode with %cs its segment. */
	.section .rodata
	.code16
	.globl trampoline, trampoline_end
trampoline:
	cli
	xorl %eax, %eax
	movw %ax, %ds
	lgdtl TRAMPOLINE + trampoline_gdt_ptr - trampoline
	movl %cr0, %eax
	orl $CR0_PE, %eax
	movl %eax, %cr0
	ljmpl $BOOT_CS32, $PHYS(secondary_start)
trampoline_gdt_ptr:
	.word boot_gdt_end - boot_gdt - 1
	.long PHYS(boot_gdt)
trampoline_end:
	.code64

	/* Enough of a GDT to get here; cpu_init loads the real one. */
	.section .rodata
	.balign 8
boot_gdt:
	.quad 0
	.quad 0x00af9b000000ffff /* 64-bit code */
	.quad 0x00cf93000000ffff /* data */
	.quad 0x00cf9b000000ffff /* BOOT_CS32 */
boot_gdt_end:
boot_gdt_ptr:
	.word boot_gdt_end - boot_gdt - 1
	.long PHYS(boot_gdt)

	/*
	 * Boot page tables: the first GiB, three times: at 0 (for the jump), in the direct map and
	 * at the kernel's addresses. paging_init replaces the lower levels and keeps the PML4.
	 */
	.section .data.page_aligned, "aw"
	.balign 4096
	.globl boot_pml4
boot_pml4:
	.quad PHYS(boot_pdpt) + PTE_KERNEL_RWX
	.fill 272, 8, 0
	.quad PHYS(boot_pdpt) + PTE_KERNEL_RWX /* DIRECT_MAP_BASE */
	.fill 237, 8, 0
	.quad PHYS(boot_pdpt) + PTE_KERNEL_RWX /* KERNEL_BASE */

boot_pdpt:
	.quad PHYS(boot_pd) + PTE_KERNEL_RWX
	.fill 509, 8, 0
	.quad PHYS(boot_pd) + PTE_KERNEL_RWX
	.quad 0

boot_pd:
	pde = PTE_KERNEL_RWX | PTE_HUGE
	.rept 512
	.quad pde
	pde = pde + 0x200000
	.endr

	.section .bss.page_aligned, "aw", @nobits
	.balign 4096
	.globl boot_stack, boot_stack_top
boot_stack:
	.fill 16384
boot_stack_top:

	.section .note.GNU-stack, "", @progbits
