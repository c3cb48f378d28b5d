/*
 * --vsock: what the guest's sockets are connected to on the host. PATH is a Unix
 * socket that foal listens on for connections to the guest; those of the guest
 * to host port P go to PATH_P. Private to vmm/; the device is devices/vsock.h.
 */
#ifndef FOAL_VMM_VSOCK_H
#define FOAL_VMM_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"
#include "vmm/helper.h"

struct vsock_option {
	char *path; /* owned; NULL: no vsock */
	uint32_t cid;
};

struct vm_vsock {
	int listener, connector; /* -1: not open */
	struct device *device;
};

/* @path for option @name, of which the user said @value: kept in @out. */
int vsock_take_path(const char *name, const char *value, const char *path, struct vsock_option *out,
		    struct foal_error *err);
bool vsock_is_cid(uint32_t cid);
/* A CID that hardly anybody else has. */
int vsock_make_cid(uint32_t *cid, struct foal_error *err);

/* cid=N,path=SOCK, in any order. @out->path may be set on error. */
int vsock_option_parse(const char *name, const char *value, struct vsock_option *out,
		       struct foal_error *err);

/*
 * Listen on the path and start the connector, which removes it at the end. A
 * socket file that nobody listens on any more is replaced.
 */
int vsock_open(struct vm_vsock *vsock, const struct vsock_option *option, struct helpers *helpers,
	       struct foal_error *err);
void vsock_close(struct vm_vsock *vsock);

/*
 * Lock (flock(2)) the directory that the socket @path lies in, against other foals
 * that look for left-over sockets there; closing the descriptor unlocks it. Or a
 * negative errno; -EWOULDBLOCK: somebody held it for a second.
 */
int vsock_lock(const char *path);

/* What the connector is: foal vsock-connect PATH, started by vsock_open() alone. */
int command_vsock_connect(int argc, char **argv, uint64_t main_ns);

#endif
