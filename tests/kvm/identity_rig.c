#include "tests/kvm/identity_rig.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/kvm/told.h"

void identity_hear(int console, char said[SAID])
{
	for (unsigned n = 0;; n++) {
		ck_assert_uint_lt(n, SAID);
		ck_assert_int_eq(recv(console, said + n, 1, MSG_WAITALL), 1);
		if (said[n] == '\n') {
			said[n] = 0;
			break;
		}
	}
}

void identity_ask(const char *name, char what, char said[SAID])
{
	struct told vm = tell_to(name);

	ck_assert_int_eq(send(vm.console, &what, 1, MSG_NOSIGNAL), 1);
	identity_hear(vm.console, said);
	hang_up(&vm);
}

uint64_t identity_number(const char *name, char what)
{
	char said[SAID];

	identity_ask(name, what, said);
	return strtoul(said, NULL, 16);
}

pid_t identity_start(const char *name, const char *ready, const char *const *args)
{
	pid_t pid = background(name, args);
	int control = control_connect(name), console = control_console(control);

	read_until(console, ready);
	close(console);
	close(control);
	return pid;
}

void identity_wait_for(const char *name, char what, uint64_t value)
{
	while (identity_number(name, what) != value)
		usleep(1000);
}
