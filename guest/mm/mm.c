/* Address spaces: made, forked, switched to, taken down. */
#include "guest/include/mm.h"
#include "guest/include/errno.h"
#include "guest/include/vma.h"

#define STACK_TOP (USER_END - PAGE_SIZE)

struct mm *mm_create(void)
{
	struct mm *mm = kzalloc(sizeof(*mm));

	if (!mm)
		return NULL;
	if (!pgtable_init(&mm->pt)) {
		kfree(mm);
		return NULL;
	}
	mutex_init(&mm->lock);
	mm->mmap_base = STACK_TOP - 2 * STACK_LIMIT;
	return mm;
}

void mm_destroy(struct mm *mm)
{
	if (mm->nr_vmas)
		unmap_range(mm, 0, USER_END);
	pgtable_free(&mm->pt);
	kfree(mm->vmas);
	kfree(mm);
}

int mm_fork(struct mm *parent, struct mm **out)
{
	struct mm *mm = mm_create();
	int err = 0;

	if (!mm)
		return -ENOMEM;
	mutex_lock(&parent->lock);
	mm->brk_start = parent->brk_start;
	mm->brk = parent->brk;
	mm->mmap_base = parent->mmap_base;
	for (unsigned i = 0; i < parent->nr_vmas && !err; i++) {
		struct vma *vma = vma_clone(mm, parent->vmas[i]);

		err = vma ? vma_insert(mm, vma) : -ENOMEM;
		if (err) {
			if (vma)
				vma_free(vma);
			break;
		}
		spin_lock(&parent->table_lock);
		err = copy_range(vma, parent->vmas[i]);
		spin_unlock(&parent->table_lock);
	}
	/* The parent's entries lost their write permission. */
	flush_tlb_range(parent, 0, USER_END);
	mutex_unlock(&parent->lock);
	if (err) {
		mm_destroy(mm);
		return err;
	}
	*out = mm;
	return 0;
}

void mm_activate(struct mm *mm)
{
	u64 cr3 = virt_to_phys(mm ? mm->pt.pgd : kernel_pgd());

	if (read_cr3() != cr3)
		write_cr3(cr3);
}
