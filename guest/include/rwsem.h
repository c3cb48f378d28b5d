/*
 * A lock that many may read under, or one write; both may sleep with it. Process context only; not
 * recursive. Who waits to write keeps later readers out, or those would never let him in.
 */
#ifndef GUEST_RWSEM_H
#define GUEST_RWSEM_H

#include "guest/include/sched.h"
#include "guest/include/spinlock.h"

struct rwsem {
	struct spinlock lock; /* the two below */
	s32 holders;	      /* readers, or -1: a writer */
	u32 writers_waiting;
	struct wait_queue wait;
};

static inline void rwsem_init(struct rwsem *sem)
{
	*sem = (struct rwsem){0};
	wait_queue_init(&sem->wait);
}

static inline bool down_read_trylock(struct rwsem *sem)
{
	bool taken;

	spin_lock(&sem->lock);
	taken = sem->holders >= 0 && !sem->writers_waiting;
	sem->holders += taken;
	spin_unlock(&sem->lock);
	return taken;
}

static inline void down_read(struct rwsem *sem)
{
	wait_event(sem->wait, down_read_trylock(sem));
}

static inline void up_read(struct rwsem *sem)
{
	spin_lock(&sem->lock);
	sem->holders--;
	spin_unlock(&sem->lock);
	wake_up(&sem->wait);
}

/* For one that counts in writers_waiting, which ends with it. */
static inline bool take_write(struct rwsem *sem)
{
	bool taken;

	spin_lock(&sem->lock);
	taken = !sem->holders;
	if (taken) {
		sem->holders = -1;
		sem->writers_waiting--;
	}
	spin_unlock(&sem->lock);
	return taken;
}

static inline void down_write(struct rwsem *sem)
{
	spin_lock(&sem->lock);
	sem->writers_waiting++;
	spin_unlock(&sem->lock);
	wait_event(sem->wait, take_write(sem));
}

/* The writer is a reader from here on: nobody wrote in between. */
static inline void downgrade_write(struct rwsem *sem)
{
	spin_lock(&sem->lock);
	sem->holders = 1;
	spin_unlock(&sem->lock);
	wake_up(&sem->wait);
}

static inline void up_write(struct rwsem *sem)
{
	spin_lock(&sem->lock);
	sem->holders = 0;
	spin_unlock(&sem->lock);
	wake_up(&sem->wait);
}

#endif
