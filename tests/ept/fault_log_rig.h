/* A fault log, its writer and its reader, for tests. A helper that cannot fails the test. */
#ifndef FOAL_TESTS_EPT_FAULT_LOG_RIG_H
#define FOAL_TESTS_EPT_FAULT_LOG_RIG_H

#include "ept/fault_log.h"
#include "tests/ept/util.h"

#define SLOTS ((uint64_t)EPT_LOG_SLOTS)

/* An empty log, to whose first ring the calling thread writes. */
struct ept_fault_log new_log(void);
struct ept_records *reader(int fd, bool now);

/* Record @n: fields that follow from it, so that one half of another record shows. */
struct ept_record record_of(uint64_t n);
bool is_record_of(const struct ept_record *r, uint64_t n);
void put(struct ept_fault_log *log, uint64_t n);

struct ept_log_slot *slot_of(struct ept_fault_log *log, uint64_t ticket);

/* The next ones are those of [n, end). */
void expect_records(struct ept_records *records, uint64_t n, uint64_t end);
/* There is none, and so many were lost. */
void expect_no_more(struct ept_records *records, uint64_t lost);

#endif
