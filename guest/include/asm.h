/* Constants that assembly and C share. Intel SDM volume 3, sections 2.5, 4.5, 5.8.8. */
#ifndef GUEST_ASM_H
#define GUEST_ASM_H

#define XEN_ELFNOTE_PHYS32_ENTRY 18

#define CR0_PE			 0x1
#define CR0_MP			 0x2
#define CR0_ET			 0x10
#define CR0_NE			 0x20
#define CR0_WP			 0x10000
#define CR0_PG			 0x80000000

#define CR4_PAE			 0x20
#define CR4_MCE			 0x40
#define CR4_PGE			 0x80
#define CR4_OSFXSR		 0x200
#define CR4_OSXMMEXCPT		 0x400

#define MSR_EFER		 0xc0000080
#define MSR_GS_BASE		 0xc0000101
#define EFER_SCE		 0x1
#define EFER_LME		 0x100
#define EFER_NXE		 0x800

/* Where other CPUs start, in real mode: below what the page allocator has. */
#define TRAMPOLINE		 0x8000

/* Selectors, in the order that SYSCALL and SYSRET want. */
#define KERNEL_CS		 0x08
#define KERNEL_DS		 0x10
#define USER_DS			 0x23
#define USER_CS			 0x2b
#define TSS_SEL			 0x30

/* Page table entries. */
#define PTE_PRESENT		 0x1
#define PTE_WRITE		 0x2
#define PTE_USER		 0x4
#define PTE_PWT			 0x8
#define PTE_PCD			 0x10
#define PTE_ACCESSED		 0x20
#define PTE_DIRTY		 0x40
#define PTE_HUGE		 0x80
#define PTE_GLOBAL		 0x100
#define PTE_KERNEL_RWX		 (PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY)

#ifdef __ASSEMBLER__
#	define KERNEL_BASE 0xffffffff80000000
#endif

#endif
