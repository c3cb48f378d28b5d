/*
 * Where a program starts: the kernel leaves argc at the stack's top and argv
 * above it (System V ABI, AMD64 supplement, 3.4.1). Calls main(argc, argv) on
 * an aligned stack and hands its result to exit_group.
 */
	.section .text
	.globl	_start
	.type	_start, @function
_start:
	xorl	%ebp, %ebp
	movq	(%rsp), %rdi
	leaq	8(%rsp), %rsi
	andq	$-16, %rsp
	call	main
	movl	%eax, %edi
	movl	$231, %eax
	syscall
	ud2
	.size	_start, . - _start

	.section .note.GNU-stack, "", @progbits
