/* What a handler finds on its stack, and what comes back: Linux's layouts for x86-64. */
#include "guest/include/cpu.h"
#include "guest/include/errno.h"
#include "guest/include/page.h"
#include "guest/include/pgtable.h"
#include "guest/include/signal.h"
#include "guest/include/string.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"
#include "guest/include/uaccess.h"

#define RED_ZONE	     128 /* below %rsp, the program's (System V ABI, 3.2.2) */
#define FPU_AREA	     512
#define FPU_ALIGN	     64
#define FPU_MXCSR_AT	     24
#define MXCSR_DEFINED	     0xffffU

#define UC_SIGCONTEXT_SS     2
#define UC_STRICT_RESTORE_SS 4

/* Of %rflags, what a program may have: AC RF OF DF TF SF ZF AF PF CF. */
#define RFLAGS_PROGRAM	     0x50dd5UL
#define RFLAGS_HANDLER	     0x10500UL /* RF, DF and TF are off in a handler */

struct sigcontext {
	u64 r8, r9, r10, r11, r12, r13, r14, r15;
	u64 rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, rflags;
	u16 cs, gs, fs, ss;
	u64 error, trap, oldmask, cr2;
	u64 fpu;
	u64 reserved[8];
};

struct ucontext {
	u64 flags, link;
	struct sigstack stack;
	struct sigcontext context;
	u64 blocked;
};

struct frame {
	u64 restorer;
	struct ucontext uc;
	struct siginfo info;
	u8 rest_of_info[SIGINFO_USER - sizeof(struct siginfo)];
};

static bool on_stack(const struct sigstack *stack, u64 sp)
{
	return sp > stack->sp && sp - stack->sp <= stack->size;
}

struct sigstack signal_stack_now(u64 sp)
{
	struct sigstack stack = current->signals.stack;

	stack.flags = !stack.size ? SS_DISABLE : on_stack(&stack, sp) ? SS_ONSTACK : 0;
	return stack;
}

static void save_context(struct sigcontext *c, const struct regs *regs)
{
	const struct signals *s = &current->signals;

	*c = (struct sigcontext){
	    .r8 = regs->r8,
	    .r9 = regs->r9,
	    .r10 = regs->r10,
	    .r11 = regs->r11,
	    .r12 = regs->r12,
	    .r13 = regs->r13,
	    .r14 = regs->r14,
	    .r15 = regs->r15,
	    .rdi = regs->rdi,
	    .rsi = regs->rsi,
	    .rbp = regs->rbp,
	    .rbx = regs->rbx,
	    .rdx = regs->rdx,
	    .rax = regs->rax,
	    .rcx = regs->rcx,
	    .rsp = regs->rsp,
	    .rip = regs->rip,
	    .rflags = regs->rflags,
	    .cs = USER_CS,
	    .ss = USER_DS,
	    .error = s->error,
	    .trap = s->trap,
	    .cr2 = s->cr2,
	};
}

static void load_context(struct regs *regs, const struct sigcontext *c)
{
	*regs = (struct regs){
	    .r8 = c->r8,
	    .r9 = c->r9,
	    .r10 = c->r10,
	    .r11 = c->r11,
	    .r12 = c->r12,
	    .r13 = c->r13,
	    .r14 = c->r14,
	    .r15 = c->r15,
	    .rdi = c->rdi,
	    .rsi = c->rsi,
	    .rbp = c->rbp,
	    .rbx = c->rbx,
	    .rdx = c->rdx,
	    .rax = c->rax,
	    .rcx = c->rcx,
	    .rsp = c->rsp,
	    .rip = c->rip,
	    .rflags = (c->rflags & RFLAGS_PROGRAM) | RFLAGS_IF | 2,
	    .cs = USER_CS,
	    .ss = USER_DS,
	};
}

/* Where SA_ONSTACK goes, or is already, the frame has to fit: below are the program's data. */
static bool fits(const struct regs *regs, const struct sigaction *action, u64 at)
{
	const struct sigstack *stack = &current->signals.stack;
	bool on = on_stack(stack, regs->rsp) || (action->flags & SA_ONSTACK && stack->size);

	return !on || on_stack(stack, at);
}

static u64 stack_for(const struct regs *regs, const struct sigaction *action)
{
	const struct sigstack *stack = &current->signals.stack;

	if (action->flags & SA_ONSTACK && stack->size && !on_stack(stack, regs->rsp))
		return stack->sp + stack->size;
	return regs->rsp - RED_ZONE;
}

bool signal_frame_push(struct regs *regs, const struct sigaction *action,
		       const struct siginfo *info, u64 blocked)
{
	u64 fpu = ALIGN_DOWN(stack_for(regs, action) - FPU_AREA, FPU_ALIGN);
	u64 at = ALIGN_DOWN(fpu - sizeof(struct frame), 16) - 8;
	struct frame frame = {
	    .restorer = action->restorer,
	    .uc = {.flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS,
		   .stack = signal_stack_now(regs->rsp),
		   .blocked = blocked},
	    .info = *info,
	};

	save_context(&frame.uc.context, regs);
	frame.uc.context.fpu = fpu;
	/* iretq must not meet an address that is not canonical. */
	if (!(action->flags & SA_RESTORER) || action->handler >= USER_END ||
	    !fits(regs, action, at))
		return false;
	fpu_sync();
	if (copy_to_user(fpu, current->fpu, FPU_AREA) || copy_to_user(at, &frame, sizeof(frame)))
		return false;
	regs->rdi = (u64)info->signo;
	regs->rsi = at + offsetof(struct frame, info);
	regs->rdx = at + offsetof(struct frame, uc);
	regs->rax = 0;
	regs->rip = action->handler;
	regs->rsp = at;
	regs->rflags &= ~RFLAGS_HANDLER;
	return true;
}

/* Bits that no processor defines would have FXRSTOR fault: no frame of this kernel's has them. */
static bool load_fpu(u64 from)
{
	u8 area[FPU_AREA] __attribute__((aligned(16)));
	u32 mxcsr;

	if (copy_from_user(area, from, sizeof(area)))
		return false;
	memcpy(&mxcsr, area + FPU_MXCSR_AT, sizeof(mxcsr));
	if (mxcsr & ~MXCSR_DEFINED)
		return false;
	fpu_load(area);
	return true;
}

s64 signal_frame_pop(struct regs *regs)
{
	struct ucontext uc;
	u64 at = regs->rsp - sizeof(u64);

	if (copy_from_user(&uc, at + offsetof(struct frame, uc), sizeof(uc)) ||
	    uc.context.rip >= USER_END || (uc.context.cs | 3) != USER_CS ||
	    (uc.context.fpu && !load_fpu(uc.context.fpu))) {
		signal_force(SIGSEGV, SI_KERNEL, 0);
		return 0;
	}
	if (!(uc.stack.flags & SS_DISABLE))
		current->signals.stack = uc.stack;
	current->signals.blocked = uc.blocked & ~SIGNALS_HARD;
	load_context(regs, &uc.context);
	return (s64)regs->rax;
}
