/*
 * Descriptors that come over the channel of a snapshot (docs/control.md), in messages that wait on
 * it. Private to vmm/.
 */
#ifndef FOAL_VMM_SNAPSHOT_CHANNEL_H
#define FOAL_VMM_SNAPSHOT_CHANNEL_H

#include "vmm/snapshot.h"

struct passed {
	int fds[SNAPSHOT_FILES_MAX + 1];
	unsigned count;
};

/* The next message; none waits, or it brings nothing: false. Whoever sent it may be hostile. */
bool channel_receive(int channel, struct passed *passed);
void channel_close(struct passed *passed);

/* The client's side: a message with @count descriptors. 0 or a negative errno. */
int channel_send(int channel, const char *word, const int *fds, unsigned count);

#endif
