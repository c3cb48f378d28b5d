/*
 * A file whose storage does not answer, or with an error: on a file system of its own
 * (FUSE), served by a process that stops answering, as an NFS server that is gone.
 */
#ifndef TEST_KVM_SLOW_FILE_H
#define TEST_KVM_SLOW_FILE_H

#include <sys/types.h>

/*
 * Mount it, in a namespace of the test's own, and serve @pages pages of FILE_PATTERN,
 * until one from page @hung on is asked for: nothing is answered from then on, not what
 * the file's size is either, and who waits cannot even be killed. Returns the server's
 * process, 0 where the host has no FUSE.
 */
pid_t slow_file_serve(const char *directory, unsigned pages, unsigned hung);

/* The same file with a bad part: a read that reaches page @bad or a later one fails with EIO. */
pid_t bad_file_serve(const char *directory, unsigned pages, unsigned bad);

/*
 * The same file without one, which forgets what is written to it. The first write says so by a
 * byte in the pipe @begun, and is answered when a byte comes by @go.
 */
pid_t waiting_file_serve(const char *directory, unsigned pages, int begun, int go);

/* End the server: whoever waits gets an error now. */
void slow_file_end(pid_t server);

#endif
