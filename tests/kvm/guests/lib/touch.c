/* Touches of memory in ring 3, and the exceptions that they end in. */
#include "tests/kvm/guests/lib/guest.h"

#define VECTORS (TOUCH_MC + 1)

enum { CODE0 = 8, DATA0 = 16, DATA3 = 0x18 | 3, CODE3 = 0x20 | 3, TSS = 0x28 };

static struct {
	uint16_t low, selector;
	uint8_t ist, type;
	uint16_t mid;
	uint32_t high, zero;
} idt[VECTORS];

static uint64_t gdt[7] = {0, 0x00af9a000000ffff, 0x00cf92000000ffff, 0x00cff2000000ffff,
			  0x00affa000000ffff};

static struct {
	uint32_t zero;
	uint64_t rsp0, unused[11];
	uint16_t zero2, io_map;
} __attribute__((packed)) tss = {.io_map = 0x68};

static struct {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed)) pointer;

static uint64_t exception_stack[256] __attribute__((aligned(16)));
static uint64_t user_stack[256] __attribute__((aligned(16)));
uint64_t saved_rsp;

unsigned touch_on(uint64_t gpa, uint64_t write, uint64_t ring, uint64_t stack);

__asm__(".globl touch_on\n"
	"touch_on: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, saved_rsp\n"
	"	test %rdx, %rdx; jz access\n"
	"	push $0x1b; push %rcx; push $0x202; push $0x23\n"
	"	lea access(%rip), %rax; push %rax; iretq\n"
	/* The address in two registers, and for a read in no single one. */
	"access: mov %rdi, %rax; sub $0x1000, %rdi; mov $0x200, %r8d\n"
	"	test %rsi, %rsi; jnz 1f\n"
	"	xor %eax, %eax; xor %ebx, %ebx; xor %ebp, %ebp; xor %r12d, %r12d\n"
	"	xor %r13d, %r13d; xor %r14d, %r14d; xor %r15d, %r15d\n"
	"	mov (%rdi, %r8, 8), %rax; ud2\n"
	"1:	mov %rax, (%rdi, %r8, 8); ud2\n"
	"on_ud: mov $6, %eax; jmp back\n"
	"on_pf: mov $14, %eax; jmp back\n"
	"on_mc: mov $18, %eax\n"
	"back:	mov saved_rsp, %rsp\n"
	"	mov $16, %ecx; mov %ecx, %ds; mov %ecx, %es; mov %ecx, %ss\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

extern const char on_ud[], on_pf[], on_mc[];

void open_to_user(uint64_t gpa)
{
	uint64_t *table;

	__asm__ volatile("mov %%cr3, %0" : "=r"(table));
	for (int shift = 39; shift >= 21; shift -= 9) {
		uint64_t *entry = &table[gpa >> shift & 511];
		*entry |= 4;
		table = (uint64_t *)(*entry & ~0xfffUL);
	}
	__asm__ volatile("mov %%cr3, %%rax; mov %%rax, %%cr3" : : : "rax", "memory");
}

static void set_gate(int vector, const char *handler)
{
	uint64_t at = (uint64_t)handler;

	idt[vector].low = (uint16_t)at;
	idt[vector].mid = (uint16_t)(at >> 16);
	idt[vector].high = (uint32_t)(at >> 32);
	idt[vector].selector = CODE0;
	idt[vector].type = 0x8e;
}

void set_up_touch(void)
{
	uint64_t base = (uint64_t)&tss;

	tss.rsp0 = (uint64_t)(exception_stack + 256);
	gdt[5] = 0x67 | (base & 0xffffff) << 16 | 0x89UL << 40 | (base >> 24 & 0xff) << 56;
	gdt[6] = base >> 32;
	set_gate(TOUCHED, on_ud);
	set_gate(TOUCH_PF, on_pf);
	set_gate(TOUCH_MC, on_mc);
	pointer.limit = sizeof(gdt) - 1;
	pointer.base = (uint64_t)gdt;
	__asm__ volatile("lgdt %0" : : "m"(pointer));
	__asm__ volatile("ltr %w0" : : "r"(TSS));
	pointer.limit = sizeof(idt) - 1;
	pointer.base = (uint64_t)idt;
	__asm__ volatile("lidt %0" : : "m"(pointer));
	open_to_user((uint64_t)user_stack);
	open_to_user((uint64_t)touch_on);
}

unsigned touch(uint64_t gpa, bool write, unsigned ring)
{
	return touch_on(gpa, write, ring, (uint64_t)(user_stack + 256));
}
