/*
 * Copies that may meet a bad user address. A string instruction that faults leaves in %rcx what
 * is left to do, so the count is exact: the word part's rest is tried again by bytes, and stops
 * at the very byte.
 */
	.macro EXTABLE insn fixup
	.pushsection .extable, "a"
	.quad \insn, \fixup
	.popsection
	.endm

	.text
	/* size_t copy_user(void *dst, const void *src, size_t n): returns the bytes not copied. */
	.globl copy_user
copy_user:
	movq %rdx, %rcx
	shrq $3, %rcx
	andl $7, %edx
1:	rep movsq
	movl %edx, %ecx
2:	rep movsb
3:	movq %rcx, %rax
	ret
4:	leaq (%rdx, %rcx, 8), %rcx
	jmp 2b
	EXTABLE 1b 4b
	EXTABLE 2b 3b

	/* size_t zero_user(void *dst, size_t n): returns the bytes not cleared. */
	.globl zero_user
zero_user:
	movq %rsi, %rcx
	shrq $3, %rcx
	andl $7, %esi
	xorl %eax, %eax
5:	rep stosq
	movl %esi, %ecx
6:	rep stosb
7:	movq %rcx, %rax
	ret
8:	leaq (%rsi, %rcx, 8), %rcx
	jmp 6b
	EXTABLE 5b 8b
	EXTABLE 6b 7b

	.section .note.GNU-stack, "", @progbits
