/*
 * How fast a replayed guest goes. Only what is read ahead of it makes that matter, so only then
 * does it take any time. It computes where a guest does, and rests where a fault keeps a vCPU
 * asleep: who never rests is put off by a busy host for longer than a guest is, and finds more of
 * what is read ahead.
 */
#include <sys/prctl.h>
#include <time.h>

#include "vmm/replay.h"
#include "vmm/vm.h"

#define LATE_NS	     40000.0  /* of a nap, before any was taken */
#define LATE_STEP_NS 1000.0   /* and how fast that is learnt */
#define NAP_NS	     100000.0 /* at most: what comes may have come by then */
#define SHARP	     1UL      /* ns; no sleep is drawn out to save wake-ups */
#define AS_BEFORE    0UL

void replay_guest_begin(struct replay_guest *guest, const struct replay_pace *pace, uint64_t since)
{
	*guest =
	    (struct replay_guest){.pace = *pace, .late = LATE_NS, .recorded_end = (double)since};
	guest->ready = (double)now_ns();
	prctl(PR_SET_TIMERSLACK, SHARP);
}

void replay_guest_end(void)
{
	prctl(PR_SET_TIMERSLACK, AS_BEFORE);
}

/*
 * A fault's way is a mean. The faults that came sooner than that pay for those that came later, or
 * the sum of all would be too long.
 */
double replay_guest_between(struct replay_guest *guest, const struct ept_record *record)
{
	double before = guest->recorded_end, own;

	if (before > 0)
		guest->own += (double)record->at - before - guest->pace.way;
	if (replay_end_of(record) > before)
		guest->recorded_end = replay_end_of(record);
	own = guest->own > 0 ? guest->own : 0;
	guest->own -= own;
	return own;
}

void replay_guest_takes(struct replay_guest *guest, double ns)
{
	guest->ready += ns / guest->pace.slower;
}

bool replay_guest_busy(const struct replay_guest *guest)
{
	return (double)now_ns() < guest->ready;
}

void replay_guest_resumes(struct replay_guest *guest)
{
	guest->ready = (double)now_ns();
	replay_guest_takes(guest, guest->pace.way);
}

/* Sleeps are late: by how much, half of the time more and half of it less, is found out. */
bool replay_guest_naps(struct replay_guest *guest)
{
	double now = (double)now_ns(), until = guest->ready;
	struct timespec at;

	until = until < now + NAP_NS ? until : now + NAP_NS;
	if (until - guest->late <= now)
		return false;
	at.tv_sec = (time_t)((until - guest->late) / 1e9);
	at.tv_nsec = (long)(until - guest->late - (double)at.tv_sec * 1e9);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
	guest->late += (double)now_ns() > until ? LATE_STEP_NS : -LATE_STEP_NS;
	return true;
}
