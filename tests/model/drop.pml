/*
 * The protocol by which a page leaves an object's cache, as ept/object_drop.c states it, between
 * two VMs that use the object (docs/reclaim.md): each has a vCPU that reads it and a fault thread;
 * the first has reclaim, whose hand unmaps it and whose ring's end drops it, and is forked.
 *
 * Modelled: each VM's entry, leaf's lock and host mapping; of the object the lock, the page's bit, the
 * list of reads, the frozen bit and the bytes, which are zeros once they are punched out; who works,
 * and who waits as the space is held.
 *
 * Properties: who has the page mapped finds the file's bytes, the forked child included, as long as it
 * likes; no page is mapped that is not there; what the child's mirror says is mapped is frozen; each vCPU
 * comes to its end (an invalid end state otherwise).
 *
 * BREAK_x plants a fault that must be found:
 *   BREAK_LISTED   the page that is dropped is not listed as being read
 *   BREAK_LOOK     the other VM's entry is not looked at
 *   BREAK_ORDER    the entries are looked at before the bit is cleared
 *   BREAK_SECTION  a fault sees the bit in one critical section and maps in another
 *   BREAK_FROZEN   a frozen page is dropped
 *   BREAK_HELD     a drop goes on while the space is held
 */
#define NONE 0
#define TRANSIT 1
#define FILE 2
#define SAMPLED 3

#define ZEROS 0
#define DATA 1

#define TOUCHES 2 /* of each vCPU */
#define TURNS 2	  /* of reclaim */

byte entry[2];
bool leaf[2];
bool present[2];	  /* mapped: what the guest reads is the object's bytes */
bool asleep[2], event[2];

bool object = false;	  /* its lock */
bool cached = false;
bool reading = false;	  /* listed as being read */
bool frozen = false;
byte bytes = ZEROS;

bool held = false;	  /* the first VM's space */
byte working = 0;	  /* who would change what a fork copies */
bool lives = false;	  /* the child */
byte done = 0;

#define LOCK(l) atomic { !l -> l = true }
#define UNLOCK(l) l = false

/* The second VM's space is never held. */
#define BEGIN(me) atomic { me || !held -> working = working + !me }
#define END(me) atomic { working = working - !me }

proctype vcpu(byte me) {
	byte n = 0;

	do
	:: n < TOUCHES ->
		do
		:: atomic { present[me] -> assert(bytes == DATA); break }
		:: atomic { !present[me] -> asleep[me] = true; event[me] = true };
		   !asleep[me]
		od;
		n++
	:: else -> break
	od;
	done++
}

inline map(me) {
	d_step {
		assert(bytes == DATA);
		entry[me] = FILE;
		present[me] = true
	}
}

inline wake(me) { d_step { asleep[me] = false; event[me] = false } }

/* ept_object_fill(): who reads it, or drops it, is waited for. */
inline fill() {
	do
	:: true ->
		LOCK(object);
		if
		:: cached -> UNLOCK(object); break
		:: !cached && reading -> UNLOCK(object); !reading
		:: else ->
			reading = true;
			UNLOCK(object);
			bytes = DATA;
			LOCK(object);
			d_step { cached = true; reading = false };
			UNLOCK(object);
			break
		fi
	od
}

proctype fault_thread(byte me) {
	bool there;

end:	do
	:: atomic { event[me] && (me || !held) -> event[me] = false; working = working + !me };
again:	   LOCK(leaf[me]);
	   there = cached;
#ifdef BREAK_SECTION
	   UNLOCK(leaf[me]);
	   LOCK(leaf[me]);
#endif
	   if
	   :: entry[me] == FILE -> skip /* spurious */
	   :: entry[me] != FILE && there -> map(me)
	   :: else ->
		entry[me] = TRANSIT;
		UNLOCK(leaf[me]);
		fill();
		LOCK(leaf[me]);
		entry[me] = NONE;
		UNLOCK(leaf[me]);
		goto again
	   fi;
	   wake(me);
	   UNLOCK(leaf[me]);
	   END(me)
	od
}

inline look_at(i) {
	LOCK(leaf[i]);
	mapped = mapped || entry[i] == FILE;
	UNLOCK(leaf[i])
}

inline look() {
	look_at(0);
#ifndef BREAK_LOOK
	look_at(1);
#endif
}

/* The hand, then the ring's end: a round ends where the space is held. */
active proctype reclaim() {
	byte turn = 0;
	bool mapped, mine;

	do
	:: turn < TURNS ->
		BEGIN(0);
		LOCK(leaf[0]);
		if
		:: entry[0] == FILE -> d_step { present[0] = false; entry[0] = SAMPLED }
		:: else -> skip
		fi;
		UNLOCK(leaf[0]);
#ifdef BREAK_HELD
		END(0);
#endif
		mapped = false;
#ifdef BREAK_ORDER
		look();
#endif
		LOCK(object);
#ifdef BREAK_FROZEN
		mine = cached;
#else
		mine = cached && !frozen;
#endif
		if
		:: mine ->
			cached = false;
#ifndef BREAK_LISTED
			reading = true
#endif
		:: else -> skip
		fi;
		UNLOCK(object);
		if
		:: mine ->
#ifndef BREAK_ORDER
			look();
#endif
			if
			:: mapped -> cached = true
			:: else -> bytes = ZEROS
			fi;
#ifndef BREAK_LISTED
			LOCK(object);
			reading = false;
			UNLOCK(object)
#endif
		:: else -> skip
		fi;
#ifndef BREAK_HELD
		END(0);
#endif
		turn++
	:: else -> break
	od;
	done++
}

/* Of the first VM: the child has its mirror, and maps the object's bytes as they are. */
active proctype forker() {
	bool maps;

	held = true;
	working == 0;
	LOCK(object);
	frozen = cached;
	UNLOCK(object);
	maps = (entry[0] == FILE);
	assert(!maps || frozen);
	lives = true;
	held = false;
	if
	:: frozen -> assert(bytes == DATA)
	:: else -> skip
	fi;
	done++
}

/* The child's vCPU, whenever it likes. */
active proctype child() {
	lives;
	if
	:: frozen -> assert(bytes == DATA)
	:: else -> skip
	fi;
	done++
}

init {
	atomic {
		run vcpu(0);
		run vcpu(1);
		run fault_thread(0);
		run fault_thread(1)
	}
	done == 5; /* or the verifier reports an invalid end state */
	!object && !leaf[0] && !leaf[1] && !reading
}
