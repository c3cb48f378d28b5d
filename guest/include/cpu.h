/* The processor: its registers, descriptor tables and what one CPU owns. */
#ifndef GUEST_CPU_H
#define GUEST_CPU_H

#include "guest/include/asm.h"
#include "guest/include/counters.h"
#include "guest/include/types.h"

#define MSR_APIC_BASE	 0x1b
#define MSR_STAR	 0xc0000081
#define MSR_LSTAR	 0xc0000082
#define MSR_SYSCALL_MASK 0xc0000084
#define MSR_FS_BASE	 0xc0000100

static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return (u64)hi << 32 | lo;
}

static inline void wrmsr(u32 msr, u64 v)
{
	__asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)v), "d"((u32)(v >> 32)) : "memory");
}

/* The same for a register that may not take the value: false if the CPU refused. */
static inline bool wrmsr_safe(u32 msr, u64 v)
{
	u32 refused = 1;

	__asm__ volatile("1: wrmsr\n"
			 "   xorl %0, %0\n"
			 "2:\n"
			 ".pushsection .extable, \"a\"\n"
			 ".quad 1b, 2b\n"
			 ".popsection"
			 : "+r"(refused)
			 : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32))
			 : "memory");
	return !refused;
}

struct cpuid {
	u32 eax, ebx, ecx, edx;
};

static inline struct cpuid cpuid(u32 leaf)
{
	struct cpuid r;

	__asm__ volatile("cpuid"
			 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
			 : "0"(leaf), "2"(0));
	return r;
}

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
	return (u64)hi << 32 | lo;
}

static inline u64 read_cr2(void)
{
	u64 v;

	__asm__ volatile("movq %%cr2, %0" : "=r"(v));
	return v;
}

static inline u64 read_cr3(void)
{
	u64 v;

	__asm__ volatile("movq %%cr3, %0" : "=r"(v));
	return v;
}

static inline void write_cr3(u64 v)
{
	__asm__ volatile("movq %0, %%cr3" ::"r"(v) : "memory");
}

static inline u64 read_cr4(void)
{
	u64 v;

	__asm__ volatile("movq %%cr4, %0" : "=r"(v));
	return v;
}

static inline void write_cr4(u64 v)
{
	__asm__ volatile("movq %0, %%cr4" ::"r"(v) : "memory");
}

static inline void invlpg(u64 addr)
{
	__asm__ volatile("invlpg (%0)" ::"r"(addr) : "memory");
}

struct mm;
struct regs;
struct task;

#define NR_CPUS 8

/* What one CPU owns, and finds through GS; the assembly entry knows the first fields' offsets. */
struct cpu {
	struct cpu *self;
	u64 user_rsp;	   /* scratch for the system call entry */
	u64 kernel_rsp;	   /* top of the running task's kernel stack */
	struct task *task; /* current */
	struct task *idle;
	struct task *switched_from;
	struct mm *mm; /* loaded; NULL: the kernel's own */
	unsigned id;   /* in cpus */
	u32 apic_id;
	bool need_resched;
	u32 irq_depth;		/* interrupt handlers running */
	struct task *fpu_owner; /* whose state the FPU holds; the kernel never uses it */
	u64 slice_end, armed;	/* ktime; armed 0: no timer */
	u64 charged;		/* ktime: what its task ran before is counted, or nobody's */
	bool irq_user;		/* the last interrupt came in user mode */
	struct fault_counts faults;
} __attribute__((aligned(64)));

extern struct cpu cpus[NR_CPUS]; /* the first nr_cpus run */
extern unsigned nr_cpus;

/* Of the CPU that asks: another one's after the next time that the task sleeps. */
static inline struct cpu *this_cpu(void)
{
	struct cpu *cpu;

	__asm__ volatile("movq %%gs:0, %0" : "=r"(cpu));
	return cpu;
}

/* Of the task that asks, wherever it runs: the compiler may keep it. */
static inline struct task *get_current(void)
{
	struct task *task;

	__asm__("movq %%gs:%c1, %0" : "=r"(task) : "i"(__builtin_offsetof(struct cpu, task)));
	return task;
}

/* The IDT; and of the boot's CPU what cpu_init_secondary() makes of the others. */
void cpu_init(void);
/* GDT and TSS of the CPU that calls, which is this one from now on. */
void cpu_init_secondary(struct cpu *cpu, u64 fault_stack_top);

/* Machine checks are taken from here on, if there are any. */
void mce_init(void);

/* LSTAR and its company: system calls work from here on. */
void syscall_init(void);
/* The same of a CPU that came later. */
void syscall_init_secondary(void);

/* The kernel stack that entries from user mode start on. */
void cpu_set_kernel_stack(u64 top);

/* Points the vector at its entry stub. */
void idt_enable_vector(unsigned vector);

/* Switches stacks; returns when *prev is switched to again. */
void switch_stacks(u64 *prev_rsp, u64 next_rsp);

/* Where a new task's first switch_stacks returns to. */
extern char task_start[];

/* The 512-byte area, 16-byte aligned, of the FXSAVE format. */
static inline void fpu_save(void *area)
{
	__asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
}

static inline void fpu_restore(const void *area)
{
	__asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
}

/* Ends the machine: the byte to the exit port, for ever after halted. */
void machine_exit(u8 status) __attribute__((noreturn));
/* The monitor is told that the machine is up (guest/abi.h). */
void machine_ready(void);

#endif
