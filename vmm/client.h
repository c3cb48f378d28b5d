/*
 * The other side of the control socket: what foal ps, pause and the rest say to a VM.
 * The VM may be hostile, too: its answers have limits. Private to vmm/.
 */
#ifndef FOAL_VMM_CLIENT_H
#define FOAL_VMM_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "vmm/run_dir.h"

#define CLIENT_PATIENCE_MS 15000 /* an answer is waited for */

struct client {
	int fd;
	const char *name;
	int timeout_ms; /* to wait for an answer; negative: for ever */
	int pid;	/* as the VM told */
	bool gone;	/* it closed the connection */
	bool ended;	/* it told that it ends, */
	int end_status; /* how, and the line that it says of it, which may be printed */
	char end_text[256];
	int interrupt_fd; /* once it is readable no answer is waited for; -1: none */
	char *in;
	size_t len, size;
};

/*
 * Connect to @name's VM and hear its greeting. -ENOENT and FOAL_EXIT_NAME in @err: there
 * is none. 0: client_close() is to be called.
 */
int client_open(struct client *client, const struct run_dir *dir, const char *name,
		struct foal_error *err);
/* The same, and what it says is waited for no longer than that, now and later. */
int client_open_within(struct client *client, const struct run_dir *dir, const char *name,
		       int timeout_ms, struct foal_error *err);
void client_close(struct client *client);

/*
 * The same in parts, for who asks several at once: @client with a name, a time and an interrupt_fd
 * is connected; what is said is heard behind the greeting. client_close() behind each that did.
 */
int client_connect(struct client *client, const struct run_dir *dir, struct foal_error *err);
int client_greeted(struct client *client, struct foal_error *err);
int client_say(struct client *client, const char *command, json_t *members, int fd,
	       struct foal_error *err);
json_t *client_answer(struct client *client, struct foal_error *err);

/*
 * Ask @command with @members (an object, used up; or NULL) and with @fd, if it is not
 * negative. The reply, whose texts may be printed, or NULL with @err filled: what the VM said, or
 * that it is gone.
 */
json_t *client_ask(struct client *client, const char *command, json_t *members, int fd,
		   struct foal_error *err);

/* Hear what it says without being asked: that it ends, or is gone. Does not wait. */
void client_hear(struct client *client);

/*
 * Nothing that a VM says may steer the terminal: its control characters, C1's in UTF-8, too. Of
 * the texts right in @reply (NULL: nothing); client_ask() does it.
 */
void reply_make_printable(json_t *reply);

/* What @reply says under @key; 0 or "" if it does not. */
unsigned long long reply_number(const json_t *reply, const char *key);
const char *reply_text(const json_t *reply, const char *key);

#endif
