/*
 * ELF files that lie about themselves, each run in a child: what execve says of it, or how it ends.
 *
 *   liars DIR       DIR: for the files
 *
 * What an honest one does is to end with status 7.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define BASE 0x400000UL

enum { CODE, DATA, EXTRA, SEGMENTS };

/* Two pages: headers and code, data. */
struct file {
	Elf64_Ehdr header;
	Elf64_Phdr segments[SEGMENTS];
	uint8_t code[PAGE - sizeof(Elf64_Ehdr) - SEGMENTS * sizeof(Elf64_Phdr)];
	uint8_t data[PAGE];
};

/* Ends with status 7. */
static const uint8_t ends[] = {0xbf, 7, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05};
/* movb of the address to %dil, then ends with that. */
static const uint8_t reads[] = {0x40, 0x8a, 0x3c, 0x25, 0, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05};

static struct file file;
static size_t length;

static void code(const uint8_t *bytes, size_t n)
{
	memcpy(file.code, bytes, n);
}

static void code_that_reads(uint32_t at)
{
	code(reads, sizeof(reads));
	memcpy(file.code + 4, &at, sizeof(at));
}

static void be_honest(void)
{
	memset(&file, 0, sizeof(file));
	file.header = (Elf64_Ehdr){.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
				   .e_type = ET_EXEC,
				   .e_machine = EM_X86_64,
				   .e_version = 1,
				   .e_entry = BASE + offsetof(struct file, code),
				   .e_phoff = offsetof(struct file, segments),
				   .e_ehsize = sizeof(Elf64_Ehdr),
				   .e_phentsize = sizeof(Elf64_Phdr),
				   .e_phnum = DATA + 1};
	file.segments[CODE] = (Elf64_Phdr){PT_LOAD, PF_R | PF_X, 0, BASE, BASE, PAGE, PAGE, PAGE};
	file.segments[DATA] =
	    (Elf64_Phdr){PT_LOAD, PF_R | PF_W, PAGE, BASE + PAGE, BASE + PAGE, PAGE, PAGE, PAGE};
	code(ends, sizeof(ends));
	memset(file.data, 5, sizeof(file.data));
	length = sizeof(file);
}

static void honest(void)
{
}

static void data_is_there(void)
{
	code_that_reads(BASE + PAGE + 100);
}

/* --- sizes ----------------------------------------------------------------------------------- */

static void more_in_file_than_memory(void)
{
	file.segments[DATA].p_memsz = 100;
}

static void memory_without_end(void)
{
	file.segments[DATA].p_memsz = ~0UL;
}

static void memory_of_all_addresses(void)
{
	file.segments[DATA].p_memsz = 1UL << 47;
}

static void memory_nobody_has(void)
{
	file.segments[DATA].p_memsz = 1UL << 45;
}

static void nothing(void)
{
	file.segments[DATA].p_filesz = file.segments[DATA].p_memsz = 0;
}

static void longer_than_the_file(void)
{
	file.segments[DATA].p_filesz = file.segments[DATA].p_memsz = 4 * PAGE;
}

static void read_past_the_file(void)
{
	longer_than_the_file();
	code_that_reads(BASE + 3 * PAGE);
}

static void zeroes_past_the_file(void)
{
	file.segments[DATA].p_filesz = PAGE + 100;
	file.segments[DATA].p_memsz = 3 * PAGE;
}

static void zeroes_behind_data(void)
{
	file.segments[DATA].p_filesz = 200;
	file.segments[DATA].p_memsz = 3 * PAGE;
	code_that_reads(BASE + PAGE + 201);
}

static void zeroes_in_pages_behind(void)
{
	zeroes_behind_data();
	code_that_reads(BASE + 3 * PAGE);
}

static void end_behind_zeroes(void)
{
	zeroes_behind_data();
	code_that_reads(BASE + 4 * PAGE);
}

static void offset_past_the_file(void)
{
	file.segments[DATA].p_offset = 100 * PAGE;
	code_that_reads(BASE + PAGE);
}

static void offset_without_end(void)
{
	file.segments[DATA].p_offset = -PAGE;
}

static void offset_elsewhere_in_the_page(void)
{
	file.segments[DATA].p_offset = PAGE + 16;
}

/* --- places ---------------------------------------------------------------------------------- */

static void in_the_kernel(void)
{
	file.segments[DATA].p_vaddr = 0xffffffff80000000UL;
}

static void across_the_end(void)
{
	file.segments[DATA].p_vaddr = 0x7ffffffff000UL - PAGE;
	file.segments[DATA].p_memsz = 4 * PAGE;
}

static void not_canonical(void)
{
	file.segments[DATA].p_vaddr = 1UL << 62;
}

static void on_the_code(void)
{
	file.segments[DATA].p_vaddr = BASE;
}

static void entry_nowhere(void)
{
	file.header.e_entry = 0x12345000;
}

static void entry_in_data(void)
{
	file.header.e_entry = BASE + PAGE;
}

/* --- headers --------------------------------------------------------------------------------- */

static void no_segments(void)
{
	file.header.e_phnum = 0;
}

static void segments_without_number(void)
{
	file.header.e_phnum = 0xffff;
}

static void small_headers(void)
{
	file.header.e_phentsize = 32;
}

static void headers_past_the_file(void)
{
	file.header.e_phoff = 100 * PAGE;
}

static void headers_without_end(void)
{
	file.header.e_phoff = ~0UL - 63;
}

static void no_load(void)
{
	file.segments[CODE].p_type = file.segments[DATA].p_type = PT_NOTE;
}

static void for_another(void)
{
	file.header.e_machine = EM_386;
}

static void object(void)
{
	file.header.e_type = ET_REL;
}

static void not_elf(void)
{
	file.header.e_ident[3] = 'f';
}

static void empty(void)
{
	length = 0;
}

static void a_few_bytes(void)
{
	length = 10;
}

static void half_a_header(void)
{
	length = 50;
}

static void headers_cut_off(void)
{
	length = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + 8;
}

static void code_cut_off(void)
{
	length = offsetof(struct file, code) + 2;
}

#define LIE(name) \
	{ \
#		name, name \
	}

static const struct {
	const char *name;
	void (*make)(void);
} lies[] = {
    LIE(honest),
    LIE(data_is_there),
    LIE(more_in_file_than_memory),
    LIE(memory_without_end),
    LIE(memory_of_all_addresses),
    LIE(memory_nobody_has),
    LIE(nothing),
    LIE(longer_than_the_file),
    LIE(read_past_the_file),
    LIE(zeroes_past_the_file),
    LIE(zeroes_behind_data),
    LIE(zeroes_in_pages_behind),
    LIE(end_behind_zeroes),
    LIE(offset_past_the_file),
    LIE(offset_without_end),
    LIE(offset_elsewhere_in_the_page),
    LIE(in_the_kernel),
    LIE(across_the_end),
    LIE(not_canonical),
    LIE(on_the_code),
    LIE(entry_nowhere),
    LIE(entry_in_data),
    LIE(no_segments),
    LIE(segments_without_number),
    LIE(small_headers),
    LIE(headers_past_the_file),
    LIE(headers_without_end),
    LIE(no_load),
    LIE(for_another),
    LIE(object),
    LIE(not_elf),
    LIE(empty),
    LIE(a_few_bytes),
    LIE(half_a_header),
    LIE(headers_cut_off),
    LIE(code_cut_off),
};

static int write_program(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0700);
	int bad = fd < 0 || write(fd, &file, length) != (ssize_t)length;

	return close(fd) || bad;
}

enum { REFUSED = 200 }; /* and the error: how a child ends that is still this program */

static void run(const char *name, const char *path)
{
	char *const none[] = {NULL};
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		execve(path, none, none);
		_exit(REFUSED + errno);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		perror("liars: its child");
	if (WIFEXITED(status) && WEXITSTATUS(status) > REFUSED)
		printf("%s: error %d\n", name, WEXITSTATUS(status) - REFUSED);
	else
		printf("%s: wait status %x\n", name, (unsigned)status);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	char path[512];

	if (argc < 2) {
		fprintf(stderr, "usage: liars DIR\n");
		return 2;
	}
	snprintf(path, sizeof(path), "%s/liars", argv[1]);
	for (unsigned i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		be_honest();
		lies[i].make();
		if (write_program(path)) {
			perror("liars: its program");
			return 1;
		}
		run(lies[i].name, path);
	}
	unlink(path);
	return 0;
}
