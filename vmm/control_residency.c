/*
 * The request for what of guest memory is there: guest-physical space in cells of a power of two,
 * as many as were asked for at most, and how many pages of each are resident.
 */
#include "ept/stats.h"
#include "vmm/control.h"
#include "vmm/vm.h"

struct map {
	unsigned shift; /* a cell has 2^shift bytes */
	json_t *spans;	/* cells in a row */
	json_t *pages, *there;
	bool any;
	uint64_t cell; /* by its number from gpa 0 on */
	uint64_t cell_pages, cell_there;
};

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)value);
}

/* --- how large cells are -------------------------------------------------------------------- */

/* Areas come in order: two share a cell at most. */
static uint64_t cells_of(const struct ept_space *space, unsigned shift)
{
	uint64_t cells = 0, last = UINT64_MAX, size;

	for (size_t i = 0; i < ept_area_count(space); i++) {
		gpa_t gpa;

		ept_area_range(ept_area_at(space, i), &gpa, &size);
		cells += ((gpa.v + size - 1) >> shift) - (gpa.v >> shift) + 1;
		cells -= gpa.v >> shift == last;
		last = (gpa.v + size - 1) >> shift;
	}
	return cells;
}

static unsigned shift_for(const struct ept_space *space, unsigned cells)
{
	unsigned shift = EPT_PAGE_SHIFT;

	while (cells_of(space, shift) > cells)
		shift++;
	return shift;
}

/* --- what is in them ------------------------------------------------------------------------- */

static void end_cell(struct map *map)
{
	json_array_append_new(map->pages, integer(map->cell_pages));
	json_array_append_new(map->there, integer(map->cell_there));
	map->cell_pages = map->cell_there = 0;
}

static void begin_span(struct map *map, uint64_t cell)
{
	json_t *span = json_object();

	map->pages = json_array();
	map->there = json_array();
	json_object_set_new(span, "gpa", integer(cell << map->shift));
	json_object_set_new(span, "pages", map->pages);
	json_object_set_new(span, "there", map->there);
	json_array_append_new(map->spans, span);
}

static void come_to(struct map *map, uint64_t cell)
{
	if (map->any && cell == map->cell)
		return;
	if (map->any)
		end_cell(map);
	if (!map->any || cell != map->cell + 1)
		begin_span(map, cell);
	map->any = true;
	map->cell = cell;
}

static void add_area(struct map *map, const struct ept_area *area)
{
	uint64_t size, next;
	gpa_t gpa;

	ept_area_range(area, &gpa, &size);
	for (uint64_t at = gpa.v, end = gpa.v + size; at < end; at = next) {
		uint64_t cell = at >> map->shift, cell_end = (cell + 1) << map->shift;

		next = cell_end < end ? cell_end : end;
		come_to(map, cell);
		map->cell_pages += (next - at) >> EPT_PAGE_SHIFT;
		map->cell_there +=
		    ept_area_resident_pages(area, GPA(at), (next - at) >> EPT_PAGE_SHIFT);
	}
}

json_t *control_serve_residency(struct control *control, struct conn *conn,
				const struct control_request *request)
{
	const struct ept_space *space = control->vm->space;
	struct map map = {.shift = shift_for(space, request->cells), .spans = json_array()};
	json_t *reply = conn_reply(request->id);

	(void)conn;
	for (size_t i = 0; i < ept_area_count(space); i++)
		add_area(&map, ept_area_at(space, i));
	if (map.any)
		end_cell(&map);
	json_object_set_new(reply, "cell", integer(1UL << map.shift));
	json_object_set_new(reply, "spans", map.spans);
	return reply;
}
