/* Exceptions other than page faults, and the ways into the kernel. */
#include "guest/user/check/check.h"

static int divide_by_zero(void)
{
	__asm__ volatile("xorl %%ecx, %%ecx; divl %%ecx" ::: "eax", "ecx", "edx");
	return 0;
}

static int undefined(void)
{
	__asm__ volatile("ud2");
	return 0;
}

static int breakpoint(void)
{
	__asm__ volatile("int3");
	return 0;
}

static int privileged(void)
{
	__asm__ volatile("hlt");
	return 0;
}

static int port_access(void)
{
	__asm__ volatile("outb %%al, %%dx" ::"a"(0), "d"(0xf4));
	return 0;
}

/* The kernel's place for system calls, entered by hand with a return address that cannot be. */
static int wild_entry(void)
{
	__asm__ volatile("movabsq $0x8000000000000000, %%rcx; movq $39, %%rax;"
			 "movabsq $0xffffffffff600000, %%rdx; jmp *%%rdx" ::
			     : "rax", "rcx", "rdx");
	return 0;
}

/* The one 32-bit segment a GDT for SYSRET would hold: a way around the system call entry. */
static int short_segment(void)
{
	__asm__ volatile("pushq $0x1b; leaq 1f(%%rip), %%rax; pushq %%rax; lretq;"
			 ".code32; 1: movl $39, %%eax; syscall; .code64" ::
			     : "rax", "rcx", "r11");
	return 0;
}

const struct check trap_checks[] = {
    {"divide_by_zero", divide_by_zero, SIGFPE}, {"undefined", undefined, SIGILL},
    {"breakpoint", breakpoint, SIGTRAP},	{"privileged", privileged, SIGSEGV},
    {"port_access", port_access, SIGSEGV},	{"wild_entry", wild_entry, SIGSEGV},
    {"short_segment", short_segment, SIGSEGV},	{0},
};
