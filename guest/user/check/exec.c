/* Programs that lie: each is written to a scratch file and run. */
#include "guest/user/check/check.h"

#define PROGRAM_PATH "/data/program"
#define BASE	     0x400000UL

enum { PT_LOAD = 1, PF_X = 1, PF_W = 2, PF_R = 4, CODE_AT = 512 };

struct phdr {
	uint32_t type, flags;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

/* An ELF file whose only code ends the program with status 0. */
struct program {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
	struct phdr ph[2];
	uint8_t pad[CODE_AT - 64 - 2 * 56];
	uint8_t code[64];
};

static const struct program honest = {
    .ident = {0x7f, 'E', 'L', 'F', 2, 1, 1},
    .type = 2,
    .machine = 62,
    .version = 1,
    .entry = BASE + CODE_AT,
    .phoff = 64,
    .ehsize = 64,
    .phentsize = 56,
    .phnum = 1,
    .ph = {{PT_LOAD, PF_R | PF_X, 0, BASE, BASE, sizeof(struct program), sizeof(struct program),
	    PAGE_SIZE}},
    .code = {0xb8, SYS_EXIT_GROUP, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05},
};

/* Writes the file and runs it in place of this task; returns what execve refuses it with. */
static int run_program(const struct program *p)
{
	char *const args[] = {NULL};
	int fd = sys_open(PROGRAM_PATH, O_RDWR);
	long n = syscall4(SYS_PWRITE64, fd, (long)p, sizeof(*p), 0);

	sys_close(fd);
	return n == sizeof(*p) ? sys_execve(PROGRAM_PATH, args, args) : -1000;
}

static int exec_honest(void)
{
	return run_program(&honest);
}

/* A segment of nothing but zeroes, that starts within a page. */
static int exec_bss_unaligned(void)
{
	struct program p = honest;

	p.phnum = 2;
	p.ph[1] = (struct phdr){PT_LOAD, PF_R | PF_W, 0x800, 0x600800, 0, 0, 0x1000, PAGE_SIZE};
	return run_program(&p);
}

static const struct program *liar;

static int run_liar(void)
{
	return run_program(liar);
}

/* A child runs it; the signal that ends that. */
static int end_of(const struct program *p)
{
	liar = p;
	return in_child(run_liar);
}

/* Of its header the caller is told; of segments that cannot be it ends, as on Linux. */
static int exec_lies(void)
{
	struct program p = honest;

	p.entry = 0x8000000000000000UL;
	EXPECT(end_of(&p) == SIGSEGV);
	p.entry = 0xffffffff80100000UL;
	EXPECT(end_of(&p) == SIGSEGV);
	p = honest;
	p.phnum = 0;
	EXPECT(run_program(&p) == -ENOEXEC);
	p.phnum = 0xffff;
	EXPECT(run_program(&p) == -ENOEXEC);
	p = honest;
	p.phoff = ~0UL - 8;
	EXPECT(run_program(&p) == -ENOEXEC);
	p.phoff = 65536 - 8;
	EXPECT(run_program(&p) == -ENOEXEC);
	p = honest;
	p.ph[0].vaddr = 0xffffffff80000000UL;
	EXPECT(end_of(&p) == SIGSEGV);
	p.ph[0].vaddr = 0x7ffffffff000UL;
	EXPECT(end_of(&p) == SIGSEGV);
	p = honest;
	p.ph[0].memsz = ~0UL;
	EXPECT(end_of(&p) == SIGSEGV);
	p.ph[0].memsz = 1UL << 46;
	EXPECT(end_of(&p) == SIGSEGV);
	p.ph[0].memsz = p.ph[0].filesz - 1;
	EXPECT(end_of(&p) == SIGSEGV);
	p = honest;
	p.ph[0].offset = ~0UL << 12;
	EXPECT(end_of(&p) == SIGSEGV);
	return 0;
}

const struct check exec_checks[] = {
    {"exec_honest", exec_honest, 0},
    {"exec_bss_unaligned", exec_bss_unaligned, 0},
    {"exec_lies", exec_lies, 0},
    {0},
};
