#include "tests/kvm/told.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

pid_t start_told(const char *name, const char *const *more)
{
	const char *words[16] = {"--kernel", guest_path("nonces.elf"),
				 "--memory", "64M",
				 "--pmem",   make_pmem("nonces.pmem", TOLD_PAGES)};

	for (unsigned n = 6; *more; more++)
		words[n++] = *more;
	return background(name, words);
}

struct told tell_to(const char *name)
{
	struct told vm = {.name = name, .control = control_connect(name)};

	vm.console = control_console_from_now(vm.control);
	return vm;
}

void tell(const struct told *vm, const char *what)
{
	ck_assert_int_eq(send(vm->console, what, strlen(what), MSG_NOSIGNAL),
			 (ssize_t)strlen(what));
	read_until(vm->console, "done\n");
}

/* Its answer to @command, @len digits and the end of a line. */
static void hear_hex(const struct told *vm, const char *command, char *digits, size_t len)
{
	ck_assert_int_eq(send(vm->console, command, 1, MSG_NOSIGNAL), 1);
	for (size_t n = 0; n <= len; n++)
		ck_assert_int_eq(recv(vm->console, digits + n, 1, MSG_WAITALL), 1);
	digits[len] = 0;
}

void generation(const struct told *vm, char id[33])
{
	hear_hex(vm, "i", id, 32);
}

uint64_t count_now(const struct told *vm)
{
	char digits[17];

	hear_hex(vm, "n", digits, 16);
	return strtoull(digits, NULL, 16);
}

void hang_up(const struct told *vm)
{
	close(vm->console);
	close(vm->control);
}

void tell_once(const char *name, const char *what)
{
	struct told vm = tell_to(name);

	tell(&vm, what);
	hang_up(&vm);
}

json_t *forks_of(const char *const *args)
{
	struct run run;

	foal_command(&run, args);
	ck_assert_msg(run.status == 0, "%s: %d: %s", args[1], run.status, run.err_text);
	json_t *reply = json_loads(run.out_text, 0, NULL);
	ck_assert_ptr_nonnull(reply);
	run_free(&run);
	return reply;
}

pid_t fork_pid(const json_t *reply, size_t i)
{
	json_t *one = json_array_get(json_object_get(reply, "forks"), i);

	return (pid_t)json_integer_value(json_object_get(one, "pid"));
}

bool alive(pid_t pid)
{
	char path[64], state = 0;
	int threads = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (fscanf(f,
		   "%*d (%*[^)]) %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
		   "%*s %d",
		   &state, &threads) != 2)
		state = 0;
	fclose(f);
	/* Its first thread may have ended before others, which have its files open still. */
	return state && (state != 'Z' || threads > 1);
}

void kill_and_wait(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	while (alive(pid))
		usleep(1000);
}

const char *in_round(const char *format, int round)
{
	char *name;

	ck_assert_int_gt(asprintf(&name, format, round), 0);
	return name; /* for as long as the test lives */
}
