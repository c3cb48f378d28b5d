/*
 * A DSDT is a list of terms, so a list may be appended to another: dsdt.asl's
 * come first, then those of virtio.asl for each device and of processor.asl for
 * each vCPU. They are copies of what iasl compiled, with names and numbers
 * written over; iasl also says where those stand (-so).
 */
#include "vmm/acpi_dsdt.h"

#include <assert.h>
#include <string.h>

#include "guest/abi.h"

#include "acpi/dsdt.hex"
#include "acpi/pci.hex"
#include "acpi/processor.hex"
#include "acpi/processor.offset.h"
#include "acpi/virtio.hex"
#include "acpi/virtio.offset.h"

#define AML_BYTE_PREFIX 0x0a
#define AML_WORD_PREFIX 0x0b
#define MEMORY32FIXED	0x86 /* ACPI 6.5, 6.4.3.4: address at 4, length at 8 */
#define INTERRUPT	0x89 /* 6.4.3.6: number at 5 */

/* The terms of a compiled table: what follows its header. */
struct terms {
	const unsigned char *table;
	size_t size;
	const AML_OFFSET_TABLE_ENTRY *names;
};

static const struct terms virtio_terms = {virtio_aml_code, sizeof(virtio_aml_code),
					  SSDT_VIRTIO_OffsetTable};
static const struct terms pci_terms = {pci_aml_code, sizeof(pci_aml_code), NULL};
static const struct terms processor_terms = {processor_aml_code, sizeof(processor_aml_code),
					     SSDT_CPU_OffsetTable};

static size_t terms_put(struct blob *blob, const struct terms *t)
{
	return blob_put(blob, t->table + sizeof(struct sdt_header),
			t->size - sizeof(struct sdt_header));
}

static const AML_OFFSET_TABLE_ENTRY *term_find(const struct terms *t, const char *path)
{
	const AML_OFFSET_TABLE_ENTRY *e = t->names;

	while (e->Pathname && strcmp(e->Pathname, path) != 0)
		e++;
	assert(e->Pathname);
	return e;
}

/* Where the value of @path is, an integer or a resource as @opcode says, in a copy at @copy. */
static size_t value_at(const struct terms *t, size_t copy, const char *path, unsigned char opcode)
{
	const AML_OFFSET_TABLE_ENTRY *e = term_find(t, path);

	assert(e->Opcode == opcode);
	(void)opcode;
	return copy + e->Offset - sizeof(struct sdt_header);
}

/* Number the last @digits characters of the name of device @path. */
static void rename_device(struct blob *blob, const struct terms *t, size_t copy, const char *path,
			  unsigned digits, unsigned number)
{
	size_t name = copy + term_find(t, path)->NamesegOffset - sizeof(struct sdt_header);

	for (unsigned i = 0; i < digits; i++, number >>= 4)
		blob_set(blob, name + 3 - i, 1, (uint8_t) "0123456789ABCDEF"[number & 15]);
}

static void virtio_put(struct blob *blob, unsigned i)
{
	const struct terms *t = &virtio_terms;
	size_t copy = terms_put(blob, t);
	size_t regs = value_at(t, copy, "_SB_.VR00.REGS", MEMORY32FIXED);
	size_t irq = value_at(t, copy, "_SB_.VR00.IRQ_", INTERRUPT);

	rename_device(blob, t, copy, "_SB_.VR00", 2, i);
	blob_set(blob, value_at(t, copy, "_SB_.VR00._UID", AML_BYTE_PREFIX), 1, i);
	blob_set(blob, regs + 4, 4, FOAL_VIRTIO_MMIO_BASE + i * FOAL_VIRTIO_MMIO_STRIDE);
	blob_set(blob, regs + 8, 4, FOAL_VIRTIO_MMIO_SIZE);
	blob_set(blob, irq + 5, 4, FOAL_VIRTIO_MMIO_PIN + i);
}

static void processor_put(struct blob *blob, unsigned i)
{
	const struct terms *t = &processor_terms;
	size_t copy = terms_put(blob, t);

	rename_device(blob, t, copy, "_SB_.C000", 3, i);
	blob_set(blob, value_at(t, copy, "_SB_.C000._UID", AML_WORD_PREFIX), 2, i);
}

size_t dsdt_put(struct blob *blob, unsigned mmio_devices, bool pci, unsigned cpus)
{
	size_t table = table_copy(blob, dsdt_aml_code, sizeof(dsdt_aml_code));

	for (unsigned i = 0; i < mmio_devices; i++)
		virtio_put(blob, i);
	if (pci)
		terms_put(blob, &pci_terms);
	for (unsigned i = 0; i < cpus; i++)
		processor_put(blob, i);
	table_end(blob, table);
	return table;
}
