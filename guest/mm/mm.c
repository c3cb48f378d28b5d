/* Address spaces: made, forked, switched to, taken down. */
#include "guest/include/mm.h"
#include "guest/include/errno.h"
#include "guest/include/swap.h"
#include "guest/include/vma.h"

#define STACK_TOP      (USER_END - PAGE_SIZE)
/* The room for a stack, whatever its limit says. */
#define STACK_ROOM_MIN (128UL << 20)
#define STACK_ROOM_MAX (USER_END / 6 * 5)

struct mm *mm_create(struct mem_group *group)
{
	struct mm *mm = kzalloc(sizeof(*mm));

	if (!mm)
		return NULL;
	if (!pgtable_init(&mm->pt)) {
		kfree(mm);
		return NULL;
	}
	mm->users = 1;
	rwsem_init(&mm->lock);
	mm->group = group_get(group);
	mm_place_stack(mm, 0);
	return mm;
}

void mm_place_stack(struct mm *mm, u64 stack_limit)
{
	u64 room = MIN(MAX(stack_limit, STACK_ROOM_MIN), STACK_ROOM_MAX);

	mm->mmap_base = STACK_TOP - ALIGN_UP(room, PAGE_SIZE) - STACK_GUARD_GAP;
}

void mm_get(struct mm *mm)
{
	__atomic_fetch_add(&mm->users, 1, __ATOMIC_RELAXED);
}

void mm_put(struct mm *mm)
{
	if (__atomic_sub_fetch(&mm->users, 1, __ATOMIC_ACQ_REL))
		return;
	mm_leave_all(mm);
	if (mm->nr_vmas)
		unmap_range(mm, 0, USER_END);
	pgtable_free(&mm->pt);
	group_put(mm->group);
	kfree(mm->vmas);
	kfree(mm->exe);
	kfree(mm);
}

void mm_set_group(struct mm *mm, struct mem_group *group)
{
	group_put(mm->group);
	mm->group = group;
}

int mm_fork(struct mm *parent, struct mm **out)
{
	struct mm *mm = mm_create(parent->group);
	int err = 0;

	if (!mm)
		return -ENOMEM;
	mm->exe = kstrdup(parent->exe);
	down_write(&parent->lock);
	mm->brk_start = parent->brk_start;
	mm->brk = parent->brk;
	mm->mmap_base = parent->mmap_base;
	for (unsigned i = 0; i < parent->nr_vmas && !err; i++) {
		struct vma *vma;

		if (parent->vmas[i]->flags & VM_DONTCOPY)
			continue;
		vma = vma_clone(mm, parent->vmas[i]);
		/* Locks are not inherited. */
		if (vma)
			vma->flags &= ~(unsigned)VM_LOCKED;
		/* Nor is what is reserved for private memory. */
		if (vma && (vma->flags & (VM_HUGETLB | VM_SHARED)) == VM_HUGETLB)
			vma->flags |= VM_NORESERVE;
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
	up_write(&parent->lock);
	if (err) {
		mm_put(mm);
		return err;
	}
	*out = mm;
	return 0;
}
