#include "vmm/control_request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ept/ept.h"
#include "vmm/fork.h"

#define TAKES_TIMEOUT  1U
#define TAKES_KILL     2U
#define TAKES_FORMAT   4U
#define TAKES_SIZE     8U
#define TAKES_HOW      16U
#define TAKES_COUNT    32U
#define TAKES_CLOCK    64U
#define TAKES_SWAP     128U
#define TAKES_POOL     256U
#define TAKES_HERE     512U
#define TAKES_ENDS     1024U
#define TAKES_CELLS    2048U

#define CELLS	       1024

#define TIMEOUT_MAX_MS 3600000
#define PAUSE_MAX_MS   60000 /* nobody else is served meanwhile */

static const struct {
	const char *name;
	unsigned takes;
} commands[] = {
#define X(id, name, takes) {name, takes},
    CONTROL_COMMANDS(X)
#undef X
};

const char *control_error_name(enum control_error error)
{
	static const char *const names[] = {
#define X(id, name) name,
	    CONTROL_ERRORS(X)
#undef X
	};

	return names[error];
}

static int wrong(struct control_fault *fault, enum control_error code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int wrong(struct control_fault *fault, enum control_error code, const char *fmt, ...)
{
	va_list args;

	fault->code = code;
	va_start(args, fmt);
	vsnprintf(fault->text, sizeof(fault->text), fmt, args);
	va_end(args);
	return -EINVAL;
}

/* --- one function a member ------------------------------------------------------------- */

static int take_timeout(const json_t *value, struct control_request *out,
			struct control_fault *fault)
{
	int most = out->command == CONTROL_PAUSE ? PAUSE_MAX_MS : TIMEOUT_MAX_MS;
	json_int_t ms = json_integer_value(value);

	if (!json_is_integer(value) || ms < 0 || ms > most)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "timeout_ms: give a whole number from 0 to %d", most);
	out->has_timeout = true;
	out->timeout_ms = (uint64_t)ms;
	return 0;
}

static int take_kill(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "kill: give true or false");
	out->kill = json_is_true(value);
	return 0;
}

static int take_here(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "here: give true or false");
	out->here = json_is_true(value);
	return 0;
}

static int take_format(const json_t *value, struct control_request *out,
		       struct control_fault *fault)
{
	static const char *const words[] = {
	    [STAT_JSON] = "json", [STAT_TABLE] = "table", [STAT_PROMETHEUS] = "prometheus"};
	const char *word = json_string_value(value);

	for (unsigned i = 0; word && i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(word, words[i]) == 0) {
			out->format = i;
			return 0;
		}
	}
	return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
		     "format: give \"json\", \"table\" or \"prometheus\"");
}

static int take_size(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	json_int_t size = json_integer_value(value);

	if (!json_is_integer(value) || size <= 0 || (uint64_t)size % EPT_PAGE_SIZE)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "size: give bytes, a multiple of %lu", EPT_PAGE_SIZE);
	out->size = (uint64_t)size;
	return 0;
}

static int take_count(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	json_int_t count = json_integer_value(value);

	if (!json_is_integer(value) || count < 1 || count > FORK_COUNT_MAX)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "count: give a whole number from 1 to %d", FORK_COUNT_MAX);
	out->count = (unsigned)count;
	return 0;
}

static int take_cells(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	json_int_t cells = json_integer_value(value);

	if (!json_is_integer(value) || cells < CONTROL_CELLS_MIN || cells > CONTROL_CELLS_MAX)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "cells: give a whole number from %d to %d", CONTROL_CELLS_MIN,
			     CONTROL_CELLS_MAX);
	out->cells = (unsigned)cells;
	return 0;
}

static int take_clock(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	const char *word = json_string_value(value);

	if (!word || (strcmp(word, "freeze") != 0 && strcmp(word, "jump") != 0))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "clock: give \"freeze\" or \"jump\"");
	out->jump = word[0] == 'j';
	return 0;
}

static int take_template(const json_t *value, struct control_request *out,
			 struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "template: give true or false");
	out->template = json_is_true(value);
	return 0;
}

static int take_clone(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "clone: give true or false");
	out->clone = json_is_true(value);
	return 0;
}

static int take_pool(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	json_int_t pool = json_integer_value(value);

	if (!json_is_integer(value) || pool < 0 || pool > FORK_POOL_MAX)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "pool: give a whole number from 0 to %d", FORK_POOL_MAX);
	out->pool = (unsigned)pool;
	return 0;
}

static int take_reset_point(const json_t *value, struct control_request *out,
			    struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "reset_point: give true or false");
	out->reset_point = json_is_true(value);
	return 0;
}

static int take_swap(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "swap: give true or false");
	out->swap = json_is_true(value);
	return 0;
}

static int take_nets(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	bool ok = json_is_array(value) && json_array_size(value) <= MAX_NETS;

	for (unsigned i = 0; ok && i < json_array_size(value); i++) {
		const char *word = json_string_value(json_array_get(value, i));

		ok = word && (strcmp(word, "tap") == 0 || strcmp(word, "user") == 0);
		out->ends.taps[out->ends.nets++] = ok && word[0] == 't';
	}
	return ok ? 0
		  : wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			  "nets: give a list of \"tap\" and \"user\", at most %d", MAX_NETS);
}

static int take_vsock(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "vsock: give true or false");
	out->ends.vsock = json_is_true(value);
	return 0;
}

static int take_compress(const json_t *value, struct control_request *out,
			 struct control_fault *fault)
{
	const char *word = json_string_value(value);

	if (!word || strcmp(word, "zstd") != 0)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "compress: give \"zstd\"");
	out->how.zstd_level = SNAPSHOT_ZSTD_LEVEL;
	return 0;
}

static int take_parents(const json_t *value, struct control_request *out,
			struct control_fault *fault)
{
	json_int_t n = json_integer_value(value);

	if (!json_is_integer(value) || n < 0 || n >= SNAPSHOT_CHAIN_MAX)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "parents: give a whole number from 0 to %d", SNAPSHOT_CHAIN_MAX - 1);
	out->how.parents = (unsigned)n;
	return 0;
}

static int take_pagemap(const json_t *value, struct control_request *out,
			struct control_fault *fault)
{
	if (!json_is_boolean(value))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "pagemap: give true or false");
	out->how.pagemap = json_is_true(value);
	return 0;
}

static int take_dir(const json_t *value, struct control_request *out, struct control_fault *fault)
{
	const char *path = json_string_value(value);

	out->dir = path && path[0] == '/' ? strdup(path) : NULL;
	return out->dir ? 0 : wrong(fault, CONTROL_ERROR_BAD_REQUEST, "dir: give an absolute path");
}

static const struct {
	const char *name;
	unsigned bit;
	int (*take)(const json_t *value, struct control_request *out, struct control_fault *fault);
} members[] = {
    {"count", TAKES_COUNT, take_count},
    {"clock", TAKES_CLOCK, take_clock},
    {"swap", TAKES_SWAP, take_swap},
    {"nets", TAKES_ENDS, take_nets},
    {"vsock", TAKES_ENDS, take_vsock},
    {"template", TAKES_POOL, take_template},
    {"pool", TAKES_POOL, take_pool},
    {"clone", TAKES_POOL, take_clone},
    {"reset_point", TAKES_POOL, take_reset_point},
    {"timeout_ms", TAKES_TIMEOUT, take_timeout},
    {"kill", TAKES_KILL, take_kill},
    {"format", TAKES_FORMAT, take_format},
    {"size", TAKES_SIZE, take_size},
    {"compress", TAKES_HOW, take_compress},
    {"parents", TAKES_HOW, take_parents},
    {"pagemap", TAKES_HOW, take_pagemap},
    {"dir", TAKES_HOW, take_dir},
    {"here", TAKES_HERE, take_here},
    {"cells", TAKES_CELLS, take_cells},
};

#define NR_MEMBERS (sizeof(members) / sizeof(members[0]))

/* --- the whole --------------------------------------------------------------------------- */

/* First of all, so that whatever else is wrong is answered to it. */
static int take_id(json_t *root, struct control_request *out, struct control_fault *fault)
{
	json_t *id = json_object_get(root, "id");

	if (!id)
		return 0;
	if (!json_is_integer(id) &&
	    !(json_is_string(id) && json_string_length(id) <= CONTROL_ID_MAX))
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST,
			     "id: give a whole number or a string of at most %d bytes",
			     CONTROL_ID_MAX);
	out->id = json_incref(id);
	return 0;
}

static int take_command(const json_t *root, struct control_request *out,
			struct control_fault *fault)
{
	const char *word = json_string_value(json_object_get(root, "command"));

	if (!word)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "command: give its name");
	for (int i = 0; i < NR_CONTROL_COMMANDS; i++) {
		if (strcmp(word, commands[i].name) == 0) {
			out->command = (enum control_command)i;
			return 0;
		}
	}
	return wrong(fault, CONTROL_ERROR_UNKNOWN_COMMAND, "%.40s: no such command", word);
}

static int take_member(const char *key, const json_t *value, struct control_request *out,
		       struct control_fault *fault)
{
	if (strcmp(key, "id") == 0 || strcmp(key, "command") == 0)
		return 0;
	for (size_t i = 0; i < NR_MEMBERS; i++)
		if (strcmp(key, members[i].name) == 0 &&
		    commands[out->command].takes & members[i].bit)
			return members[i].take(value, out, fault);
	return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "%.40s: no such member of a \"%s\" request",
		     key, commands[out->command].name);
}

static int take_object(json_t *root, struct control_request *out, struct control_fault *fault)
{
	const char *key;
	json_t *value;
	int r = take_id(root, out, fault);

	if (r == 0)
		r = take_command(root, out, fault);
	json_object_foreach(root, key, value)
	{
		if (r == 0)
			r = take_member(key, value, out, fault);
	}
	if (r == 0 && out->command == CONTROL_BALLOON && !out->size)
		r = wrong(fault, CONTROL_ERROR_BAD_REQUEST, "size: say how much the guest keeps");
	if (r == 0 && out->reset_point && !out->clone)
		r = wrong(fault, CONTROL_ERROR_BAD_REQUEST, "reset_point: it is of clone");
	return r;
}

int control_request_parse(const char *line, size_t len, struct control_request *out,
			  struct control_fault *fault)
{
	json_error_t error;
	json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, &error);
	int r;

	*out = (struct control_request){.count = 1, .cells = CELLS};
	if (!root)
		return wrong(fault, CONTROL_ERROR_BAD_REQUEST, "no JSON object in one line: %.100s",
			     error.text);
	r = take_object(root, out, fault); /* of what is no object, nothing can be got */
	json_decref(root);
	return r;
}

void control_request_free(struct control_request *request)
{
	json_decref(request->id);
	request->id = NULL;
	free(request->dir);
	request->dir = NULL;
}
