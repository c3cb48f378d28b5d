/*
 * Numbers for seeds of hash tables and the like. They come from the time of the boot, and
 * from the VM generation ID, which the monitor changes whenever the VM may be one of several
 * copies: all else in them is the same. It is looked at for each number: a copy does not wait
 * to be told.
 */
#include "guest/include/random.h"
#include "guest/abi.h"
#include "guest/include/cpu.h"
#include "guest/include/io.h"
#include "guest/include/spinlock.h"

static const volatile u64 *generation; /* two words; NULL: out of reach */
static struct spinlock lock;
static u64 state;

void random_init(void)
{
	state = rdtsc();
	generation = ioremap(FOAL_VMGENID, 2 * sizeof(*generation));
}

static u64 mix(u64 x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9UL;
	x = (x ^ x >> 27) * 0x94d049bb133111ebUL;
	return x ^ x >> 31;
}

u64 random_u64(void)
{
	u64 flags = spin_lock_irqsave(&lock), r;

	state += 0x9e3779b97f4a7c15UL;
	if (generation)
		state = mix(mix(state ^ generation[0]) ^ generation[1]);
	r = mix(state);
	spin_unlock_irqrestore(&lock, flags);
	return r;
}
