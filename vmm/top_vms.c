/* foal top of all VMs: what each says, and a line of that. What a VM says may be hostile. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/client_all.h"
#include "vmm/size_text.h"
#include "vmm/top.h"
#include "vmm/vm.h"

#define COLUMNS 80

/* --- asking ------------------------------------------------------------------------------------
 */

/* The row of @name, in its place; NULL: out of memory. */
static struct top_vm *row_of(struct top_vms *vms, const char *name)
{
	size_t at = 0;

	while (at < vms->nr && strcmp(vms->vms[at].name, name) < 0)
		at++;
	if (at < vms->nr && strcmp(vms->vms[at].name, name) == 0)
		return &vms->vms[at];
	if (vms->nr == vms->room) {
		size_t more = vms->room ? 2 * vms->room : 64;
		struct top_vm *all = realloc(vms->vms, more * sizeof(*all));

		if (!all)
			return NULL;
		vms->vms = all;
		vms->room = more;
	}
	memmove(&vms->vms[at + 1], &vms->vms[at], (vms->nr++ - at) * sizeof(*vms->vms));
	vms->vms[at] = (struct top_vm){.state = "-"};
	snprintf(vms->vms[at].name, VM_NAME_SIZE, "%s", name);
	return &vms->vms[at];
}

static uint64_t faults_in(const json_t *stats)
{
	uint64_t faults = 0;
	const json_t *one;
	size_t i;

	json_array_foreach(json_object_get(stats, "cases"), i, one)
	{
		faults += reply_number(one, "faults");
	}
	return faults;
}

static void take(struct top_vm *vm, const json_t *reply)
{
	const json_t *stats = json_object_get(reply, "stats");
	const json_t *start = json_object_get(stats, "start");
	uint64_t began = reply_number(start, "main_ns"), now = reply_number(start, "end_ns");
	uint64_t at = now_ns(), faults = faults_in(stats);

	vm->rate = vm->at && faults > vm->faults
		       ? (double)(faults - vm->faults) * 1e9 / (double)(at - vm->at)
		       : 0;
	vm->at = at;
	vm->faults = faults;
	vm->uptime = now > began ? now - began : 0;
	vm->resident = reply_number(json_object_get(stats, "resident"), "guest");
	vm->limit = reply_number(json_object_get(stats, "reclaim"), "limit");
	top_take_name(vm->state, reply_text(reply, "state"));
}

/* One that has just ended is none. */
static int take_answer(struct top_vms *vms, const struct answer *a)
{
	if (!a->reply && a->err.status == FOAL_EXIT_NAME)
		return 0;
	struct top_vm *vm = row_of(vms, a->name);
	if (!vm)
		return -ENOMEM;
	vm->seen = true;
	vm->silent = !a->reply;
	if (a->reply)
		take(vm, a->reply);
	return 0;
}

static void forget_gone(struct top_vms *vms)
{
	size_t kept = 0;

	for (size_t i = 0; i < vms->nr; i++)
		if (vms->vms[i].seen)
			vms->vms[kept++] = vms->vms[i];
	vms->nr = kept;
}

static bool interrupted(int signals)
{
	struct pollfd fd = {.fd = signals, .events = POLLIN};

	return poll(&fd, 1, 0) > 0;
}

static int take_answers(struct top_vms *vms, const struct answers *answers)
{
	int r = 0;

	for (size_t i = 0; i < vms->nr; i++)
		vms->vms[i].seen = false;
	for (size_t i = 0; r == 0 && i < answers->nr; i++)
		r = take_answer(vms, &answers->all[i]);
	if (r == 0)
		forget_gone(vms);
	return r;
}

/* Who was not waited for is not taken for silent: the rows stay. */
int top_vms_look(struct top_vms *vms, const struct run_dir *dir, int signals,
		 struct foal_error *err)
{
	struct answers answers = {0};
	int r = dir->fd < 0 ? 0 : client_ask_all(dir, "stat", TOP_SILENT_MS, signals, &answers);

	if (r == 0 && !interrupted(signals))
		r = take_answers(vms, &answers);
	answers_free(&answers);
	if (r)
		return error_set(err, FOAL_EXIT_HOST, r, "%s: %s", dir->path, strerror(-r));
	top_vms_move(vms, 0);
	vms->at = now_ns();
	return 0;
}

void top_vms_free(struct top_vms *vms)
{
	free(vms->vms);
	*vms = (struct top_vms){0};
}

/* --- choosing ------------------------------------------------------------------------------------
 */

/* Of one that is gone the next stands there. */
static size_t selected(const struct top_vms *vms)
{
	size_t at = 0;

	while (at + 1 < vms->nr && strcmp(vms->vms[at].name, vms->selected) < 0)
		at++;
	return at;
}

void top_vms_move(struct top_vms *vms, int by)
{
	size_t at = selected(vms);

	if (by > 0 && at + 1 < vms->nr)
		at++;
	if (by < 0 && at > 0)
		at--;
	vms->selected[0] = 0;
	if (vms->nr)
		memcpy(vms->selected, vms->vms[at].name, VM_NAME_SIZE);
}

/* --- as text -------------------------------------------------------------------------------------
 */

static void put_vm(const struct top_vm *vm, struct top_page *page)
{
	top_line(page, "%-22.22s %-8.8s %10" PRIu64 " %7.0f %10s %10s %8.1f", vm->name,
		 vm->silent ? "silent" : vm->state, vm->faults, vm->rate, size_text(vm->resident),
		 vm->limit ? size_text(vm->limit) : "-", (double)vm->uptime / 1e9);
}

void top_vms_lay_out(const struct top_vms *vms, struct top_page *page)
{
	size_t chosen = selected(vms), first = 0;

	page->used = 0;
	memset(page->bold, 0, sizeof(page->bold));
	if (page->columns < COLUMNS)
		top_line(page, "%u columns: %d are needed", page->columns, COLUMNS);
	top_line(page, "%zu VMs; every %g s", vms->nr, vms->every);
	top_line(page, "%s", "");
	top_line(page, "%-22s %-8s %10s %7s %10s %10s %8s", "name", "state", "faults", "/s",
		 "resident", "limit", "age s");
	size_t room = page->rows - page->used;
	/* The chosen one is always in sight; a line is left for what is not. */
	if (room > 1 && vms->nr > room && chosen >= room - 1)
		first = chosen - (room - 2);
	for (size_t i = first; i < vms->nr && page->used < page->rows; i++) {
		if (page->used + 1 == page->rows && i + 1 < vms->nr && i != chosen) {
			top_line(page, "... %zu more VMs do not fit", vms->nr - (i - first));
			break;
		}
		put_vm(&vms->vms[i], page);
		if (i == chosen)
			memset(page->bold[page->used - 1], true, page->columns);
	}
}
