/* What becomes of a signal, by its number and its handler. */
#ifndef GUEST_SIGNAL_RULES_H
#define GUEST_SIGNAL_RULES_H

#include "guest/include/process.h"
#include "guest/include/signal.h"

/* What no handler says otherwise about. */
#define SIGNALS_IGNORED \
	(signal_bit(SIGCHLD) | signal_bit(SIGCONT) | signal_bit(SIGURG) | signal_bit(SIGWINCH))
#define SIGNALS_STOPPING \
	(signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU))
/* Of the instruction that comes next: before what others sent. */
#define SIGNALS_OF_FAULTS \
	(signal_bit(SIGSEGV) | signal_bit(SIGBUS) | signal_bit(SIGILL) | signal_bit(SIGTRAP) | \
	 signal_bit(SIGFPE))

static inline u64 handler_of(const struct process *p, int sig)
{
	return p->action[sig - 1].handler;
}

/* Nothing ends init that it did not ask for, but its own faults. */
static inline bool ignores(const struct process *p, int sig)
{
	if (handler_of(p, sig) == SIG_DFL)
		return signal_bit(sig) & SIGNALS_IGNORED || p->pid == INIT_PID;
	return handler_of(p, sig) == SIG_IGN;
}

static inline bool ends(const struct process *p, int sig)
{
	return handler_of(p, sig) == SIG_DFL &&
	       !(signal_bit(sig) & (SIGNALS_IGNORED | SIGNALS_STOPPING));
}

/* --- kernel/signal.c -------------------------------------------------------------------------- */

/* Woken when a process that was stopped goes on. */
extern struct wait_queue signal_continued;

/* The parent hears that it stopped or goes on. */
void signal_tell_parent(struct process *p, int code, int status);

#endif
