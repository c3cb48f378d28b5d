/* foal: virtual machines whose memory is not there until it is touched. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/cpu.h"
#include "vmm/options.h"
#include "vmm/run.h"
#include "vmm/vm.h"
#include "vmm/vsock.h"

static int command_help(int argc, char **argv, uint64_t main_ns)
{
	(void)main_ns;
	if (argc > 1 && strcmp(argv[1], "cpu") == 0) {
		cpu_features_print();
		return 0;
	}
	puts("foal: virtual machines whose memory is not there until it is touched\n\n"
	     "  foal run     boot a kernel on lazily backed memory\n"
	     "  foal doctor  what this host offers, and what to do about what is missing\n"
	     "  foal help    this text\n");
	options_usage();
	return 0;
}

static const struct {
	const char *name;
	int (*call)(int argc, char **argv, uint64_t main_ns);
} commands[] = {
    {"run", command_run},     {"doctor", command_doctor}, {"help", command_help},
    {"--help", command_help}, {"-h", command_help},	  {"vsock-connect", command_vsock_connect},
};

/*
 * Started with one of 0, 1, 2 closed, the next file opened would take its number
 * and pass for the console. What holds the place fails as a closed one does.
 */
static void hold_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			exit(FOAL_EXIT_HOST); /* nowhere to say it */
	}
}

int main(int argc, char **argv)
{
	uint64_t main_ns = now_ns();
	struct foal_error err = {0};

	hold_standard_descriptors();
	if (argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0))
		exit(command_help(argc, argv, main_ns));
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			exit(commands[i].call(argc - 1, argv + 1, main_ns));
	}
	error_set(&err, FOAL_EXIT_USAGE, -1,
		  argc > 1 ? "%s: no such command; see foal help"
			   : "a command is needed%s; see foal help",
		  argc > 1 ? argv[1] : "");
	error_print(&err);
	exit(err.status);
}
