/* A disk over a file whose sectors hold their numbers, and looks at both. */
#ifndef FOAL_TESTS_DISK_RIG_H
#define FOAL_TESTS_DISK_RIG_H

#include <stdint.h>

#include "devices/disk.h"

#define DISK_BYTES (1UL << 20)

extern int disk_fd; /* the file */
extern struct disk *disk;
extern uint8_t disk_buf[64 * 1024];

/* Fixtures: the file; the disk is opened by disk_use(). */
void disk_set_up(void);
void disk_tear_down(void);
void disk_use(enum disk_mode mode);

/* Read into disk_buf; write @len times @byte. 0 or a negative errno. */
int disk_get(uint64_t offset, uint64_t len);
int disk_put(uint64_t offset, uint64_t len, uint8_t byte);

/* Sectors [from, to) of the disk, or of the file, hold @byte, or their own number if it is
 * negative. */
void disk_expect(uint64_t from, uint64_t to, int byte);
void disk_expect_file(uint64_t from, uint64_t to, int byte);

#endif
