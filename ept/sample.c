#include "ept/sample.h"

#include "ept/handlers.h"

/* Of what a vCPU is asked for: nothing; being written down; to be answered. */
enum { ASKED_NOTHING, ASKING, ASKED };

/*
 * The same event once more: the vCPU was kicked while the page was on its way, tried again, and
 * found it not there yet. Never 0.
 */
static uint64_t event_of(const struct ept_request *req)
{
	return req->gpa.v | 4 | (req->flags & EPT_FAULT_PROTECT) | (uint64_t)req->access;
}

/* Nobody waits for anything that is not there or under way. */
static bool brings_nothing(const struct fault *f)
{
	return f->res->kase >= EPT_CASE_SPURIOUS;
}

static void ask(const struct ept_space *space, struct ept_vcpu *vcpu, const struct ept_request *req)
{
	struct ept_sampling *s = &vcpu->sampling;
	int nothing = ASKED_NOTHING;

	if (!__atomic_compare_exchange_n(&s->state, &nothing, ASKING, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return; /* it has not answered the last one */
	s->asked = (struct ept_sample){.at = req->picked_up,
				       .gpa = req->gpa.v & EPT_PAGE_MASK,
				       .vcpu = (uint16_t)(req->vcpu - 1),
				       .access = (uint8_t)req->access};
	__atomic_store_n(&s->state, ASKED, __ATOMIC_RELEASE);
	space->config.kick(__atomic_load_n(&vcpu->tid, __ATOMIC_RELAXED));
}

void ept_sample_fault(struct fault *f)
{
	struct ept_space *space = f->area->space;
	const struct ept_request *req = f->req;

	if (!space->config.sample_every || !req->vcpu || f->looked_at)
		return;
	struct ept_vcpu *vcpu = &space->vcpus[req->vcpu - 1];
	struct ept_sampling *s = &vcpu->sampling;
	f->looked_at = true;
	if (__atomic_load_n(&s->kicked, __ATOMIC_RELAXED) == event_of(req)) {
		__atomic_fetch_add(&s->refaults, 1, __ATOMIC_RELAXED);
		return;
	}
	__atomic_store_n(&s->kicked, 0, __ATOMIC_RELAXED);
	if (brings_nothing(f))
		return;
	uint64_t faults = __atomic_add_fetch(&s->faults, 1, __ATOMIC_RELAXED);
	if (faults % space->config.sample_every)
		return;
	__atomic_fetch_add(&s->kicks, 1, __ATOMIC_RELAXED);
	__atomic_store_n(&s->kicked, event_of(req), __ATOMIC_RELAXED);
	ask(space, vcpu, req);
}

/* --- the vCPU's thread ---------------------------------------------------------------------- */

void ept_vcpu_enters(struct ept_space *space, unsigned vcpu)
{
	struct ept_sampling *s = &space->vcpus[vcpu].sampling;
	int asked = ASKED;

	if (__atomic_load_n(&s->state, __ATOMIC_RELAXED) == ASKED)
		__atomic_compare_exchange_n(&s->state, &asked, ASKED_NOTHING, false,
					    __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

bool ept_vcpu_asked(const struct ept_space *space, unsigned vcpu)
{
	return __atomic_load_n(&space->vcpus[vcpu].sampling.state, __ATOMIC_ACQUIRE) == ASKED;
}

void ept_vcpu_sampled(struct ept_space *space, unsigned vcpu, uint64_t rip, unsigned cpl,
		      bool exact)
{
	struct ept_sampling *s = &space->vcpus[vcpu].sampling;
	struct ept_sample sample = s->asked;

	__atomic_store_n(&s->state, ASKED_NOTHING, __ATOMIC_RELEASE);
	sample.rip = rip;
	sample.cpl = (uint8_t)cpl;
	sample.exact = exact;
	__atomic_fetch_add(&s->taken, 1, __ATOMIC_RELAXED);
	if (space->log.map)
		ept_fault_log_put_sample(&space->log, &sample);
}

bool ept_space_sampling(const struct ept_space *space, struct ept_sampling_stats *out)
{
	*out = (struct ept_sampling_stats){.every = space->config.sample_every};
	for (unsigned i = 0; i < space->config.vcpus; i++) {
		const struct ept_sampling *s = &space->vcpus[i].sampling;

		out->faults += __atomic_load_n(&s->faults, __ATOMIC_RELAXED);
		out->kicks += __atomic_load_n(&s->kicks, __ATOMIC_RELAXED);
		out->taken += __atomic_load_n(&s->taken, __ATOMIC_RELAXED);
		out->refaults += __atomic_load_n(&s->refaults, __ATOMIC_RELAXED);
	}
	return out->every;
}
