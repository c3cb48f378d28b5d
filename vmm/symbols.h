/*
 * The names of a guest kernel's code, from the symbol table of its ELF file (gABI, chapter 4). The
 * file is hostile: every offset, size and name is checked before use. Private to vmm/.
 */
#ifndef FOAL_VMM_SYMBOLS_H
#define FOAL_VMM_SYMBOLS_H

#include <stdint.h>

#include "vmm/error.h"

struct symbols;

/* FOAL_EXIT_TRACE, with what is wrong with @path. symbols_free() after 0. */
int symbols_open(const char *path, struct symbols **out, struct foal_error *err);
void symbols_free(struct symbols *symbols); /* NULL is allowed */

/*
 * The symbol that @address, as it was linked, lies in, and how far behind its start; NULL: in none.
 * A symbol without a size reaches to the next one, or to the end of its section. Names are of
 * printable ASCII, and @symbols'. NULL for @symbols is allowed.
 */
const char *symbols_find(const struct symbols *symbols, uint64_t address, uint64_t *offset);

#endif
