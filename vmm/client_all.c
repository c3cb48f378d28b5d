#include "vmm/client_all.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmm/vm.h"

#define AT_ONCE 256 /* each has a descriptor */

/* --- who there is --------------------------------------------------------------------------- */

struct gathering {
	const struct run_dir *dir;
	struct answers *out;
	int error;
};

static void gather(void *ctx, const char *name)
{
	struct gathering *g = ctx;
	struct answers *out = g->out;

	if (g->error || name_tidy(g->dir, name))
		return;
	if (out->nr == out->room) {
		size_t room = out->room ? 2 * out->room : 16;
		struct answer *all = realloc(out->all, room * sizeof(*all));

		if (!all) {
			g->error = -ENOMEM;
			return;
		}
		out->all = all;
		out->room = room;
	}
	struct answer *a = &out->all[out->nr++];
	*a = (struct answer){.client.fd = -1};
	snprintf(a->name, sizeof(a->name), "%s", name);
	name_mark(g->dir, name, &a->mark);
}

/* --- asking ----------------------------------------------------------------------------------- */

static int left_ms(uint64_t deadline)
{
	uint64_t now = now_ns();

	return now < deadline ? (int)((deadline - now) / 1000000) : 0;
}

/* False: it is not connected, and @err says why. */
static bool begin(struct answer *a, const struct run_dir *dir, const char *command, int timeout_ms,
		  int interrupt_fd)
{
	a->err = (struct foal_error){0};
	a->client = (struct client){
	    .name = a->name, .timeout_ms = timeout_ms, .interrupt_fd = interrupt_fd};
	if (client_connect(&a->client, dir, &a->err))
		return false;
	if (client_say(&a->client, command, NULL, -1, &a->err) == 0)
		return true;
	client_close(&a->client);
	return false;
}

static void end(struct answer *a, int timeout_ms)
{
	a->client.timeout_ms = timeout_ms;
	if (client_greeted(&a->client, &a->err) == 0)
		a->reply = client_answer(&a->client, &a->err);
	client_close(&a->client);
}

/* All have been asked before the first is waited for. Who has no room now may have some then. */
static void ask(struct answer *all, size_t nr, const struct run_dir *dir, const char *command,
		int timeout_ms, int interrupt_fd)
{
	uint64_t deadline = now_ns() + (uint64_t)timeout_ms * 1000000;

	for (size_t i = 0; i < nr; i++)
		begin(&all[i], dir, command, 0, interrupt_fd);
	for (size_t i = 0; i < nr; i++) {
		struct answer *a = &all[i];

		if (a->client.fd >= 0 || (a->client.fd == -ETIMEDOUT &&
					  begin(a, dir, command, left_ms(deadline), interrupt_fd)))
			end(a, left_ms(deadline));
	}
}

int client_ask_all(const struct run_dir *dir, const char *command, int timeout_ms, int interrupt_fd,
		   struct answers *out)
{
	struct gathering g = {.dir = dir, .out = out};

	*out = (struct answers){0};
	int r = names_each(dir, gather, &g);
	if (r || g.error)
		return r ? r : g.error;
	for (size_t at = 0; at < out->nr; at += AT_ONCE) {
		size_t nr = out->nr - at < AT_ONCE ? out->nr - at : AT_ONCE;

		ask(&out->all[at], nr, dir, command, timeout_ms, interrupt_fd);
	}
	return 0;
}

void answers_free(struct answers *answers)
{
	for (size_t i = 0; i < answers->nr; i++)
		json_decref(answers->all[i].reply);
	free(answers->all);
	*answers = (struct answers){0};
}
