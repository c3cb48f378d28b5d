/*
 * execve of a static ELF program, or of a script that one runs. Segments are mapped, not read:
 * their pages come when the program touches them. The new address space is complete before the old
 * one goes: who calls is told of a file that is no program, and ended by one whose segments cannot
 * be, as Linux has given the old one up by then.
 */
#include "guest/include/exec.h"
#include "guest/include/elf.h"
#include "guest/include/errno.h"
#include "guest/include/file.h"
#include "guest/include/file_rw.h"
#include "guest/include/futex.h"
#include "guest/include/mm.h"
#include "guest/include/posix_timer.h"
#include "guest/include/process.h"
#include "guest/include/random.h"
#include "guest/include/signal.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"
#include "guest/include/task.h"
#include "guest/include/trap.h"
#include "guest/include/uaccess.h"

#define PHDRS_MAX     32
#define DYN_BASE      0x555555554000UL /* where a position-independent program goes */
#define STACK_TOP     (USER_END - PAGE_SIZE)
#define STACK_INITIAL (32 * PAGE_SIZE)
#define AUXV_WORDS    32
#define STRINGS_MIN   (32 * PAGE_SIZE)
#define STRINGS_MAX   (6UL << 20)
#define RFLAGS_USER   (RFLAGS_IF | 2)

struct image {
	struct elf_header eh;
	struct elf_phdr ph[PHDRS_MAX];
	u64 bias, end, phdr_addr;
	u64 sp;
	struct scripts scripts;
};

static int read_headers(struct inode *inode, struct image *im)
{
	const struct elf_header *eh = &im->eh;
	int err = file_read_kernel(inode, 0, &im->eh, sizeof(im->eh));

	if (err)
		return err;
	if (eh->magic != ELF_MAGIC || eh->class != ELF_CLASS_64 || eh->data != ELF_DATA_LSB ||
	    eh->machine != ELF_X86_64 || (eh->type != ELF_EXEC && eh->type != ELF_DYN) ||
	    eh->phentsize != sizeof(im->ph[0]) || !eh->phnum || eh->phnum > PHDRS_MAX ||
	    eh->phoff > inode->size)
		return -ENOEXEC;
	if (eh->type == ELF_DYN)
		im->bias = DYN_BASE;
	err = file_read_kernel(inode, eh->phoff, im->ph, eh->phnum * sizeof(im->ph[0]));
	for (unsigned i = 0; !err && i < eh->phnum; i++)
		if (im->ph[i].type == PT_INTERP)
			err = -ENOEXEC; /* static programs only */
	return err;
}

static unsigned segment_prot(const struct elf_phdr *ph)
{
	return (ph->flags & PHDR_R ? PROT_READ : 0) | (ph->flags & PHDR_W ? PROT_WRITE : 0) |
	       (ph->flags & PHDR_X ? PROT_EXEC : 0);
}

/*
 * Every field is the file's word: checked against wrapping and the user half before use. What lies
 * behind the file's end is mapped like the rest, and a SIGBUS for who touches it.
 */
static int map_segment(struct mm *mm, struct inode *inode, struct image *im,
		       const struct elf_phdr *ph)
{
	const unsigned flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
	u64 start = im->bias + ph->vaddr, page = ALIGN_DOWN(start, PAGE_SIZE);
	u64 file_end, mem_end;
	s64 ret;

	if (ph->vaddr >= USER_END - DYN_BASE || ph->memsz >= USER_END - DYN_BASE ||
	    ph->filesz > ph->memsz || ph->offset >= USER_END ||
	    ((ph->vaddr ^ ph->offset) & ~PAGE_MASK))
		return -ENOEXEC;
	file_end = ph->filesz ? ALIGN_UP(start + ph->filesz, PAGE_SIZE) : page;
	mem_end = ALIGN_UP(start + ph->memsz, PAGE_SIZE);
	if (file_end > page) {
		ret = do_mmap(mm, page, file_end - page, segment_prot(ph), flags, inode,
			      ph->offset >> PAGE_SHIFT, true);
		if (ret < 0)
			return (int)ret;
	}
	if (mem_end > file_end) {
		ret = do_mmap(mm, file_end, mem_end - file_end, segment_prot(ph),
			      flags | MAP_ANONYMOUS, NULL, 0, true);
		if (ret < 0)
			return (int)ret;
	}
	/* What follows the file's bytes in their last page is the start of the zeroed part. */
	if (ph->filesz && ph->memsz > ph->filesz && (ph->flags & PHDR_W) &&
	    clear_user(start + ph->filesz, MIN(file_end, start + ph->memsz) - start - ph->filesz))
		return -EFAULT;
	if (im->eh.phoff >= ph->offset && im->eh.phoff - ph->offset < ph->filesz)
		im->phdr_addr = start + im->eh.phoff - ph->offset;
	im->end = MAX(im->end, mem_end);
	return 0;
}

static int map_image(struct mm *mm, struct inode *inode, struct image *im)
{
	s64 ret;

	for (unsigned i = 0; i < im->eh.phnum; i++) {
		const struct elf_phdr *ph = &im->ph[i];
		int err;

		if (ph->type != PT_LOAD || !ph->memsz)
			continue;
		err = map_segment(mm, inode, im, ph);
		if (err)
			return err;
	}
	/* iretq must not meet an entry that is not canonical. */
	if (!im->end || im->eh.entry >= USER_END - DYN_BASE)
		return -ENOEXEC;
	mm->brk_start = mm->brk = im->end;
	ret = do_mmap(mm, STACK_TOP - STACK_INITIAL, STACK_INITIAL, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN, NULL, 0,
		      true);
	return ret < 0 ? (int)ret : 0;
}

/* As Linux: a quarter of the stack, which leaves room to run, but never below what POSIX wants. */
static u64 strings_max(void)
{
	return MIN(MAX(rlimit(RLIMIT_STACK) / 4, STRINGS_MIN), STRINGS_MAX);
}

/* Copies n strings below im->sp and notes their addresses. */
static int push_strings(struct image *im, const char *const *s, unsigned n, u64 *addrs)
{
	for (unsigned i = 0; i < n; i++) {
		size_t len = strlen(s[i]) + 1;

		im->sp -= len;
		if (STACK_TOP - im->sp > strings_max())
			return -E2BIG;
		if (copy_to_user(im->sp, s[i], len))
			return -EFAULT;
		addrs[i] = im->sp;
	}
	return 0;
}

static unsigned fill_auxv(u64 *v, const struct image *im, u64 random, u64 execfn)
{
	const u64 aux[][2] = {
	    {AT_PHDR, im->phdr_addr},
	    {AT_PHENT, sizeof(struct elf_phdr)},
	    {AT_PHNUM, im->eh.phnum},
	    {AT_PAGESZ, PAGE_SIZE},
	    {AT_ENTRY, im->bias + im->eh.entry},
	    {AT_UID, 0},
	    {AT_EUID, 0},
	    {AT_GID, 0},
	    {AT_EGID, 0},
	    {AT_HWCAP, cpuid(1).edx},
	    {AT_CLKTCK, 100},
	    {AT_SECURE, 0},
	    {AT_RANDOM, random},
	    {AT_EXECFN, execfn},
	    {AT_NULL, 0},
	};

	_Static_assert(sizeof(aux) <= AUXV_WORDS * sizeof(u64), "room for the auxiliary vector");
	memcpy(v, aux, sizeof(aux));
	return sizeof(aux) / sizeof(u64);
}

/* System V ABI for x86-64, section 3.4.1: argc, argv, envp, auxv from %rsp upwards. */
static int build_stack(struct image *im, const struct exec_args *args)
{
	const char *const path[] = {args->path};
	unsigned argc = args->argc, envc = args->envc;
	size_t words = 1 + argc + 1 + envc + 1 + AUXV_WORDS, n;
	u64 *v = kzalloc(words * sizeof(*v));
	u64 random[2] = {random_u64(), random_u64()}, execfn;
	int err = -ENOMEM;

	if (!v)
		return err;
	im->sp = STACK_TOP - sizeof(u64); /* zeros, as Linux has them: glibc has read into them */
	v[0] = argc;
	err = push_strings(im, path, 1, &execfn);
	if (!err)
		err = push_strings(im, args->envp, envc, v + 1 + argc + 1);
	if (!err)
		err = push_strings(im, args->argv, argc, v + 1);
	if (err)
		goto out;
	im->sp = ALIGN_DOWN(im->sp, 16UL) - sizeof(random);
	n = 1 + argc + 1 + envc + 1;
	n += fill_auxv(v + n, im, im->sp, execfn);
	err = copy_to_user(im->sp, random, sizeof(random)) ? -EFAULT : 0;
	im->sp = ALIGN_DOWN(im->sp - n * sizeof(*v), 16UL);
	if (!err && copy_to_user(im->sp, v, n * sizeof(*v)))
		err = -EFAULT;
out:
	kfree(v);
	return err;
}

static void start_program(struct regs *regs, const struct image *im, const char *path)
{
	const char *name = path;

	for (const char *p = path; *p; p++)
		if (*p == '/')
			name = p + 1;
	memset(current->name, 0, sizeof(current->name));
	memcpy(current->name, name, MIN(strlen(name), sizeof(current->name) - 1));
	memcpy(current->process->name, current->name, sizeof(current->name));
	current->fs_base = 0;
	wrmsr(MSR_FS_BASE, 0);
	fpu_reset();
	signals_exec();
	posix_timers_end(current->process);
	files_close_on_exec(current);
	*regs = (struct regs){
	    .rip = im->bias + im->eh.entry,
	    .cs = USER_CS,
	    .rflags = RFLAGS_USER,
	    .rsp = im->sp,
	    .ss = USER_DS,
	};
}

/* What the thread leaves behind in the memory that others may share. */
static void leave_program(struct mm *old, struct mm *new)
{
	current->mm = old;
	mm_activate(old);
	futex_task_ends();
	current->mm = new;
	mm_activate(new);
}

int do_exec(struct regs *regs, struct exec_args *args)
{
	struct mm *mm = NULL, *old = current->mm;
	struct image *im = kzalloc(sizeof(*im));
	struct inode *inode = NULL;
	int err = -ENOMEM;

	if (!im)
		return err;
	args->program = args->path;
	err = exec_open(args->path, &inode);
	if (!err)
		err = scripts_follow(&im->scripts, &inode, args);
	if (err)
		goto out;
	err = read_headers(inode, im);
	if (err)
		goto out;
	err = -ENOMEM;
	mm = mm_create(old ? old->group : &root_group);
	if (!mm)
		goto out;
	mm->exe = exec_path(args->program);
	mm_place_stack(mm, rlimit(RLIMIT_STACK));
	current->mm = mm;
	mm_activate(mm);
	err = map_image(mm, inode, im);
	if (err && old)
		process_end(current->process, SIGSEGV);
	if (!err)
		err = build_stack(im, args);
	if (!err && !process_be_alone())
		err = -EINTR;
	if (!err) {
		leave_program(old, mm);
		start_program(regs, im, args->path);
		vfork_is_over();
		mm = old; /* the one to be given up */
	} else {
		current->mm = old;
		mm_activate(old);
	}
out:
	if (mm)
		mm_put(mm);
	if (inode)
		inode_put(inode);
	kfree(im);
	return err;
}
