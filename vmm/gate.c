#include "vmm/gate.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Far enough below 0 for all that may still arrive or be expected. */
#define BROKEN (INT32_MIN / 2)

void gate_init(struct gate *gate, int32_t expected)
{
	atomic_init(&gate->missing, expected);
}

void gate_expect(struct gate *gate)
{
	int32_t missing = atomic_load(&gate->missing);

	while (missing > 0 && !atomic_compare_exchange_weak(&gate->missing, &missing, missing + 1))
		;
}

static void wake(struct gate *gate)
{
	syscall(SYS_futex, &gate->missing, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void gate_arrive(struct gate *gate)
{
	if (atomic_fetch_sub(&gate->missing, 1) == 1)
		wake(gate);
}

void gate_break(struct gate *gate)
{
	atomic_store(&gate->missing, BROKEN);
	wake(gate);
}

void gate_wait(struct gate *gate)
{
	int32_t missing;

	while ((missing = atomic_load(&gate->missing)) > 0)
		syscall(SYS_futex, &gate->missing, FUTEX_WAIT_PRIVATE, missing, NULL, NULL, 0);
}
