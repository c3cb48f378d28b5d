#include "vmm/debt.h"

#include "vmm/vm.h"

void debt_ready(struct vm_debt *debt, const struct ept_space *space)
{
	struct ept_debt_stats stats;

	if (atomic_exchange(&debt->said, true))
		return;
	ept_space_debt(space, &stats);
	ept_debt_all(&stats, &debt->ready);
	atomic_store_explicit(&debt->is_ready, true, memory_order_release);
}

bool debt_was_ready(const struct vm_debt *debt, struct ept_debt_point *out)
{
	if (!atomic_load_explicit(&debt->is_ready, memory_order_acquire))
		return false;
	*out = debt->ready;
	return true;
}

void debt_begin(struct vm_debt *debt)
{
	debt->begun = now_ns();
	debt->due = debt->begun + DEBT_FIRST_NS;
}

uint64_t debt_due(const struct vm_debt *debt)
{
	return debt->due ? debt->due : UINT64_MAX;
}

void debt_look(struct vm_debt *debt, uint64_t start, uint64_t fixed)
{
	unsigned count = atomic_load_explicit(&debt->count, memory_order_relaxed);
	uint64_t now = now_ns(), age = now - debt->begun;
	uint64_t step = age / (age < DEBT_SPARSE_NS ? 2 : 5);

	if (count && debt->look[count - 1].fixed == fixed)
		step *= DEBT_QUIET;
	debt->look[count] = (struct debt_look){.ns = now - start, .fixed = fixed};
	atomic_store_explicit(&debt->count, ++count, memory_order_release);
	debt->due = count < DEBT_LOOKS ? now + step : 0;
}

struct debt_look debt_by(const struct vm_debt *debt, uint64_t all, uint64_t now, unsigned percent)
{
	unsigned count = atomic_load_explicit(&debt->count, memory_order_acquire);

	for (unsigned i = 0; i < count; i++)
		if (debt->look[i].fixed * 100 >= all * percent)
			return debt->look[i];
	/* The last look may be newer than the caller's clock. */
	if (count && debt->look[count - 1].ns > now)
		now = debt->look[count - 1].ns;
	return (struct debt_look){.ns = now, .fixed = all};
}
