/* The ways into the kernel and out of it. */
#include "guest/include/asm.h"

/* struct cpu, and the saved %cs behind a vector and an error code */
#define CPU_USER_RSP   8
#define CPU_KERNEL_RSP 16
#define FRAME_CS       24

	.macro PUSH_REGS
	pushq %rdi
	pushq %rsi
	pushq %rdx
	pushq %rcx
	pushq %rax
	pushq %r8
	pushq %r9
	pushq %r10
	pushq %r11
	pushq %rbx
	pushq %rbp
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	.endm

	.macro POP_REGS
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbp
	popq %rbx
	popq %r11
	popq %r10
	popq %r9
	popq %r8
	popq %rax
	popq %rcx
	popq %rdx
	popq %rsi
	popq %rdi
	.endm

	.text

	/*
	 * One stub a vector, 16 bytes apart: a zero where the CPU pushes no error code, the
	 * vector, and on to the common part.
	 */
	.balign 16
	.globl vector_stubs
vector_stubs:
	vec = 0
	.rept 256
	.balign 16
	.if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || vec == 30)
	pushq $0
	.endif
	pushq $vec
	.if vec == 2 || vec == 8
	jmp paranoid_entry
	.else
	jmp trap_entry
	.endif
	vec = vec + 1
	.endr

	/* %gs is the kernel's in the kernel and the program's in user mode. */
	.balign 16
trap_entry:
	cld
	testb $3, FRAME_CS(%rsp)
	jz 1f
	swapgs
1:	PUSH_REGS
2:	movq %rsp, %rdi
	call trap_dispatch
	.globl trap_return
trap_return:
	POP_REGS
	testb $3, FRAME_CS(%rsp)
	jz 1f
	swapgs
1:	addq $16, %rsp /* vector, error */
	iretq

	/* These also come between an entry and its swapgs: the kernel's %gs is in the upper half. */
paranoid_entry:
	cld
	PUSH_REGS
	movl $MSR_GS_BASE, %ecx
	rdmsr
	testl %edx, %edx
	js 2b
	swapgs
	jmp 2b

	/*
	 * SYSCALL arrives here with interrupts and direction off (SYSCALL_MASK), user %rip in
	 * %rcx and %rflags in %r11, on the user's stack. Return is by iretq: it has none of
	 * sysretq's traps with non-canonical addresses, and works where ring 0 is emulated.
	 */
	.balign 16
	.globl syscall_entry
syscall_entry:
	swapgs
	movq %rsp, %gs:CPU_USER_RSP
	movq %gs:CPU_KERNEL_RSP, %rsp
	pushq $USER_DS
	pushq %gs:CPU_USER_RSP
	pushq %r11
	pushq $USER_CS
	pushq %rcx
	pushq %rax
	pushq $-1
	PUSH_REGS
	movq %rsp, %rdi
	call syscall_by_instruction
	jmp trap_return

	/* What user mode executes at SYSCALL_STUB where SYSCALL does not change the ring. */
	.balign 4096
	.globl syscall_stub
syscall_stub:
	ud2
	.balign 4096

	/* void switch_stacks(u64 *prev_rsp, u64 next_rsp) */
	.globl switch_stacks
switch_stacks:
	pushq %rbp
	pushq %rbx
	pushq %r12
	pushq %r13
	pushq %r14
	pushq %r15
	movq %rsp, (%rdi)
	movq %rsi, %rsp
	popq %r15
	popq %r14
	popq %r13
	popq %r12
	popq %rbx
	popq %rbp
	ret

	/* A new task: %rbx(%r12); if that returns, out to user mode. */
	.globl task_start
task_start:
	movq %rbx, %rdi
	movq %r12, %rsi
	call task_main
	movq %rsp, %rdi
	call exit_to_user
	xorl %ebp, %ebp
	jmp trap_return

	.section .note.GNU-stack, "", @progbits
