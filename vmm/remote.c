/* Commands to running VMs: each asks its control socket and says what came of it. */
#include "vmm/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/client_all.h"
#include "vmm/control_request.h"

/* What an answer may take beyond the time that was given for the thing itself. */
#define GRACE_MS  15000
/* How long one that says nothing may take to be gone, to count as one that ends. */
#define ENDING_MS 1000

/* --- one VM -------------------------------------------------------------------------------- */

int remote_finish(const struct foal_error *err, int status)
{
	if (err->status)
		error_print(err);
	return err->status ? err->status : status;
}

/* Connect to the VM that is named. 0, or an exit status: it was said. */
static int reach(const struct remote_options *opt, struct run_dir *dir, struct client *client)
{
	struct foal_error err = {0};
	int r = run_dir_open(dir, opt->run_dir, false, &err);

	if (r == -ENOENT)
		error_set(&err, FOAL_EXIT_NAME, r,
			  "%s: no running VM has this name; foal ps lists "
			  "them",
			  opt->name);
	else if (r == 0)
		r = client_open(client, dir, opt->name, &err);
	if (r)
		run_dir_close(dir);
	return remote_finish(&err, 0);
}

int remote_run(const struct remote_options *opt, remote_fn serve)
{
	struct run_dir dir;
	struct client client;
	int r = reach(opt, &dir, &client);

	if (r)
		return r;
	r = serve(opt, &dir, &client);
	client_close(&client);
	run_dir_close(&dir);
	return r;
}

int remote_serve(int argc, char **argv, remote_fn serve)
{
	struct remote_options opt;
	int r = remote_parse(argc, argv, &opt);

	return r ? r : remote_run(&opt, serve);
}

void remote_print(const json_t *reply)
{
	/* A terminal is steered by what is no ASCII, too: C1's control characters. */
	json_dumpf(reply, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII);
	putchar('\n');
}

/* Ask, and have @say tell of the reply. */
static int ask_one(const struct remote_options *opt, json_t *members, int fd, int timeout_ms,
		   void (*say)(const struct remote_options *opt, const json_t *reply))
{
	struct foal_error err = {0};
	struct run_dir dir;
	struct client client;
	int status = reach(opt, &dir, &client);

	if (status) {
		json_decref(members);
		return status;
	}
	client.timeout_ms = timeout_ms;
	json_t *reply = client_ask(&client, opt->command, members, fd, &err);
	if (reply && opt->json)
		remote_print(reply);
	else if (reply)
		say(opt, reply);
	json_decref(reply);
	client_close(&client);
	run_dir_close(&dir);
	return remote_finish(&err, 0);
}

static void say_paused(const struct remote_options *opt, const json_t *reply)
{
	printf("%s: paused, within %.3f ms\n", opt->name,
	       (double)reply_number(reply, "took_ns") / 1e6);
}

static int timeout_of(const struct remote_options *opt)
{
	return opt->has_timeout ? (int)opt->timeout * 1000 + GRACE_MS : GRACE_MS;
}

static json_t *timeout_member(const struct remote_options *opt)
{
	json_t *members = json_object();

	if (opt->has_timeout)
		json_object_set_new(members, "timeout_ms",
				    json_integer((json_int_t)opt->timeout * 1000));
	return members;
}

int command_pause(int argc, char **argv, uint64_t main_ns)
{
	struct remote_options opt;
	int r = remote_parse(argc, argv, &opt);

	(void)main_ns;
	return r ? r : ask_one(&opt, timeout_member(&opt), -1, timeout_of(&opt), say_paused);
}

/* A command that asks for one thing, at once. @members NULL: with nothing more. */
static int parse_and_ask(int argc, char **argv,
			 json_t *(*members)(const struct remote_options *opt),
			 void (*say)(const struct remote_options *opt, const json_t *reply))
{
	struct remote_options opt;
	int r = remote_parse(argc, argv, &opt);

	return r ? r : ask_one(&opt, members ? members(&opt) : NULL, -1, GRACE_MS, say);
}

static void say_resumed(const struct remote_options *opt, const json_t *reply)
{
	printf("%s: goes on; it was paused for %.3f ms\n", opt->name,
	       (double)reply_number(reply, "paused_ns") / 1e6);
}

int command_resume(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return parse_and_ask(argc, argv, NULL, say_resumed);
}

static void say_stat(const struct remote_options *opt, const json_t *reply)
{
	fputs(reply_text(reply, opt->prometheus ? "prometheus" : "table"), stdout);
}

static json_t *stat_members(const struct remote_options *opt)
{
	return json_pack("{s:s}", "format",
			 opt->json	   ? "json"
			 : opt->prometheus ? "prometheus"
					   : "table");
}

int command_stat(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return parse_and_ask(argc, argv, stat_members, say_stat);
}

static void say_balloon(const struct remote_options *opt, const json_t *reply)
{
	printf("%s: the guest is asked to put %llu MiB aside\n", opt->name,
	       reply_number(reply, "target") >> 20);
}

static json_t *balloon_members(const struct remote_options *opt)
{
	return json_pack("{s:I}", "size", (json_int_t)opt->size);
}

int command_balloon(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return parse_and_ask(argc, argv, balloon_members, say_balloon);
}

static void say_reset(const struct remote_options *opt, const json_t *reply)
{
	if (opt->here)
		printf("%s: its reset point is here; %.1f MiB kept; the guest was paused for "
		       "%.3f ms\n",
		       opt->name, (double)reply_number(reply, "kept_bytes") / (1 << 20),
		       (double)reply_number(reply, "paused_ns") / 1e6);
	else
		printf("%s: back at its reset point, %llu pages; the guest was paused for %.3f "
		       "ms\n",
		       opt->name, reply_number(reply, "pages"),
		       (double)reply_number(reply, "paused_ns") / 1e6);
}

static json_t *reset_members(const struct remote_options *opt)
{
	json_t *members = json_object();

	if (opt->here)
		json_object_set_new(members, "here", json_true());
	if (opt->clock)
		json_object_set_new(members, "clock", json_string(opt->clock));
	return members;
}

int command_reset(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return parse_and_ask(argc, argv, reset_members, say_reset);
}

/* --- stop ----------------------------------------------------------------------------------- */

static void say_stopped(const struct remote_options *opt, const json_t *reply)
{
	const char *text = reply_text(reply, "message");

	printf("%s: gone, status %llu%s%s\n", opt->name, reply_number(reply, "status"),
	       text[0] ? ": " : "", text);
}

/*
 * The reply comes with the end of the run; the name is free when the process is gone. A
 * VM that ends by itself meanwhile is gone, too, and that is what was wanted.
 */
static int stop(const struct remote_options *opt, struct run_dir *dir, struct client *client)
{
	struct foal_error err = {0};
	json_t *members = timeout_member(opt);
	struct name_mark mark;

	name_mark(dir, opt->name, &mark);
	if (opt->kill)
		json_object_set_new(members, "kill", json_true());
	client->timeout_ms = -1; /* storage may hang; the VM says so, and ends */
	json_t *reply = client_ask(client, "stop", members, -1, &err);
	if (reply && opt->json)
		remote_print(reply);
	else if (reply)
		say_stopped(opt, reply);
	json_decref(reply);
	if (!reply && !client->gone)
		return remote_finish(&err, 0);
	name_wait_gone(dir, opt->name, &mark, -1);
	name_tidy(dir, opt->name);
	if (!reply)
		printf(opt->json ? "{\n  \"ok\": true\n}\n" : "%s: gone\n", opt->name);
	return 0;
}

int command_stop(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return remote_serve(argc, argv, stop);
}

/* --- console --------------------------------------------------------------------------------- */

static int console(const struct remote_options *opt, struct run_dir *dir, struct client *client)
{
	struct foal_error err = {0};
	int r = console_attach(client, &err);

	(void)opt, (void)dir;
	return remote_finish(&err, r);
}

int command_console(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	return remote_serve(argc, argv, console);
}

/* --- ps -------------------------------------------------------------------------------- */

struct listing {
	const struct run_dir *dir;
	json_t *list; /* with --json */
	bool any;
	int width;  /* of the longest name */
	int status; /* FOAL_EXIT_CONTROL: there is one that does not answer */
};

static void print_size(unsigned long long bytes)
{
	printf(" %8.1f", (double)bytes / (1 << 20));
}

static void print_row(struct listing *ps, const char *name, const json_t *reply)
{
	if (!ps->any)
		printf("%-*s %8s %-8s %5s %8s %8s %10s\n", ps->width, "NAME", "PID", "STATE",
		       "VCPUS", "HOST/MiB", "OF/MiB", "UPTIME/s");
	printf("%-*s %8llu %-8.20s %5llu", ps->width, name, reply_number(reply, "pid"),
	       reply_text(reply, "state"), reply_number(reply, "vcpus"));
	print_size(reply_number(reply, "resident"));
	print_size(reply_number(reply, "memory"));
	printf(" %10.1f\n", (double)reply_number(reply, "uptime_ns") / 1e9);
}

/* One that ends just now is none; one that does not answer is said, and the rest listed. */
static void list_one(struct listing *ps, const struct answer *a)
{
	if (a->reply && ps->list) {
		json_object_del(a->reply, "ok");
		json_array_append(ps->list, a->reply);
	}
	if (a->reply && !ps->list)
		print_row(ps, a->name, a->reply);
	ps->any |= a->reply != NULL;
	if (a->reply || a->err.status == FOAL_EXIT_NAME ||
	    name_wait_gone(ps->dir, a->name, &a->mark, ENDING_MS) == 0)
		return;
	error_print(&a->err);
	ps->status = FOAL_EXIT_CONTROL;
}

static int list_all(struct listing *ps)
{
	struct answers answers;
	int r = client_ask_all(ps->dir, "status", CLIENT_PATIENCE_MS, -1, &answers);

	for (size_t i = 0; i < answers.nr; i++) {
		size_t width = strlen(answers.all[i].name);

		if (width > (size_t)ps->width)
			ps->width = (int)width;
	}
	for (size_t i = 0; r == 0 && i < answers.nr; i++)
		list_one(ps, &answers.all[i]);
	answers_free(&answers);
	return r;
}

int command_ps(int argc, char **argv, uint64_t main_ns)
{
	struct foal_error err = {0};
	struct remote_options opt;
	struct run_dir dir;
	int r = remote_parse(argc, argv, &opt);

	(void)main_ns;
	if (r)
		return r;
	struct listing ps = {.dir = &dir, .list = opt.json ? json_array() : NULL, .width = 16};
	r = run_dir_open(&dir, opt.run_dir, false, &err);
	if (r == 0)
		r = list_all(&ps);
	if (r && r != -ENOENT)
		error_set(&err, FOAL_EXIT_HOST, r, "%s: %s", dir.path, strerror(-r));
	if (ps.list && !err.status)
		remote_print(ps.list);
	else if (!ps.any && !ps.status && !err.status)
		printf("no VM with a name runs\n");
	json_decref(ps.list);
	run_dir_close(&dir);
	return remote_finish(&err, ps.status);
}
