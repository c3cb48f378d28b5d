#include "vmm/bus_error.h"

#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

#include "vmm/console.h"
#include "vmm/vm.h"

/* For the handler, which has nothing else to go by. */
static struct ept_space *_Atomic guest_memory;

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	struct ept_space *space = atomic_load(&guest_memory);
	ucontext_t *interrupted = context;

	if (memory_error_signal(info))
		return;
	if (space && ept_space_bus_error(space, info))
		return;
	console_restore();
	/*
	 * The sandbox lets nobody change what the signal does. A fault whose signal is
	 * blocked ends the process by it (signal(7)); one that was sent comes back as
	 * another that nobody handles twice.
	 */
	sigaddset(&interrupted->uc_sigmask, signal);
	if (info->si_code <= 0)
		raise(SIGABRT);
}

void bus_error_catch(struct ept_space *space)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	atomic_store(&guest_memory, space);
	sigemptyset(&action.sa_mask);
	if (space)
		sigaction(SIGBUS, &action, NULL);
}
