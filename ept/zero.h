/* Is a page all zeros? It is read, so it has to be there. */
#ifndef FOAL_EPT_ZERO_H
#define FOAL_EPT_ZERO_H

#include "ept/ept.h"

#include <string.h>

static inline bool ept_is_zero(const char *page)
{
	return !page[0] && !memcmp(page, page + 1, EPT_PAGE_SIZE - 1);
}

#endif
