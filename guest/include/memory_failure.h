/* Memory that is lost: a frame whose contents nobody can give any more. */
#ifndef GUEST_MEMORY_FAILURE_H
#define GUEST_MEMORY_FAILURE_H

#include "guest/include/types.h"

struct mm;

/*
 * The current program touched the frame. It gets SIGBUS with BUS_MCEERR_AR and the page's address,
 * and so does every later access there. Sleeps.
 */
void memory_failure(u64 phys);

/*
 * The address space's entry of the frame, if it has one, says that it is lost, and the frame is not
 * used again. Its address; 0: there is none. mm.lock held.
 */
u64 poison_entry(struct mm *mm, u64 phys);

#endif
