/* System calls: numbers and arguments are Linux's for x86-64. */
#ifndef GUEST_SYSCALL_H
#define GUEST_SYSCALL_H

#include "guest/include/trap.h"
#include "guest/include/types.h"

/* Runs the call in regs (number rax; rdi rsi rdx r10 r8 r9); its result. Interrupts on. */
s64 syscall_run(struct regs *regs);

/* From entry.S and below: syscall_run between interrupts on and off, result into rax. */
void syscall_dispatch(struct regs *regs);

/* If the exception is a system call in the form of hosts that keep it in ring 3, runs it. */
bool syscall_by_exception(struct regs *regs);

/* The calls, by file: kernel/sys_*.c. */
#define SYSCALL(name) s64 sys_##name(struct regs *regs)

#endif
