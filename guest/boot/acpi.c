/*
 * Which CPUs there are: the processors that ACPI's MADT names as enabled (ACPI 6.5, 5.2.5 to
 * 5.2.12). It is read through the boot tables, which reach 1 GiB; what lies elsewhere, or is not
 * what it should be, is as if it were not there.
 */
#include "guest/include/boot.h"
#include "guest/include/mm_init.h"
#include "guest/include/page.h"
#include "guest/include/string.h"

struct rsdp {
	char signature[8];
	u8 checksum, oem[6], revision;
	u32 rsdt, length;
	u64 xsdt; /* from revision 2 on */
} __attribute__((packed));

struct acpi_header {
	char signature[4];
	u32 length;
	u8 revision, checksum, oem[26];
} __attribute__((packed));

struct madt {
	struct acpi_header header;
	u32 local_apic, flags;
} __attribute__((packed));

enum madt_type { MADT_LOCAL_APIC = 0, MADT_LOCAL_X2APIC = 9 };

#define MADT_ENABLED 1U

struct madt_entry {
	u8 type, length;
	union {
		struct {
			u8 uid, id;
			u32 flags;
		} __attribute__((packed)) apic;
		struct {
			u16 reserved;
			u32 id, flags, uid;
		} __attribute__((packed)) x2apic;
	};
} __attribute__((packed));

static const void *at(u64 phys, u64 len)
{
	return phys && phys < BOOT_MAPPED && len <= BOOT_MAPPED - phys ? phys_to_virt(phys) : NULL;
}

/* The whole table, or NULL. */
static const struct acpi_header *table(u64 phys, const char *signature, u32 min)
{
	const struct acpi_header *h = at(phys, sizeof(*h));

	if (!h || memcmp(h->signature, signature, sizeof(h->signature)) != 0 || h->length < min)
		return NULL;
	return at(phys, h->length);
}

static void take_cpu(u32 apic_id, u32 flags)
{
	if ((flags & MADT_ENABLED) && boot_info.nr_cpus < ARRAY_SIZE(boot_info.apic_ids))
		boot_info.apic_ids[boot_info.nr_cpus++] = apic_id;
}

static void take_cpus(const struct madt *madt)
{
	const u8 *p = (const u8 *)(madt + 1), *end = (const u8 *)madt + madt->header.length;

	while (end - p >= 2) {
		const struct madt_entry *e = (const struct madt_entry *)p;

		if (e->length < 2 || e->length > end - p)
			return;
		if (e->type == MADT_LOCAL_APIC && e->length >= 2 + sizeof(e->apic))
			take_cpu(e->apic.id, e->apic.flags);
		else if (e->type == MADT_LOCAL_X2APIC && e->length >= 2 + sizeof(e->x2apic))
			take_cpu(e->x2apic.id, e->x2apic.flags);
		p += e->length;
	}
}

void acpi_parse(u64 rsdp_phys)
{
	const struct rsdp *rsdp = at(rsdp_phys, sizeof(*rsdp));
	const struct acpi_header *xsdt;

	if (!rsdp || memcmp(rsdp->signature, "RSD PTR ", 8) != 0 || rsdp->revision < 2)
		return;
	xsdt = table(rsdp->xsdt, "XSDT", sizeof(*xsdt));
	if (!xsdt)
		return;
	for (u32 off = sizeof(*xsdt); xsdt->length - off >= sizeof(u64); off += sizeof(u64)) {
		const struct acpi_header *madt;
		u64 phys;

		memcpy(&phys, (const u8 *)xsdt + off, sizeof(phys));
		madt = table(phys, "APIC", sizeof(struct madt));
		if (madt) {
			take_cpus((const struct madt *)madt);
			return;
		}
	}
}
