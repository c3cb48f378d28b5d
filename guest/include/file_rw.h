/* Bytes of regular files. May sleep; mm.lock not held. Short counts at the end of the file. */
#ifndef GUEST_FILE_RW_H
#define GUEST_FILE_RW_H

#include "guest/include/types.h"

struct inode;

/* Bytes done, or negative errno if none were. */
s64 file_read_user(struct inode *inode, u64 pos, u64 buf, size_t n);
/* From *pos on, or from the end if `append`; *pos moves behind what was written. */
s64 file_write_user(struct inode *inode, u64 *pos, u64 buf, size_t n, bool append);

/* The file's size becomes that; inode->lock held. What lies between the ends reads as zero. */
int file_set_size(struct inode *inode, u64 size);
/* The same for a larger size whose blocks will follow. */
int file_extend(struct inode *inode, u64 size);

/* All n bytes into kernel memory: 0, -ENOEXEC if the file is shorter, -EIO. For exec. */
int file_read_kernel(struct inode *inode, u64 pos, void *buf, size_t n);

#endif
