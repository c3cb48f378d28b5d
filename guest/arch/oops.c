/* What is printed when the kernel itself went wrong. */
#include "guest/include/console.h"
#include "guest/include/cpu.h"
#include "guest/include/pgtable.h"
#include "guest/include/printk.h"
#include "guest/include/smp.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"

#define TRACE_DEPTH 16

extern char kernel_start[], text_end[];
extern u8 boot_stack[];

void dump_regs(const struct regs *r)
{
	printk("rip %016lx cs %lx rflags %lx rsp %016lx ss %lx error %lx\n", r->rip, r->cs,
	       r->rflags, r->rsp, r->ss, r->error);
	printk("rax %016lx rbx %016lx rcx %016lx rdx %016lx\n", r->rax, r->rbx, r->rcx, r->rdx);
	printk("rsi %016lx rdi %016lx rbp %016lx r8  %016lx\n", r->rsi, r->rdi, r->rbp, r->r8);
	printk("r9  %016lx r10 %016lx r11 %016lx r12 %016lx\n", r->r9, r->r10, r->r11, r->r12);
	printk("r13 %016lx r14 %016lx r15 %016lx cr3 %016lx\n", r->r13, r->r14, r->r15, read_cr3());
}

/* Two words of a frame at rbp lie on the running task's stack. */
static bool on_stack(u64 rbp)
{
	u64 base = current ? (u64)current->stack : (u64)boot_stack;

	return !(rbp & 7) && rbp >= base && rbp <= base + TASK_STACK - 16;
}

/* Follows frame pointers, upwards only. */
void dump_stack(u64 rbp)
{
	printk("call trace:");
	for (unsigned i = 0; i < TRACE_DEPTH && on_stack(rbp); i++) {
		u64 next = ((u64 *)rbp)[0], ret = ((u64 *)rbp)[1];

		if (ret < (u64)kernel_start || ret >= (u64)text_end)
			break;
		printk(" %lx", ret);
		if (next <= rbp)
			break;
		rbp = next;
	}
	printk("\n");
}

void dump_page_walk(u64 addr)
{
	static const char *const names[] = {"pte", "pmd", "pud", "pgd"};
	const u64 *table = phys_to_virt(pte_phys(read_cr3()));

	printk("walk of %lx:", addr);
	for (unsigned level = 4; level-- > 0;) {
		u64 e = table[table_index(addr, level)];

		printk(" %s %lx", names[level], e);
		if (!pte_present(e) || (e & PTE_HUGE) || pte_phys(e) >> PAGE_SHIFT >= max_pfn)
			break;
		table = phys_to_virt(pte_phys(e));
	}
	printk("\n");
}

void oops(const char *what, const struct regs *regs, u64 addr)
{
	__asm__ volatile("cli");
	smp_send_stop();
	console_break_lock();
	printk("oops: CPU %u: %s", this_cpu()->id, what);
	if (regs->vector == VEC_PAGE_FAULT)
		printk(": %s of %lx",
		       regs->error & PF_FETCH	? "fetch"
		       : regs->error & PF_WRITE ? "write"
						: "read",
		       addr);
	printk("\n");
	if (current)
		printk("task %s[%d]\n", current->name, current->pid);
	dump_regs(regs);
	if (regs->vector == VEC_PAGE_FAULT)
		dump_page_walk(addr);
	dump_stack(regs->rbp);
	panic("%s in the kernel", what);
}
