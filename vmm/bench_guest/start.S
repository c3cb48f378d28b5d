/*
 * From the PVH entry (32-bit protected mode, paging off) to bench_user() in ring
 * 3, or where bench_stays() says so in ring 0, with a ticking timer. %ebx: the vCPU's number, or as PVH has it the address
 * of the start information, which is a larger number and means vCPU 0. All in one
 * section, so that the halves of an address are known when it is assembled.
 */
#include "vmm/bench_guest/job.h"
#include "guest/abi.h"

#define RING0_CODE 8
#define RING0_DATA 16
#define RING3_CODE (24 | 3)
#define RING3_DATA (32 | 3)
#define FIRST_TSS  40
#define TSS_LIMIT  (104 + IO_BITMAP)
#define IO_BITMAP  (0x400 / 8)		/* ports up to COM1's, all allowed */
#define STACK	   4096

/* Exceptions. */
#define UNDEFINED  6
#define PROTECTION 13
#define PAGE_FAULT 14

#define LAPIC_EOI     (FOAL_LAPIC_BASE + 0xb0)
#define LAPIC_SVR     (FOAL_LAPIC_BASE + 0xf0)
#define LAPIC_TIMER   (FOAL_LAPIC_BASE + 0x320)
#define LAPIC_COUNT   (FOAL_LAPIC_BASE + 0x380)
#define LAPIC_DIVIDE  (FOAL_LAPIC_BASE + 0x3e0)
#define TIMER_PERIODIC 0x20000
#define DIVIDE_BY_1   0xb

/* Accessed and dirty from the start, so that the processor has nothing to note. */
#define TABLE	   BENCH_TABLE		/* present, writable, user */
#define PAGE	   0x67			/* the same, of a page */
#define LARGE_USER 0xe7			/* the same, 2 MiB */
#define LARGE	   0xe3

	.section .note.pvh, "a", @note
	.balign	4
	.long	4, 4, FOAL_PVH_NOTE_TYPE
	.asciz	"Xen"
	.long	start32

	.section .program, "awx"
program:
	.code32
	.globl	start32
start32:
	cld
	mov	%ebx, %ebp
	cmp	$BENCH_MAX_CPUS, %ebp
	jb	1f
	xor	%ebp, %ebp
1:	lgdt	gdt_pointer
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	%cr4, %eax
	or	$0x20, %eax		/* PAE */
	mov	%eax, %cr4
	mov	$0xc0000080, %ecx	/* EFER */
	rdmsr
	or	$0x100, %eax		/* LME */
	wrmsr
	mov	%cr0, %eax
	or	$0x80010000, %eax	/* PG, WP */
	mov	%eax, %cr0
	ljmp	$RING0_CODE, $start64

	.code64
start64:
	mov	$RING0_DATA, %eax
	mov	%eax, %ss
	mov	$RING3_DATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%ebp, %eax
	inc	%eax
	imul	$STACK, %eax, %eax
	lea	stacks(%rax), %rsp
	lidt	idt_pointer
	mov	%ebp, %eax
	shl	$4, %eax
	add	$FIRST_TSS, %eax
	ltr	%ax

	mov	$LAPIC_SVR, %eax
	movl	$0x1ff, (%rax)		/* enabled */
	mov	$LAPIC_DIVIDE, %eax
	movl	$DIVIDE_BY_1, (%rax)
	mov	$LAPIC_TIMER, %eax
	movl	$(TIMER_PERIODIC | BENCH_TICK_VECTOR), (%rax)
	mov	$LAPIC_COUNT, %eax
	movl	$BENCH_TICK_NS, (%rax)	/* KVM's timer counts at 1 GHz */

	call	bench_stays
	mov	%ebp, %edi
	test	%eax, %eax
	jz	1f
	sti
	call	bench_user

1:	mov	%ebp, %eax
	inc	%eax
	imul	$STACK, %eax, %eax
	lea	user_stacks - 8(%rax), %rax	/* as if called */
	pushq	$RING3_DATA
	push	%rax
	pushq	$0x202			/* interrupts on */
	pushq	$RING3_CODE
	pushq	$bench_user
	iretq

/* The stack tells which vCPU. */
tick:
	push	%rax
	mov	%esp, %eax
	sub	$stacks, %eax
	shr	$12, %eax
	incl	bench_ticks(,%rax,4)
	mov	$LAPIC_EOI, %eax
	movl	$0, (%rax)
	pop	%rax
	iretq

/* The timer that a halted vCPU waits for. */
wake:
	push	%rax
	push	%rdx
	rdtsc
	mov	%eax, bench_woken
	mov	%edx, bench_woken + 4
	mov	$LAPIC_EOI, %eax
	movl	$0, (%rax)
	pop	%rdx
	pop	%rax
	iretq

/* The guest's own page fault: one entry of the tables at BENCH_TABLES_GPA. */
fault:
	push	%rax
	mov	%cr2, %rax
	sub	$BENCH_FAULTS_AT, %rax
	shr	$12, %rax
	cmp	$BENCH_FAULT_PAGES, %rax
	jae	2f
	movq	$(BENCH_FRAME_GPA + PAGE), BENCH_TABLES_GPA + 4096(, %rax, 8)
	incl	bench_faults
	pop	%rax
	add	$8, %rsp		/* the error code */
	iretq
2:	mov	$PAGE_FAULT, %al
	jmp	broken
undefined:
	mov	$UNDEFINED, %al
broken:
	out	%al, $BENCH_PORT_BROKEN
	jmp	rest

/* What ring 3 may not do, hlt above all: rest for good, without the timer. */
rest:
	mov	$LAPIC_COUNT, %eax
	movl	$0, (%rax)
1:	cli
	hlt
	jmp	1b

	.balign	8
gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* ring 0 code, 64 bits */
	.quad	0x00cf93000000ffff	/* ring 0 data */
	.quad	0x00affb000000ffff	/* ring 3 code */
	.quad	0x00cff3000000ffff	/* ring 3 data */
	.irp	tss, tss0, tss1
	.word	TSS_LIMIT, \tss - program
	.byte	BENCH_PROGRAM_GPA >> 16, 0x89, 0, 0
	.quad	0
	.endr
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt

	.macro gate handler
	.word	\handler - program, RING0_CODE, 0x8e00, BENCH_PROGRAM_GPA >> 16
	.quad	0
	.endm

	.balign	8
idt:					/* any other exception ends the guest in a triple fault */
	.fill	UNDEFINED * 2, 8, 0
	gate	undefined
	.fill	(PROTECTION - UNDEFINED - 1) * 2, 8, 0
	gate	rest
	gate	fault
	.fill	(BENCH_TICK_VECTOR - PAGE_FAULT - 1) * 2, 8, 0
	gate	tick
	gate	wake
idt_end:
idt_pointer:
	.word	idt_end - idt - 1
	.quad	idt

	.macro	task_state name, stack
	.balign	8
\name:	.long	0
	.quad	\stack			/* of ring 0 */
	.fill	90, 1, 0
	.word	104			/* where the I/O bitmap starts */
	.fill	IO_BITMAP, 1, 0
	.byte	0xff
	.endm
	task_state tss0, (stacks+STACK)
	task_state tss1, (stacks+2*STACK)

	.balign	8
	.globl	bench_ticks
bench_ticks:
	.fill	BENCH_MAX_CPUS, 4, 0
	.globl	bench_faults
bench_faults:
	.long	0
	.balign	8
	.globl	bench_woken
bench_woken:
	.quad	0

	.balign	4096
pml4:
	.quad	pdpt + TABLE
	.fill	511, 8, 0
pdpt:
	.quad	low_gib + TABLE, BENCH_TABLES_GPA + TABLE, 0, devices + TABLE
	.quad	measured + TABLE, measured + 4096 + TABLE
	.fill	506, 8, 0
	.macro	directory first, count, flags
	.set	n, \first
	.rept	\count
	.quad	n + \flags
	.set	n, n + 0x200000
	.endr
	.endm
low_gib:
	directory 0, 512, LARGE_USER
devices:
	directory FOAL_MMIO_GAP_START, 512, LARGE
measured:
	directory BENCH_GPA, 1024, LARGE_USER
stacks:
	.fill	BENCH_MAX_CPUS * STACK, 1, 0
user_stacks:
	.fill	BENCH_MAX_CPUS * STACK, 1, 0

	.section .job, "aw"
	.globl	bench_job
bench_job:
	.fill	4096, 1, 0

	.section .note.GNU-stack, "", @progbits
