/*
 * Touch a page of pmem whose file does not give it, and its neighbours. Says
 * "ready" and waits for a character first.
 *   page=N    which
 *   mode=r|w  how
 *   ring=0|3  from where
 *   mce=0|1   whether a machine check can be taken: the page must then be the one it
 *             names, each time it is touched
 */
#include "tests/kvm/guests/lib/guest.h"

#define MSR_MCG_STATUS 0x17a
#define MSR_MC9_STATUS 0x425
#define MSR_MC9_ADDR   0x426
#define MC_VALID       (1UL << 63)
#define CR4_MCE	       (1UL << 6)

enum { UD = 6, PF = 14, MC = 18, VECTORS = 19 };
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

/* One touch of @gpa in ring @ring; the exception it ended in (UD: none, it came to its end). */
unsigned touch(uint64_t gpa, uint64_t write, uint64_t ring, uint64_t stack);

__asm__(".globl touch\n"
	"touch: push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
	"	mov %rsp, saved_rsp\n"
	"	test %rdx, %rdx; jz access\n"
	"	push $0x1b; push %rcx; push $2; push $0x23\n"
	"	lea access(%rip), %rax; push %rax; iretq\n"
	"access: test %rsi, %rsi; jnz 1f\n"
	"	mov (%rdi), %rax; ud2\n"
	"1:	mov %rdi, (%rdi); ud2\n"
	"on_ud: mov $6, %eax; jmp back\n"
	"on_pf: mov $14, %eax; jmp back\n"
	"on_mc: mov $18, %eax\n"
	"back:	mov saved_rsp, %rsp\n"
	"	mov $16, %ecx; mov %ecx, %ds; mov %ecx, %es; mov %ecx, %ss\n"
	"	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n");

extern const char on_ud[], on_pf[], on_mc[];

static uint64_t read_msr(uint32_t msr)
{
	uint32_t low, high;

	__asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
	return (uint64_t)high << 32 | low;
}

static void clear_msr(uint32_t msr)
{
	__asm__ volatile("wrmsr" : : "c"(msr), "a"(0), "d"(0));
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

static void set_up_exceptions(void)
{
	uint64_t base = (uint64_t)&tss;

	tss.rsp0 = (uint64_t)(exception_stack + 256);
	gdt[5] = 0x67 | (base & 0xffffff) << 16 | 0x89UL << 40 | (base >> 24 & 0xff) << 56;
	gdt[6] = base >> 32;
	set_gate(UD, on_ud);
	set_gate(PF, on_pf);
	set_gate(MC, on_mc);
	pointer.limit = sizeof(gdt) - 1;
	pointer.base = (uint64_t)gdt;
	__asm__ volatile("lgdt %0" : : "m"(pointer));
	__asm__ volatile("ltr %w0" : : "r"(TSS));
	pointer.limit = sizeof(idt) - 1;
	pointer.base = (uint64_t)idt;
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

/* Ring 3 may touch all of the 2 MiB around @gpa. */
static void open_to_user(uint64_t gpa)
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

static void take_machine_checks(void)
{
	__asm__ volatile("mov %%cr4, %%rax; or %0, %%rax; mov %%rax, %%cr4"
			 :
			 : "i"(CR4_MCE)
			 : "rax");
}

static void expect_named(uint64_t gpa)
{
	expect(read_msr(MSR_MC9_STATUS) & MC_VALID, GUEST_BAD_DEVICE);
	expect(read_msr(MSR_MC9_ADDR) == gpa, GUEST_BAD_VALUE);
	clear_msr(MSR_MC9_STATUS);
	clear_msr(MSR_MCG_STATUS);
}

unsigned guest_main(const struct start_info *info)
{
	uint64_t bad = pmem_range(0).gpa + param("page", 0) * PAGE, ring = param("ring", 0);
	bool write = param_is("mode", "w");
	uint64_t stack = (uint64_t)(user_stack + 256);

	(void)info;
	set_up_exceptions();
	open_to_user(bad);
	open_to_user((uint64_t)user_stack);
	open_to_user((uint64_t)touch);
	if (param("mce", 0))
		take_machine_checks();
	out8(FOAL_PORT_COM1 + 4, 0x0b); /* DTR, RTS, OUT2: input is welcome */
	say("ready\n");
	while (heard() < 0)
		;
	expect(touch(bad - PAGE, write, ring, stack) == UD, GUEST_BAD_VALUE);
	for (int i = 0; i < 2; i++) {
		expect(touch(bad, write, ring, stack) == MC, GUEST_BAD_DEVICE);
		expect_named(bad);
	}
	expect(touch(bad - PAGE, write, ring, stack) == UD, GUEST_BAD_VALUE);
	say("still here\n");
	return GUEST_OK;
}
