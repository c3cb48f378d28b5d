/* The map of foal top: a character for each cell of guest-physical space. */
#include <inttypes.h>
#include <string.h>

#include "vmm/top.h"

#define ROW	    64 /* cells */
#define ROW_SHIFT   6
#define LABEL_WIDTH 15

/* A cell of the map: of one of the VM's, or of several that lie side by side. */
struct drawn {
	uint64_t pages, there;
	bool changed;
};

static uint64_t row_of(const struct top_cell *cell, unsigned merge)
{
	return cell->number >> merge >> ROW_SHIFT;
}

static unsigned rows_with(const struct top_sample *s, unsigned merge)
{
	unsigned rows = 0;

	for (unsigned i = 0; i < s->nr_cells; i++)
		rows += i == 0 || row_of(&s->cells[i], merge) != row_of(&s->cells[i - 1], merge);
	return rows;
}

/* What was there of it at the last look; @at walks on with the cells. */
static bool changed(const struct top *top, const struct top_cell *cell, unsigned *at)
{
	const struct top_sample *b = &top->before;

	if (!top->again || b->shift != top->now.shift)
		return false;
	while (*at < b->nr_cells && b->cells[*at].number < cell->number)
		(*at)++;
	return *at < b->nr_cells && b->cells[*at].number == cell->number &&
	       b->cells[*at].there != cell->there;
}

static char sign(const struct drawn *cell)
{
	if (!cell->pages)
		return ' ';
	if (!cell->there)
		return '.';
	if (cell->there == cell->pages)
		return '#';
	return (char)('0' + (10 * cell->there < cell->pages ? 1 : 10 * cell->there / cell->pages));
}

static void put_row(struct top_page *page, uint64_t gpa, const struct drawn row[ROW])
{
	char text[ROW + 1] = "";

	for (unsigned i = 0; i < ROW; i++) {
		text[i] = sign(&row[i]);
		if (LABEL_WIDTH + i < page->columns)
			page->bold[page->used][LABEL_WIDTH + i] = row[i].changed;
	}
	top_line(page, "0x%012" PRIx64 " %s", gpa, text);
}

static void put_rows(const struct top *top, struct top_page *page, unsigned merge)
{
	const struct top_sample *s = &top->now;
	struct drawn row[ROW] = {0};
	unsigned at = 0;

	for (unsigned i = 0; i < s->nr_cells; i++) {
		const struct top_cell *cell = &s->cells[i];
		struct drawn *to = &row[(cell->number >> merge) % ROW];

		to->pages += cell->pages;
		to->there += cell->there;
		to->changed |= changed(top, cell, &at);
		if (i + 1 < s->nr_cells && row_of(cell, merge) == row_of(cell + 1, merge))
			continue;
		put_row(page, row_of(cell, merge) << ROW_SHIFT << merge << s->shift, row);
		memset(row, 0, sizeof(row));
	}
}

void top_lay_out_map(const struct top *top, struct top_page *page)
{
	const struct top_sample *s = &top->now;
	unsigned left = page->rows - page->used, merge = 0;
	uint64_t pages = 0, there = 0;

	if (left < 3) {
		if (left)
			top_line(page, "the map does not fit: %u more rows are needed", 3 - left);
		return;
	}
	while (rows_with(s, merge) > left - 2)
		merge++;
	for (unsigned i = 0; i < s->nr_cells; i++) {
		pages += s->cells[i].pages;
		there += s->cells[i].there;
	}
	top_line(page, "%s", "");
	top_line(page,
		 "map      %" PRIu64 " of %" PRIu64 " pages; %" PRIu64
		 " KiB a cell: . none, 1-9 tenths, # all",
		 there, pages, 1UL << (s->shift + merge) >> 10);
	put_rows(top, page, merge);
}
