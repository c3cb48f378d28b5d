/* What /proc says: a list of files, each with the function that writes it. */
#ifndef GUEST_PROC_H
#define GUEST_PROC_H

#include "guest/include/file.h"
#include "guest/include/types.h"

struct process;

/* Text that grows up to the buffer's size; len goes on, so that the size is known then. */
struct text {
	char *buf;
	size_t size, len;
};

void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Does not sleep: the process could end meanwhile. */
typedef void (*show_fn)(struct text *t, const struct process *p);

struct proc_file {
	const char *name;
	show_fn show;
	bool link;		    /* show writes its target */
	const struct file_ops *ops; /* in place of show: its owner's alone */
};

/* A line of maps; mm.lock held. */
struct mm;
struct vma;
void show_vma(struct text *t, const struct mm *mm, const struct vma *vma);
/* proc_smaps.c */
void show_process_smaps(struct text *t, const struct process *p);
/* Its memory; NULL: it has ended, or has no program yet. */
struct mm *mm_of(const struct process *p);

/* The process whose folder it is in; 0: none's. */
int proc_pid(const struct inode *inode);
/* proc_mem.c */
extern const struct file_ops proc_mem_ops;

extern const struct proc_file proc_files[], proc_process_files[]; /* both end with a NULL name */

#endif
