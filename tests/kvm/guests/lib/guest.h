/*
 * What every test guest has: memory mapped one to one (the first 16 GiB, 2 MiB
 * pages, all writable), one stack, interrupts off, no IDT: an exception ends
 * the guest in a triple fault.
 *
 * A guest is one C file with guest_main(). It is told what to do by words of
 * its command line and answers by the exit port and the serial line. Ring 0 may
 * be emulated at a microsecond an instruction: loops are short.
 */
#ifndef TEST_GUEST_H
#define TEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guest/abi.h"
#include "tests/kvm/guests/lib/pattern.h"

#define PAGE 4096UL

/* Xen's hvm_start_info, version 1, and what it points to. */
struct start_info {
	uint32_t magic, version, flags, module_count;
	uint64_t modules, cmdline, rsdp, memmap;
	uint32_t memmap_count, reserved;
};

struct boot_module {
	uint64_t gpa, size, cmdline, reserved;
};

struct memmap_entry {
	uint64_t gpa, size;
	uint32_t type, reserved;
};

/* Each guest's own; returning ends the run with the value. */
unsigned guest_main(const struct start_info *info);

/* The start-up code's way in. */
_Noreturn void guest_start(const struct start_info *info);

_Noreturn void finish(unsigned status);

static inline void expect(bool ok, unsigned status)
{
	if (!ok)
		finish(status);
}

/* --- ports and memory ------------------------------------------------------ */

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
	return value;
}

static inline uint64_t peek(uint64_t gpa)
{
	return *(volatile uint64_t *)gpa;
}

static inline void poke(uint64_t gpa, uint64_t value)
{
	*(volatile uint64_t *)gpa = value;
}

static inline uint32_t peek32(uint64_t gpa)
{
	return *(volatile uint32_t *)gpa;
}

static inline void poke32(uint64_t gpa, uint32_t value)
{
	*(volatile uint32_t *)gpa = value;
}

/* --- serial line, polled --------------------------------------------------- */

void say_char(char c);
void say(const char *text);
void say_hex(uint64_t value);
/* One character typed, or -1. */
int heard(void);

/* --- boot information ------------------------------------------------------ */

const char *command_line(void);
/* The value of `key=N` on the command line, decimal or 0x...; else @fallback. */
uint64_t param(const char *key, uint64_t fallback);
/* Whether the command line has `key=value`. */
bool param_is(const char *key, const char *value);
/* The @index-th range of the memory map of @type; size 0 if there is none. */
struct memmap_entry memory_range(uint32_t type, unsigned index);

/* --- sweeps ---------------------------------------------------------------- */

/*
 * Touch the first word of `pages=` pages (default 64), `stride=` pages apart
 * (1), from page `first=` (0) of what starts at @base: `mode=r` reads, `mode=w`
 * writes, `mode=rw` reads all and then writes all. What is read must be 0, or
 * FILE_PATTERN of the page where @is_file; what is written is GUEST_PATTERN. `rest=`
 * ticks of the TSC follow each read (0).
 */
void sweep(uint64_t base, bool is_file);

/* The registers of the @index-th virtio device of @kind, by MMIO; 0: there is none. */
uint64_t virtio_device(uint32_t kind, unsigned index);

/* --- virtio-pmem ----------------------------------------------------------- */

/* What the @index-th virtio-pmem device announces; ends the guest if there is none. */
struct memmap_entry pmem_range(unsigned index);

/* Send a flush request to the first virtio-pmem device; its answer. */
uint32_t pmem_flush(void);

/* Read or write @len bytes of the first disk; no pmem may be there. False: an I/O error. */
bool disk_transfer(uint64_t sector, void *data, uint32_t len, bool write);

/* The same for one behind PCI, whose BAR is at @bar: first this, and when the BAR was moved. */
void pmem_set_up_pci(uint64_t bar);
void pmem_moved_pci(uint64_t bar);

/* --- touches that may end in an exception, in ring 3 if need be ------------ */

/* None: it came to its end (#UD); #PF; #MC. */
enum { TOUCHED = 6, TOUCH_PF = 14, TOUCH_MC = 18 };

void set_up_touch(void);
/* Ring 3 may touch all of the 2 MiB around @gpa. */
void open_to_user(uint64_t gpa);
/* Read or write one word in ring @ring (0 or 3: interrupts are on there); what it ended in. */
unsigned touch(uint64_t gpa, bool write, unsigned ring);

/* --- the other processor --------------------------------------------------- */

/* Start processor @apic_id in ap_main(), by INIT and STARTUP. */
void start_processor(uint32_t apic_id);
/* From here on by x2APIC: APIC ids above 254. */
void use_x2apic(void);
/* Defined by the guest that uses start_processor(). */
_Noreturn void ap_main(void);

#endif
