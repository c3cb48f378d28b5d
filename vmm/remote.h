/* foal ps, console, pause, resume, stop, stat, balloon: commands to running VMs. Private to vmm/.
 */
#ifndef FOAL_VMM_REMOTE_H
#define FOAL_VMM_REMOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/client.h"
#include "vmm/ends.h"
#include "vmm/run_dir.h"

/* What each takes; further words and options are refused. */
struct remote_options {
	const char *command;
	const char *run_dir;
	const char *name;
	const char *size_word; /* of balloon */
	uint64_t size;
	unsigned pool;			     /* of template */
	unsigned count;			     /* of fork */
	const char *pattern;		     /* the same: of names; NULL: NAME.% */
	const char *clock;		     /* the same, and of reset; NULL: not said */
	const char *swap;		     /* the same: of swap files; NULL: none */
	struct end_patterns ends;	     /* the same */
	const char *dir, *parent, *compress; /* of snapshot; NULL: not given */
	bool diff;
	bool json, kill, here, has_timeout;
	bool prometheus;  /* of stat */
	bool reset_point; /* of clone */
	unsigned timeout; /* seconds */
};

int command_ps(int argc, char **argv, uint64_t main_ns);
int command_console(int argc, char **argv, uint64_t main_ns);
int command_pause(int argc, char **argv, uint64_t main_ns);
int command_resume(int argc, char **argv, uint64_t main_ns);
int command_stop(int argc, char **argv, uint64_t main_ns);
int command_stat(int argc, char **argv, uint64_t main_ns);
int command_balloon(int argc, char **argv, uint64_t main_ns);
int command_template(int argc, char **argv, uint64_t main_ns); /* the same */
int command_clone(int argc, char **argv, uint64_t main_ns);    /* the same */
int command_fork(int argc, char **argv, uint64_t main_ns);     /* remote_fork.c */
int command_snapshot(int argc, char **argv, uint64_t main_ns); /* remote_snapshot.c */
int command_reset(int argc, char **argv, uint64_t main_ns);

/* 0, or FOAL_EXIT_USAGE: it was said. */
int remote_parse(int argc, char **argv, struct remote_options *out);

/* What foal help COMMAND prints. */
void ps_help(void);
void console_help(void);
void pause_help(void);
void resume_help(void);
void stop_help(void);
void stat_help(void);
void balloon_help(void);
void snapshot_help(void);
void fork_help(void);
void template_help(void);
void clone_help(void);
void reset_help(void);

typedef int (*remote_fn)(const struct remote_options *opt, struct run_dir *dir,
			 struct client *client);
/* remote.c: read the command line, connect to the VM that is named, have @serve do the rest.
 * Its exit status, or that of what failed before, which was said. */
int remote_serve(int argc, char **argv, remote_fn serve);
/* The same of a command line that was read. */
int remote_run(const struct remote_options *opt, remote_fn serve);
/* Say what is in @err, if something is; the exit status. */
int remote_finish(const struct foal_error *err, int status);
/* The reply as it is, for programs. */
void remote_print(const json_t *reply);

/* remote_fork.c: what opt->command says: fork, clone, template. An exit status. */
int remote_fork(const struct remote_options *opt, struct run_dir *dir, struct client *client);

/* remote_console.c: both ways until the key, or the end of the VM; an exit status. */
int console_attach(struct client *client, struct foal_error *err);

#endif
