/* Ports and device registers. */
#ifndef GUEST_IO_H
#define GUEST_IO_H

#include "guest/include/types.h"

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}

static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

/* Plain moves: a monitor decodes device accesses, and these are the forms all of them know. */
static inline u32 readl(const volatile void *addr)
{
	u32 v;

	__asm__ volatile("movl %1, %0" : "=r"(v) : "m"(*(const volatile u32 *)addr) : "memory");
	return v;
}

static inline void writel(u32 v, volatile void *addr)
{
	__asm__ volatile("movl %0, %1" ::"r"(v), "m"(*(volatile u32 *)addr) : "memory");
}

static inline u8 readb(const volatile void *addr)
{
	u8 v;

	__asm__ volatile("movb %1, %0" : "=q"(v) : "m"(*(const volatile u8 *)addr) : "memory");
	return v;
}

static inline void writeb(u8 v, volatile void *addr)
{
	__asm__ volatile("movb %0, %1" ::"q"(v), "m"(*(volatile u8 *)addr) : "memory");
}

/*
 * An uncached mapping of len bytes of device registers at phys (any alignment), never unmapped.
 * NULL if the range wraps or mapping space or memory for tables is out. For boot and probing:
 * process context only. RAM and persistent memory need none: phys_to_virt.
 */
void *ioremap(u64 phys, u64 len);

#endif
