/*
 * The protocol of reclaim for one own page of anonymous memory, as ept/reclaim_*.c and
 * ept/handlers_swap.c have it (docs/reclaim.md): a vCPU writes and reads it while the hand
 * samples it (it is moved out), the ring's end compresses it, the writer writes its image
 * to the swap file, and two fault threads bring it back, one of them perhaps as the
 * neighbour of a page that was asked for.
 *
 * Modelled: the page's entry with the handle of its image, the leaf's lock, where the bytes
 * are, the image's place in the file, which others use once it is free, and the waiter.
 *
 * Properties: a vCPU always finds what it wrote last; a place that is read is held; no page
 * is installed twice; the vCPU comes to its end (an invalid end state otherwise).
 *
 * BREAK_x plants a fault that must be found:
 *   BREAK_RING    the ring's end does not look whether the entry still names its slot
 *   BREAK_COMMIT  the writer does not look whether the page is in the pool as what it wrote
 *   BREAK_PLACE   the place is free before the bytes were read
 *   BREAK_READS   the page is not in transit while it is read
 *   BREAK_WAKE    a neighbour that was in transit and did not go in is not woken
 */
#define PRIVATE 0
#define HELD 1
#define POOLED 2
#define SWAPPED 3
#define TRANSIT 4

#define GARBAGE 255
#define TOUCHES 3 /* of the vCPU */
#define TURNS 3	  /* of reclaim */

byte entry = PRIVATE;
byte handle = 0;	  /* of the image in the pool; a new one each time */
bool leaf = false;

bool present = true;	  /* for the guest, with these bytes: */
byte bytes = 0;
byte slot = GARBAGE;	  /* the bytes in the holding area */
byte pool = GARBAGE;	  /* in the image */
byte file = GARBAGE;	  /* at the place in the file; GARBAGE: it is free */
byte written = 0;	  /* what the vCPU wrote last */

bool asleep = false, event = false;
bool done = false;	  /* the vCPU */
bool reclaimed = false;	  /* reclaim came to its end */

#define LOCK(l) atomic { !l -> l = true }
#define UNLOCK(l) l = false

inline wake() { d_step { asleep = false; event = false } }

inline install(what) {
	d_step {
		assert(!present); /* or it would be installed twice */
		present = true;
		bytes = what;
		asleep = false;
		event = false
	}
}

active proctype vcpu() {
	byte n = 0;

	do
	:: n < TOUCHES ->
		do
		:: atomic {
			present ->
			assert(bytes == written);
			if
			:: written++; bytes = written
			:: skip /* a read */
			fi;
			break
		   }
		:: atomic { !present -> asleep = true; event = true };
		   !asleep
		od;
		n++
	:: else -> break
	od;
	done = true
}

/* The leaf is locked and the entry says swapped. @asked: the fault is about this page. */
inline swap_in(asked) {
#ifndef BREAK_READS
	entry = TRANSIT;
#endif
#ifdef BREAK_PLACE
	file = GARBAGE;
#endif
	UNLOCK(leaf);
	got = file;
	LOCK(leaf);
#ifndef BREAK_READS
	entry = SWAPPED;
#endif
	if
	:: true ->
		assert(got != GARBAGE);
		install(got);
		file = GARBAGE;
		entry = PRIVATE
	:: !asked -> /* what was asked for went in, this did not */
#ifndef BREAK_WAKE
		wake()
#else
		skip
#endif
	fi
}

active [2] proctype fault_thread() {
	byte got;

end:	do
	:: atomic { event -> event = false };
	   LOCK(leaf);
	   if
	   :: entry == HELD -> install(slot); slot = GARBAGE; entry = PRIVATE
	   :: entry == POOLED -> install(pool); pool = GARBAGE; entry = PRIVATE
	   :: entry == SWAPPED -> swap_in(true)
	   :: entry == TRANSIT -> skip /* who reads it wakes */
	   :: entry == PRIVATE -> wake() /* spurious */
	   fi;
	   UNLOCK(leaf)
	od
}

/* The fault of a page before this one, of somebody who touches in order. */
active proctype neighbour() {
	byte got;

	LOCK(leaf);
	if
	:: entry == SWAPPED -> swap_in(false)
	:: else -> skip
	fi;
	UNLOCK(leaf)
}

/* The hand, then the ring's end. */
active proctype reclaim() {
	byte turn = 0;
	bool on_ring;

	do
	:: turn < TURNS ->
		LOCK(leaf);
		on_ring = (entry == PRIVATE);
		if
		:: on_ring ->
			d_step { slot = bytes; present = false };
			entry = HELD
		:: else -> skip
		fi;
		UNLOCK(leaf);
		LOCK(leaf);
		if
#ifdef BREAK_RING
		:: on_ring ->
			present = false;
#else
		:: on_ring && entry == HELD ->
#endif
			handle++;
			pool = slot;
			slot = GARBAGE;
			entry = POOLED
		:: else -> skip
		fi;
		UNLOCK(leaf);
		turn++
	:: else -> break
	od;
	reclaimed = true
}

/* ept_reclaim_write(): a copy under the lock, the write without it, and a second look. */
active proctype writer() {
	byte image, copied;

end:	do
	:: entry == POOLED && file == GARBAGE ->
		LOCK(leaf);
		copied = 0;
		if
		:: entry == POOLED -> image = pool; copied = handle
		:: else -> skip
		fi;
		UNLOCK(leaf);
		if
		:: copied ->
			LOCK(leaf);
			if
#ifdef BREAK_COMMIT
			:: entry == POOLED ->
#else
			:: entry == POOLED && handle == copied ->
#endif
				d_step { file = image; pool = GARBAGE; entry = SWAPPED }
			:: else -> skip /* the place is free again */
			fi;
			UNLOCK(leaf)
		:: else -> skip
		fi
	od
}

init {
	done && reclaimed; /* or the verifier reports an invalid end state */
	!leaf && entry != TRANSIT /* nobody is left to end it otherwise */
}
