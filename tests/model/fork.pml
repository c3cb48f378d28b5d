/*
 * The protocol of a fork, as ept/hold.c and ept/fork.c state it (docs/locking.md), for one
 * page of a private file: a vCPU and a fault thread on each side, the parent's before and
 * after, and the thread that forks.
 *
 * Modelled: whether the vCPU is in KVM_RUN, each side's host entry with its write
 * protection, each side's registration with userfaultfd and its queue, the mirror, which
 * the child has as it was, and the bytes. That the host keeps apart what either side
 * writes to a page of its own is taken for granted.
 *
 * Properties: each side finds what it wrote last or the file has, never zeros, nor what was
 * cached for the other side later; no vCPU is in KVM_RUN when it is forked; a write is never let through where the mirror calls the page the file's;
 * each vCPU comes to its end (an invalid end state otherwise).
 *
 * BREAK_x plants a fault that must be found:
 *   BREAK_OUT       the vCPU is still in KVM_RUN when it is forked
 *   BREAK_DRAIN     a fault is not resolved yet: the child has an entry in transit
 *   BREAK_REGISTER  the child's vCPU runs before its memory is registered
 *   BREAK_PROTECT   the child registers, and does not protect what the mirror says is
 *   BREAK_FD        the child resolves with the userfaultfd it inherited
 *   BREAK_FREEZE    the object is written to after the fork, where the child shares it
 */
#define NONE 0
#define TRANSIT 1
#define FILE 2
#define PRIVATE 3

#define PARENT 0
#define CHILD 1

#define OF_FILE 1  /* the bytes of the object */
#define ZEROS 0

byte entry[2];		  /* the mirror */
bool leaf[2];
bool present[2], writable[2];
byte bytes[2];		  /* that the page has on that side */
byte wrote[2];		  /* what that side should find */
byte object = OF_FILE;	  /* the cache's page */
bool registered[2];
bool asleep[2], event[2];
bool held = false;	  /* the parent's vCPU may not enter KVM_RUN */
bool inside[2];		  /* in KVM_RUN */
byte working = 0;	  /* events of the parent that were read and are not resolved */
bool lives = false;	  /* the child's threads */
byte done = 0;

#define LOCK(l) atomic { !l -> l = true }
#define UNLOCK(l) l = false

/* A touch. Unregistered memory that is not there is the host's: zeros, or the file as it is. */
inline touch(me, write) {
	do
	:: atomic {
		present[me] && (!write || writable[me]) ->
		assert(bytes[me] == wrote[me]);
		if
		:: write ->
			assert(entry[me] == PRIVATE || leaf[me]);
			wrote[me] = 2 + me;
			bytes[me] = 2 + me
		:: else -> skip
		fi;
		break
	   }
	:: atomic {
		!(present[me] && (!write || writable[me])) ->
		if
		:: registered[me] -> asleep[me] = true; event[me] = true
		:: else ->
			present[me] = true;
			writable[me] = true;
			bytes[me] = ZEROS
		fi
	   };
	   !asleep[me]
	od
}

inline enter(me) {
	if
	:: me == PARENT -> atomic { !held -> inside[me] = true }
	:: else -> inside[me] = true
	fi
}

proctype vcpu(byte me) {
	byte n = 0;
	bool write;

	do
	:: n < 2 ->
		if
		:: write = true
		:: write = false
		fi;
		enter(me);
		touch(me, write);
		inside[me] = false;
		n++
	:: else -> break
	od;
	done++
}

/* @side: the side whose page table the userfaultfd acts on. */
inline put(side, may_write) {
	d_step {
		if
		:: !present[side] -> present[side] = true; bytes[side] = object
		:: else -> skip
		fi;
		writable[side] = writable[side] || may_write;
		asleep[side] = false;
		event[side] = false
	}
}

inline resolve(self, to) {
	LOCK(leaf[self]);
	if
	:: entry[self] == NONE ->
		entry[self] = TRANSIT;
		UNLOCK(leaf[self]); /* the read */
		LOCK(leaf[self]);
		put(to, false);
		entry[self] = FILE
	:: entry[self] == FILE -> /* a write: protection off, the host copies */
		entry[self] = PRIVATE;
		put(to, true)
	:: entry[self] == PRIVATE -> put(to, true) /* spurious */
	:: entry[self] == TRANSIT -> skip
	fi;
	UNLOCK(leaf[self])
}

proctype fault_thread(byte me) {
end:	do
	:: atomic { event[me] -> event[me] = false;
		    if :: me == PARENT -> working++ :: else -> skip fi };
#ifdef BREAK_FD
	   resolve(me, PARENT);
#else
	   resolve(me, me);
#endif
	   if
	   :: me == PARENT -> working--
	   :: else -> skip
	   fi
	od
}

/* The host's fork(): page tables and mirror as they are, registration and protection gone. */
inline host_fork() {
	d_step {
		entry[CHILD] = entry[PARENT];
		leaf[CHILD] = leaf[PARENT];
		wrote[CHILD] = wrote[PARENT];
		bytes[CHILD] = bytes[PARENT];
		present[CHILD] = present[PARENT];
		writable[CHILD] = present[PARENT];
		inside[CHILD] = inside[PARENT];
		lives = true
	}
}

proctype forker() {
	held = true;
#ifndef BREAK_OUT
	!inside[PARENT];
#endif
#ifndef BREAK_DRAIN
	atomic { working == 0 && !event[PARENT] && !leaf[PARENT] -> skip };
#endif
	host_fork();
	assert(!inside[CHILD]); /* or its vCPU's state is nobody's */
	/* In the child, alone: its own userfaultfd, then what the mirror says. */
#ifdef BREAK_REGISTER
	run vcpu(CHILD);
#endif
	registered[CHILD] = true;
#ifndef BREAK_PROTECT
	d_step {
		if
		:: entry[CHILD] == FILE -> writable[CHILD] = false
		:: else -> skip
		fi
	};
#endif
	run fault_thread(CHILD);
#ifndef BREAK_REGISTER
	run vcpu(CHILD);
#endif
	held = false; /* in the parent, which need not wait for the child */
#ifdef BREAK_FREEZE
	object = 9;
#endif
	done++
}

init {
	atomic {
		wrote[PARENT] = OF_FILE;
		registered[PARENT] = true;
		run vcpu(PARENT);
		run fault_thread(PARENT);
		run forker()
	}
	done == 3; /* or the verifier reports an invalid end state */
	!leaf[CHILD] && entry[CHILD] != TRANSIT /* nobody is left to end it otherwise */
}
