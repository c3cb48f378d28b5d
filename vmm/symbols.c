#include "vmm/symbols.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Ten times what a distribution's kernel has. */
#define TABLE_MAX (64ULL << 20)
#define LONGEST	  255U

struct symbol {
	uint64_t from, until;
	const char *name;
};

struct symbols {
	char *names; /* a zero behind them */
	size_t nr;
	struct symbol list[]; /* by @from */
};

struct elf {
	const char *path;
	int fd;
	uint64_t size;
	Elf64_Ehdr head;
	Elf64_Shdr *sections;
	struct foal_error *err;
};

static int bad(const struct elf *elf, const char *what)
{
	error_set(elf->err, FOAL_EXIT_TRACE, -ENOEXEC,
		  "--symbols %s: %s; give the kernel's ELF file (vmlinux)", elf->path, what);
	return -ENOEXEC;
}

static int no_memory(const struct elf *elf)
{
	return error_set(elf->err, FOAL_EXIT_HOST, -ENOMEM, "out of memory for symbols");
}

/* @len bytes at @offset, and a zero behind them; the caller's. NULL: it was said why. */
static void *take(const struct elf *elf, uint64_t offset, uint64_t len)
{
	bool inside = offset <= elf->size && len <= elf->size - offset;
	char *bytes = inside && len <= TABLE_MAX ? malloc(len + 1) : NULL;

	if (!inside)
		bad(elf, "cut short: it points behind its end");
	else if (len > TABLE_MAX)
		bad(elf, "a table of more than 64 MiB");
	else if (!bytes)
		no_memory(elf);
	if (!bytes)
		return NULL;
	bytes[len] = 0;
	for (uint64_t at = 0; at < len;) {
		ssize_t n = pread(elf->fd, bytes + at, len - at, (off_t)(offset + at));
		if (n <= 0) {
			bad(elf, n ? strerror(errno) : "it shrank while it was read");
			free(bytes);
			return NULL;
		}
		at += (uint64_t)n;
	}
	return bytes;
}

static int open_file(struct elf *elf)
{
	struct stat st;

	elf->fd = open(elf->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (elf->fd < 0 || fstat(elf->fd, &st))
		return bad(elf, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return bad(elf, "not a regular file");
	elf->size = (uint64_t)st.st_size;
	return 0;
}

static int read_sections(struct elf *elf)
{
	Elf64_Ehdr *head;

	if (elf->size < sizeof(*head))
		return bad(elf, "not an ELF file");
	head = take(elf, 0, sizeof(*head));
	if (!head)
		return -ENOEXEC;
	elf->head = *head;
	free(head);
	if (memcmp(elf->head.e_ident, ELFMAG, SELFMAG) != 0)
		return bad(elf, "not an ELF file");
	if (elf->head.e_ident[EI_CLASS] != ELFCLASS64 ||
	    elf->head.e_ident[EI_DATA] != ELFDATA2LSB || elf->head.e_machine != EM_X86_64)
		return bad(elf, "not a 64-bit x86 kernel");
	if (elf->head.e_shentsize != sizeof(Elf64_Shdr) || elf->head.e_shnum == 0)
		return bad(elf, "it has no sections");
	elf->sections = take(elf, elf->head.e_shoff, elf->head.e_shnum * sizeof(Elf64_Shdr));
	return elf->sections ? 0 : -ENOEXEC;
}

static const Elf64_Shdr *find_table(const struct elf *elf)
{
	for (unsigned i = 0; i < elf->head.e_shnum; i++)
		if (elf->sections[i].sh_type == SHT_SYMTAB)
			return &elf->sections[i];
	return NULL;
}

static bool is_name(const char *name)
{
	size_t len = strnlen(name, LONGEST + 1);

	for (size_t i = 0; i < len; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	return len && len <= LONGEST;
}

/* False: it is none of code, or has values that there are not. */
static bool take_symbol(const struct elf *elf, const Elf64_Sym *sym, const char *names,
			uint64_t names_len, struct symbol *out)
{
	unsigned type = ELF64_ST_TYPE(sym->st_info);
	const Elf64_Shdr *section;

	if ((type != STT_FUNC && type != STT_NOTYPE) || sym->st_shndx >= elf->head.e_shnum ||
	    sym->st_name >= names_len || !is_name(names + sym->st_name))
		return false;
	section = &elf->sections[sym->st_shndx];
	uint64_t at = sym->st_value - section->sh_addr;
	if (!(section->sh_flags & SHF_EXECINSTR) || at >= section->sh_size)
		return false;
	uint64_t left = section->sh_size - at;
	uint64_t len = sym->st_size && sym->st_size < left ? sym->st_size : left;
	*out = (struct symbol){sym->st_value, sym->st_value + len, names + sym->st_name};
	return out->until > out->from;
}

/* Of several at one address the last is taken: the longest, then by name. */
static int in_order(const void *a, const void *b)
{
	const struct symbol *one = a, *other = b;

	if (one->from != other->from)
		return one->from < other->from ? -1 : 1;
	if (one->until != other->until)
		return one->until < other->until ? -1 : 1;
	return strcmp(other->name, one->name);
}

static int take_table(const struct elf *elf, const Elf64_Shdr *table, struct symbols **out)
{
	if (table->sh_link >= elf->head.e_shnum)
		return bad(elf, "its symbols have no names");
	const Elf64_Shdr *strings = &elf->sections[table->sh_link];
	Elf64_Sym *syms = take(elf, table->sh_offset, table->sh_size);
	char *names = syms ? take(elf, strings->sh_offset, strings->sh_size) : NULL;
	size_t nr = table->sh_size / sizeof(*syms);
	struct symbols *symbols =
	    names ? calloc(1, sizeof(*symbols) + nr * sizeof(symbols->list[0])) : NULL;

	if (!symbols) {
		int r = names ? no_memory(elf) : -ENOEXEC;
		free(syms);
		free(names);
		return r;
	}
	for (size_t i = 0; i < nr; i++)
		symbols->nr += take_symbol(elf, &syms[i], names, strings->sh_size,
					   &symbols->list[symbols->nr]);
	qsort(symbols->list, symbols->nr, sizeof(symbols->list[0]), in_order);
	symbols->names = names;
	*out = symbols;
	free(syms);
	return 0;
}

int symbols_open(const char *path, struct symbols **out, struct foal_error *err)
{
	struct elf elf = {.path = path, .err = err};
	int r = open_file(&elf);

	if (r == 0)
		r = read_sections(&elf);
	const Elf64_Shdr *table = r == 0 ? find_table(&elf) : NULL;
	if (table)
		r = take_table(&elf, table, out);
	else if (r == 0)
		r = bad(&elf, "it has no symbols: stripped");
	free(elf.sections);
	if (elf.fd >= 0)
		close(elf.fd);
	return r;
}

void symbols_free(struct symbols *symbols)
{
	if (symbols)
		free(symbols->names);
	free(symbols);
}

const char *symbols_find(const struct symbols *symbols, uint64_t address, uint64_t *offset)
{
	size_t low = 0, high = symbols ? symbols->nr : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (symbols->list[middle].from <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || address >= symbols->list[low - 1].until)
		return NULL;
	*offset = address - symbols->list[low - 1].from;
	return symbols->list[low - 1].name;
}
