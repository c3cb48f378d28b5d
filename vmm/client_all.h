/* One question for all VMs of a directory, which are asked at once. Private to vmm/. */
#ifndef FOAL_VMM_CLIENT_ALL_H
#define FOAL_VMM_CLIENT_ALL_H

#include "vmm/client.h"

struct answer {
	char name[VM_NAME_SIZE];
	struct name_mark mark; /* of before it was asked */
	json_t *reply;	       /* NULL: @err says why there is none */
	struct foal_error err; /* FOAL_EXIT_NAME: there is no such VM any more */
	struct client client;
};

struct answers {
	struct answer *all; /* by their names */
	size_t nr, room;
};

/*
 * Ask @command of every VM of @dir. What VMs that are gone left is cleared away. It takes no longer
 * than @timeout_ms for each 256 of them, however many do not answer, and ends once @interrupt_fd is
 * readable (-1: nothing does). 0 or a negative errno; answers_free() in any case.
 */
int client_ask_all(const struct run_dir *dir, const char *command, int timeout_ms, int interrupt_fd,
		   struct answers *out);
void answers_free(struct answers *answers);

#endif
