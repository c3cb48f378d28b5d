/*
 * size_t copy_user(void *dst, const void *src, size_t n): returns the bytes not copied.
 * A fault in the unrolled part goes on bytewise from the same place, so the count is exact.
 */
	.macro EX insn:vararg
9:	\insn
	.pushsection .extable, "a"
	.quad 9b, .Lfixup
	.popsection
	.endm

	.macro EXB insn:vararg
9:	\insn
	.pushsection .extable, "a"
	.quad 9b, .Ldone
	.popsection
	.endm

	.macro EXC insn:vararg
9:	\insn
	.pushsection .extable, "a"
	.quad 9b, .Lclear_done
	.popsection
	.endm

	.text
	.globl copy_user
copy_user:
	cmpq $32, %rdx
	jb .Lfixup
1:	EX movq (%rsi), %rax
	EX movq 8(%rsi), %rcx
	EX movq 16(%rsi), %r8
	EX movq 24(%rsi), %r9
	EX movq %rax, (%rdi)
	EX movq %rcx, 8(%rdi)
	EX movq %r8, 16(%rdi)
	EX movq %r9, 24(%rdi)
	addq $32, %rsi
	addq $32, %rdi
	subq $32, %rdx
	cmpq $32, %rdx
	jae 1b
.Lfixup:
	testq %rdx, %rdx
	jz .Ldone
	EXB movb (%rsi), %al
	EXB movb %al, (%rdi)
	incq %rsi
	incq %rdi
	decq %rdx
	jmp .Lfixup
.Ldone:
	movq %rdx, %rax
	ret

/* size_t zero_user(void *dst, size_t n): returns the bytes not cleared. */
	.globl zero_user
zero_user:
	xorl %eax, %eax
	cmpq $8, %rsi
	jb 3f
2:	EXC movq %rax, (%rdi)
	addq $8, %rdi
	subq $8, %rsi
	cmpq $8, %rsi
	jae 2b
3:	testq %rsi, %rsi
	jz .Lclear_done
	EXC movb %al, (%rdi)
	incq %rdi
	decq %rsi
	jmp 3b
.Lclear_done:
	movq %rsi, %rax
	ret

	.section .note.GNU-stack, "", @progbits
