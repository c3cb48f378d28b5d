/*
 * Firmware allocates memory for two files, RSDP and tables, and then fills in
 * what depends on the addresses, as a script of 128-byte commands tells it
 * (QEMU hw/acpi/bios-linker-loader.c, SeaBIOS src/fw/romfile_loader.h). The
 * RSDP is a file of its own because it has to be below 1 MiB to be found.
 */
#include "vmm/acpi_loader.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>

#include "devices/fw_cfg.h"

#define RSDP_FILE   "etc/acpi/rsdp"
#define TABLES_FILE "etc/acpi/tables"
#define LOADER_FILE "etc/table-loader"

enum { ALLOCATE = 1, ADD_POINTER, ADD_CHECKSUM };
enum { ZONE_HIGH = 1, ZONE_BELOW_1M };

/* Numbers are little endian. */
struct command {
	uint32_t type;
	union {
		struct {
			char file[FW_CFG_NAME_MAX];
			uint32_t align;
			uint8_t zone;
		} __attribute__((packed)) allocate;
		struct {
			char file[FW_CFG_NAME_MAX], target[FW_CFG_NAME_MAX];
			uint32_t at; /* holds an offset in target, to which its address is added */
			uint8_t len;
		} __attribute__((packed)) pointer;
		struct {
			char file[FW_CFG_NAME_MAX];
			uint32_t at, start, len;
		} __attribute__((packed)) sum;
		uint8_t room[124];
	};
} __attribute__((packed));

/* Two allocations, and whatever the blob noted. */
#define MAX_COMMANDS (2 + BLOB_POINTERS + BLOB_SUMS)

struct script {
	unsigned nr;
	struct command commands[MAX_COMMANDS];
};

static const char *file_of(size_t offset)
{
	return offset < BLOB_RSDP ? RSDP_FILE : TABLES_FILE;
}

/* An offset into the blob as one into its file. */
static uint32_t in_file(size_t offset)
{
	return htole32((uint32_t)(offset < BLOB_RSDP ? offset : offset - BLOB_RSDP));
}

static void name(char to[FW_CFG_NAME_MAX], const char *file)
{
	snprintf(to, FW_CFG_NAME_MAX, "%s", file);
}

static struct command *next(struct script *script, uint32_t type)
{
	struct command *c = &script->commands[script->nr++];

	c->type = htole32(type);
	return c;
}

static void allocate(struct script *script, const char *file, uint8_t zone)
{
	struct command *c = next(script, ALLOCATE);

	name(c->allocate.file, file);
	c->allocate.align = htole32(BLOB_ALIGN);
	c->allocate.zone = zone;
}

static void add_pointer(struct script *script, size_t at, unsigned len)
{
	struct command *c = next(script, ADD_POINTER);

	name(c->pointer.file, file_of(at));
	name(c->pointer.target, TABLES_FILE);
	c->pointer.at = in_file(at);
	c->pointer.len = (uint8_t)len;
}

static void add_sum(struct script *script, size_t at, size_t start, size_t len)
{
	struct command *c = next(script, ADD_CHECKSUM);

	name(c->sum.file, file_of(at));
	c->sum.at = in_file(at);
	c->sum.start = in_file(start);
	c->sum.len = htole32((uint32_t)len);
}

/* Checksums last: pointers are among what they cover. */
static void write_script(struct script *script, const struct blob *blob)
{
	allocate(script, RSDP_FILE, ZONE_BELOW_1M);
	allocate(script, TABLES_FILE, ZONE_HIGH);
	for (unsigned i = 0; i < blob->nr_pointers; i++)
		add_pointer(script, blob->pointers[i].at, blob->pointers[i].len);
	for (unsigned i = 0; i < blob->nr_sums; i++)
		add_sum(script, blob->sums[i].at, blob->sums[i].start, blob->sums[i].len);
}

/* Every pointer is into the tables, and counts from the start of their file there. */
static void rebase(struct blob *blob)
{
	for (unsigned i = 0; i < blob->nr_pointers; i++) {
		size_t at = blob->pointers[i].at;
		unsigned len = blob->pointers[i].len;

		blob_set(blob, at, len, blob_get(blob, at, len) - BLOB_RSDP);
	}
}

int blob_offer(struct blob *blob, struct device *fw_cfg)
{
	struct script script = {0};
	int r;

	rebase(blob);
	write_script(&script, blob);
	r = fw_cfg_add_file(fw_cfg, RSDP_FILE, blob->data, BLOB_RSDP);
	if (r == 0)
		r = fw_cfg_add_file(fw_cfg, TABLES_FILE, blob->data + BLOB_RSDP,
				    blob->size - BLOB_RSDP);
	if (r == 0)
		r = fw_cfg_add_file(fw_cfg, LOADER_FILE, script.commands,
				    script.nr * sizeof(script.commands[0]));
	return r;
}
