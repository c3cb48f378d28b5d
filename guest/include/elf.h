/* ELF for x86-64 (System V ABI, chapters 4 and 5), and the auxiliary vector. */
#ifndef GUEST_ELF_H
#define GUEST_ELF_H

#include "guest/include/types.h"

#define ELF_MAGIC    0x464c457fU
#define ELF_CLASS_64 2
#define ELF_DATA_LSB 1
#define ELF_EXEC     2
#define ELF_DYN	     3
#define ELF_X86_64   62

struct elf_header {
	u32 magic;
	u8 class, data, version, pad[9];
	u16 type, machine;
	u32 version2;
	u64 entry, phoff, shoff;
	u32 flags;
	u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

#define PT_LOAD	  1
#define PT_INTERP 3

#define PHDR_X	  1
#define PHDR_W	  2
#define PHDR_R	  4

struct elf_phdr {
	u32 type, flags;
	u64 offset, vaddr, paddr, filesz, memsz, align;
};

enum auxv_type {
	AT_NULL = 0,
	AT_PHDR = 3,
	AT_PHENT = 4,
	AT_PHNUM = 5,
	AT_PAGESZ = 6,
	AT_ENTRY = 9,
	AT_UID = 11,
	AT_EUID = 12,
	AT_GID = 13,
	AT_EGID = 14,
	AT_HWCAP = 16,
	AT_CLKTCK = 17,
	AT_SECURE = 23,
	AT_RANDOM = 25,
	AT_EXECFN = 31,
};

#endif
