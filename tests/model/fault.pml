/*
 * The protocol of a fault as ept/fault.c and docs/locking.md state it, for one page of a
 * shared file (the kind with the most states), by two vCPUs, two fault threads, write-back
 * and a device; with RECLAIM instead of that, reclaim of a clean page, and a host that
 * drops its entry without telling anybody. One more actor is a proctype.
 *
 * Modelled: the page's entry in the mirror, the leaf's lock, the host's entry with its
 * write protection, userfaultfd's two queues (waiters with an event not read yet, and
 * read ones), the wake behind each install, when the lock is dropped, and the file.
 *
 * Properties: no wake is lost and nothing deadlocks (every vCPU comes to its end: an
 * invalid end state otherwise), no page is installed twice, the host never lets through
 * what the mirror does not know of, and no write is lost to write-back.
 *
 * BREAK_x plants a fault that must be found:
 *   BREAK_SPURIOUS  what is granted already is not put back and not woken (with RECLAIM)
 *   BREAK_TRANSIT   bring_in forgets that it was reading: the next one reads, too
 *   BREAK_ORDER     write-back writes before it protects
 *   BREAK_WAKE      who installs wakes nobody
 *   BREAK_LOCK      the entry is changed after the leaf's lock was dropped
 */
#define NONE 0
#define TRANSIT 1
#define CLEAN 2
#define DIRTY 3

#define VCPUS 2
/* Touches of each vCPU: as many as make every pair of cases meet, and end in a minute. */
#ifdef RECLAIM
#define ROUNDS(vcpu) 1
#else
#define ROUNDS(vcpu) (2 - (vcpu))
#endif

byte entry = NONE;	    /* the mirror */
bool present = false;	    /* the host's entry, */
bool writable = false;	    /* and whether a write is let through */
bool cached = false;	    /* the object's page is in its cache */
bool leaf = false;	    /* the leaf's lock */

/* A waiter of userfaultfd: asleep until the range is woken. */
bool asleep[VCPUS];
bool event[VCPUS];	    /* not read yet; a wake takes it away */
bool wants_write[VCPUS];

byte version = 0;	    /* of the page: a write makes a new one */
byte on_disk = 0;
byte installs = 0;	    /* since the host's entry was last gone */
byte reads = 0;
byte done = 0;		    /* actors that came to their end */

#define LOCK(l) atomic { !l -> l = true }
#define UNLOCK(l) l = false

/* The kernel: whoever is queued in the range comes back and looks again. */
inline wake() {
	atomic {
		d_step {
			asleep[0] = false; event[0] = false;
			asleep[1] = false; event[1] = false
		}
	}
}

inline install(may_write) {
	d_step {
		if
		:: present -> skip /* EEXIST */
		:: else -> present = true; writable = may_write; installs++
		fi
	}
	assert(installs <= 1)
}

/* Hardware, and the kernel's page fault: let through, or queue with an event. */
inline touch(me, write) {
	do
	:: atomic {
		present && (!write || writable) ->
		if
		:: write -> version++; assert(entry == DIRTY || leaf)
		:: else -> assert(cached)
		fi;
		break
	   }
	:: atomic {
		!(present && (!write || writable)) ->
		wants_write[me] = write; asleep[me] = true; event[me] = true
	   };
	   !asleep[me] /* wait to be woken */
	od
}

proctype vcpu(byte me) {
	byte round = 0;
	bool write;

	do
	:: round < ROUNDS(me) ->
		if
		:: write = true
		:: write = false
		fi;
		touch(me, write);
		round++
	:: else -> break
	od;
	done++
}

/* handle_ept_fault() with the leaf locked; leaves it unlocked. */
inline bring_in() {
	if
	:: !cached ->
#ifndef BREAK_TRANSIT
		entry = TRANSIT;
#endif
		UNLOCK(leaf);
		reads++;
		cached = true; /* the read */
		LOCK(leaf);
#ifndef BREAK_TRANSIT
		entry = NONE
#else
		skip
#endif
	:: else -> skip
	fi
}

inline resolve(write, is_event) {
	LOCK(leaf);
	if
	:: entry == TRANSIT -> /* the one who reads wakes: its install comes after our look */
		UNLOCK(leaf)
	:: entry == NONE ->
		bring_in();
#ifdef BREAK_LOCK
		UNLOCK(leaf);
		install(write);
		wake();
		entry = (write -> DIRTY : CLEAN)
#else
		install(write);
		entry = (write -> DIRTY : CLEAN);
		UNLOCK(leaf);
#ifndef BREAK_WAKE
		wake()
#else
		skip
#endif
#endif
	:: entry == CLEAN && write ->
		d_step { /* protection off, for a page that is there */
			if :: present -> writable = true :: else -> skip fi
		};
		entry = DIRTY;
		UNLOCK(leaf);
		wake()
	:: (entry == CLEAN && !write) || entry == DIRTY -> /* spurious: granted already */
		if
		:: is_event ->
#ifndef BREAK_SPURIOUS
			/* put back what the host may have dropped, and wake */
			install(entry == DIRTY);
			d_step { if :: entry == DIRTY && present -> writable = true :: else -> skip fi };
			UNLOCK(leaf);
			wake()
#else
			UNLOCK(leaf)
#endif
		:: else -> UNLOCK(leaf)
		fi
	fi
}

active [2] proctype fault_thread() {
	bool write;

end:	do
	:: atomic { event[0] -> event[0] = false; write = wants_write[0] };
	   resolve(write, true)
	:: atomic { event[1] -> event[1] = false; write = wants_write[1] };
	   resolve(write, true)
	od
}

/* A device writes the page: the same way, but nobody sleeps on it; transit is waited for. */
proctype device() {
	do
	:: resolve(true, false);
	   if
	   :: entry == TRANSIT -> entry != TRANSIT /* ept_leaf.arrived */
	   :: else -> break
	   fi
	od;
	done++
}

/* ept_area_sync(). */
proctype write_back() {
	byte round = 0, copy;
	bool taken;

	do
	:: round < 1 ->
		LOCK(leaf);
		taken = (entry == DIRTY);
#ifdef BREAK_ORDER
		copy = version;
#endif
		if
		:: taken ->
#ifdef BREAK_ORDER
			UNLOCK(leaf);
			LOCK(leaf);
			if :: entry == DIRTY -> skip :: else -> taken = false fi;
#endif
			d_step { writable = false; entry = CLEAN }
		:: else -> skip
		fi;
		UNLOCK(leaf);
		if
		:: taken ->
#ifndef BREAK_ORDER
			copy = version;
#endif
			on_disk = copy
		:: else -> skip
		fi;
		round++
	:: else -> break
	od;
	done++
}

#ifdef RECLAIM
/* The host takes a clean page's entry away, under the leaf's lock as ept/ would. */
proctype reclaim() {
	LOCK(leaf);
	if
	:: entry == CLEAN ->
		d_step { present = false; writable = false; installs = 0; entry = NONE }
	:: else -> skip
	fi;
	UNLOCK(leaf);
	done++
}
/* And without telling anybody, an entry that the mirror still calls installed. */
proctype host_drops() {
	d_step { present = false; writable = false; installs = 0 };
	done++
}
#define ACTORS (VCPUS + 3)
#else
#define ACTORS (VCPUS + 2)
#endif

init {
	atomic {
		run vcpu(0); run vcpu(1);
		run write_back();
#ifdef RECLAIM
		run reclaim(); run host_drops()
#else
		run device()
#endif
	}
	done == ACTORS; /* or the verifier reports an invalid end state */
	assert(reads <= 1);
	/* What is not on disk is known to be dirty. */
	leaf == false;
	assert(on_disk == version || entry == DIRTY)
}
