/* VMs with a name, and clients of their control sockets, for tests. A helper that cannot fails the
 * test. */
#ifndef TEST_KVM_CONTROL_RIG_H
#define TEST_KVM_CONTROL_RIG_H

#include <jansson.h>
#include <stddef.h>

#include "tests/kvm/runner.h"

/* `foal run -d --name @name @args`; its process. A limit of time ends it if the test does not. */
pid_t background(const char *name, const char *const *args);

/* `foal @args` as it is; run_free() it. */
void foal_command(struct run *run, const char *const *args);
/* The same, which must end with @status and have @words among what it said. */
void expect_command(const char *const *args, int status, const char *words);

/* End every VM of this test, and of those before that failed. */
void end_all(void);

/* A connection to @name, greeted. */
int control_connect(const char *name);
/* The same of one that begins in the foreground: once it can be reached. */
int control_connect_soon(const char *name);
/* The same, to hear how it ends: who has asked nothing is not waited for so long. */
int control_listen(const char *name);
/* With which status it ended, which is the next that is heard; hangs up. */
int control_end(int fd);
void control_send(int fd, const char *text);
/* The same, with a descriptor that is @passed so many @times (SCM_RIGHTS; 1 to 16). */
void control_pass(int fd, const char *text, int passed, unsigned times);
/* The same, with @count (1 to 16) that may differ. */
void control_pass_all(int fd, const char *text, const int *passed, unsigned count);
/* The next line; NULL at the end. json_decref() it. */
json_t *control_line(int fd);
/* Ask and hear; the reply, ok or not. */
json_t *control_ask(int fd, const char *request);
/* The same, that must be ok; the number @key of it, or 0. */
uint64_t control_number(int fd, const char *request, const char *key);
/* The same, that must fail with @code. */
void control_refused(int fd, const char *request, const char *code);

/* Attach to the console: a socket. */
int control_console(int fd);
/* The same, what was written before left out. */
int control_console_from_now(int fd);
/* Read @bytes of what is said on @fd, whatever they are. */
void skip_heard(int fd, size_t bytes);
/* Read from @fd until @text was there. */
void read_until(int fd, const char *text);
/* The same; what was heard, free() it. */
char *heard_until(int fd, const char *text);

/* How often vCPUs of the VM have left the guest, by KVM's count. */
uint64_t exits_of(int fd);

#endif
