/* Descriptor tables; each CPU has its own but for the IDT (Intel SDM volume 3, chapters 3, 6, 7).
 */
#include "guest/include/cpu.h"
#include "guest/abi.h"
#include "guest/include/io.h"
#include "guest/include/page.h"
#include "guest/include/string.h"
#include "guest/include/trap.h"

struct tss {
	u32 reserved0;
	u64 rsp[3];
	u64 reserved1;
	u64 ist[7];
	u64 reserved2;
	u16 reserved3;
	u16 iomap_base;
} __attribute__((packed));

struct gate {
	u16 offset_low;
	u16 selector;
	u8 ist;
	u8 type;
	u16 offset_mid;
	u32 offset_high;
	u32 reserved;
};

struct table_ptr {
	u16 limit;
	u64 base;
} __attribute__((packed));

#define GATE_INTERRUPT 0x8e
#define IST_FAULT      1 /* double fault and NMI: a stack that is good whatever happened */

#define GDT_ENTRIES    8

static struct gate idt[256];
static const u64 gdt_template[GDT_ENTRIES] = {
    0,
    0x00af9b000000ffff, /* KERNEL_CS */
    0x00cf93000000ffff, /* KERNEL_DS */
    0, /* SYSRET would count from here; no 32-bit code, whose SYSCALL goes elsewhere */
    0x00cff3000000ffff, /* USER_DS */
    0x00affb000000ffff, /* USER_CS */
    0,
    0, /* TSS_SEL, two slots */
};

static struct tables {
	u64 gdt[GDT_ENTRIES];
	struct tss tss;
} __attribute__((aligned(64))) tables[NR_CPUS];

static u8 fault_stack[4096] __attribute__((aligned(16)));

struct cpu cpus[NR_CPUS];
unsigned nr_cpus = 1;

extern char vector_stubs[];

static void set_gate(unsigned vector, u8 ist, u8 dpl)
{
	u64 entry = (u64)vector_stubs + 16UL * vector;

	idt[vector] = (struct gate){
	    .offset_low = (u16)entry,
	    .selector = KERNEL_CS,
	    .ist = ist,
	    .type = (u8)(GATE_INTERRUPT | dpl << 5),
	    .offset_mid = (u16)(entry >> 16),
	    .offset_high = (u32)(entry >> 32),
	};
}

void idt_enable_vector(unsigned vector)
{
	set_gate(vector, 0, 0);
}

void cpu_set_kernel_stack(u64 top)
{
	this_cpu()->kernel_rsp = top;
	tables[this_cpu()->id].tss.rsp[0] = top;
}

static void load_tables(const struct tables *t)
{
	struct table_ptr gdtr = {sizeof(t->gdt) - 1, (u64)t->gdt};
	struct table_ptr idtr = {sizeof(idt) - 1, (u64)idt};

	__asm__ volatile("lgdt %0" ::"m"(gdtr));
	__asm__ volatile("lidt %0" ::"m"(idtr));
	__asm__ volatile("ltr %w0" ::"r"(TSS_SEL));
}

void cpu_init_secondary(struct cpu *cpu, u64 fault_stack_top)
{
	struct tables *t = &tables[cpu - cpus];
	u64 base = (u64)&t->tss;

	cpu->self = cpu;
	cpu->id = (unsigned)(cpu - cpus);
	wrmsr(MSR_GS_BASE, (u64)cpu);

	memcpy(t->gdt, gdt_template, sizeof(t->gdt));
	t->gdt[TSS_SEL / 8] = (sizeof(t->tss) - 1) | (base & 0xffffff) << 16 | 0x89UL << 40 |
			      (base >> 24 & 0xff) << 56;
	t->gdt[TSS_SEL / 8 + 1] = base >> 32;
	t->tss.ist[IST_FAULT - 1] = fault_stack_top;
	/* Past the limit: user mode gets no port at all. */
	t->tss.iomap_base = sizeof(t->tss);
	load_tables(t);
}

void cpu_init(void)
{
	for (unsigned v = 0; v < VEC_EXCEPTIONS; v++)
		set_gate(v, v == VEC_DOUBLE_FAULT || v == VEC_NMI ? IST_FAULT : 0,
			 v == VEC_BREAKPOINT || v == VEC_OVERFLOW ? 3 : 0);
	cpu_init_secondary(&cpus[0], (u64)fault_stack + sizeof(fault_stack));
}

void machine_ready(void)
{
	outb(FOAL_PORT_READY, 1);
}

void machine_exit(u8 status)
{
	outb(FOAL_PORT_EXIT, status);
	for (;;)
		__asm__ volatile("cli; hlt");
}
