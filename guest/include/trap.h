/* Traps: what the entry code saves, and the handlers behind it. */
#ifndef GUEST_TRAP_H
#define GUEST_TRAP_H

#include "guest/include/types.h"

enum vector {
	VEC_DIVIDE = 0,
	VEC_DEBUG = 1,
	VEC_NMI = 2,
	VEC_BREAKPOINT = 3,
	VEC_OVERFLOW = 4,
	VEC_INVALID_OP = 6,
	VEC_DOUBLE_FAULT = 8,
	VEC_STACK = 12,
	VEC_GENERAL_PROTECTION = 13,
	VEC_PAGE_FAULT = 14,
	VEC_X87 = 16,
	VEC_ALIGNMENT = 17,
	VEC_MACHINE_CHECK = 18,
	VEC_SIMD = 19,
	VEC_EXCEPTIONS = 32,
	VEC_IRQ_FIRST = 0x30, /* one for each requested IOAPIC pin */
	VEC_IRQ_LAST = 0xdf,
	VEC_TIMER = 0xef,
	VEC_STOP = 0xfb,
	VEC_CALL_FUNCTION = 0xfc,
	VEC_RESCHEDULE = 0xfd, /* to come by is all */
	VEC_SPURIOUS = 0xff,
};

#define VECTOR_SYSCALL (~0UL)

/* The frame that every entry builds on the kernel stack; the last five are the CPU's. */
struct regs {
	u64 r15, r14, r13, r12, rbp, rbx;
	u64 r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
	u64 vector; /* system calls: VECTOR_SYSCALL; 0 once one is not to be made again */
	u64 error;  /* error code; system calls: the number */
	u64 rip, cs, rflags, rsp, ss;
};

static inline bool user_mode(const struct regs *regs)
{
	return regs->cs & 3;
}

/* Page fault error code (Intel SDM volume 3, section 4.7). */
#define PF_PRESENT  0x1 /* a protection breach; else not present */
#define PF_WRITE    0x2
#define PF_USER	    0x4
#define PF_RESERVED 0x8 /* reserved bit set in an entry */
#define PF_FETCH    0x10

/* From entry.S, interrupts off. */
void trap_dispatch(struct regs *regs);

/* The last steps before user mode, interrupts off: another task's turn, signals, its end. */
void exit_to_user(struct regs *regs);

/* The page fault handler, interrupts off, %cr2 not yet read. */
void exc_page_fault(struct regs *regs);

/* The machine check handler, interrupts off. */
void exc_machine_check(struct regs *regs);

/* If an exception table entry covers rip, goes on at its fixup. */
bool fixup_exception(struct regs *regs);
bool is_fixup_ip(u64 rip);

/* Prints what is known about a kernel that went wrong and exits 70. */
void oops(const char *what, const struct regs *regs, u64 addr) __attribute__((noreturn));

void dump_regs(const struct regs *regs);
void dump_stack(u64 rbp);
/* The page table entries on the way to addr, from the tables CR3 points to. */
void dump_page_walk(u64 addr);

#endif
