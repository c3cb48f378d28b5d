/*
 * From the PVH entry (32-bit protected mode, paging off, %ebx: start info) to
 * guest_start() in long mode. The page tables are data, so that no instruction
 * is spent on them.
 */
#include "guest/abi.h"

	.section .note.pvh, "a", @note
	.balign	4
	.long	4, 4, FOAL_PVH_NOTE_TYPE
	.asciz	"Xen"
	.long	start32

	.text
	.code32
	.globl	start32
start32:
	cld
	mov	$stack_top, %esp
	mov	%ebx, %edi
	call	enter_long_mode
	ljmp	$8, $start64

/* Paging on, compatibility mode; %edi and %esp are kept. */
enter_long_mode:
	lgdt	gdt_pointer
	lidt	no_idt
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
	ret

	.code64
start64:
	call	flat_segments
	call	guest_start
	ud2

flat_segments:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	ret

/*
 * Another processor begins in real mode at the page that STARTUP named, where
 * start_processor() copied ap_start..ap_end; the rest it runs in place.
 */
	.globl	ap_start, ap_end
	.code16
ap_start:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	lgdtl	0x8000 + ap_gdt_pointer - ap_start
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$24, $ap32
ap_gdt_pointer:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_end:

	.code32
ap32:
	mov	$16, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$ap_stack_top, %esp
	call	enter_long_mode
	ljmp	$8, $ap64

	.code64
ap64:
	call	flat_segments
	call	ap_main
	ud2
	.weak	ap_main

	.section .rodata
	.balign	8
gdt:
	.quad	0
	.quad	0x00af9a000000ffff	/* 8: code, 64 bits */
	.quad	0x00cf92000000ffff	/* 16: data */
	.quad	0x00cf9a000000ffff	/* 24: code, 32 bits */
gdt_end:
gdt_pointer:
	.word	gdt_end - gdt - 1
	.quad	gdt
no_idt:
	.word	0
	.quad	0

	.section .tables, "aw"
	.balign	4096
pml4:
	.quad	pdpt + 3
	.fill	511, 8, 0
pdpt:
	.set	n, 0
	.rept	16
	.quad	page_directories + n * 4096 + 3
	.set	n, n + 1
	.endr
	.fill	512 - 16, 8, 0
page_directories:
	.set	n, 0
	.rept	16 * 512
	.quad	n * 0x200000 + 0x83	/* present, writable, 2 MiB */
	.set	n, n + 1
	.endr

	.bss
	.balign	16
	.skip	8192
stack_top:
	.skip	8192
ap_stack_top:

	.section .note.GNU-stack, "", @progbits
