/*
 * Descriptors that a client of the control socket passed for a VM to be: hostile, until one of
 * these has said that it is what it is passed as. A thread that has one reads and writes it
 * without ever waiting, so sockets and interfaces have to be non-blocking. Private to vmm/.
 */
#ifndef FOAL_VMM_PASSED_FILES_H
#define FOAL_VMM_PASSED_FILES_H

#include <stdbool.h>

/* A Unix stream socket: one that listens, or one end of a pair. */
bool passed_listener(int fd);
bool passed_stream(int fd);
/* The tap interface @name, as net_open() opens one. */
bool passed_tap(int fd, const char *name);
/* A regular file; for writing; the same, and empty. */
bool passed_regular(int fd);
bool passed_writable(int fd);
bool passed_empty(int fd);
/* /dev/null, for reading and writing. */
bool passed_null(int fd);

#endif
