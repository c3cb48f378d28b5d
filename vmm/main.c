/* foal: virtual machines whose memory is not there until it is touched. */
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "vmm/bench.h"
#include "vmm/bench_snapshots.h"
#include "vmm/error.h"
#include "vmm/remote.h"
#include "vmm/remote_trace.h"
#include "vmm/replay.h"
#include "vmm/report.h"
#include "vmm/run.h"
#include "vmm/top.h"
#include "vmm/vm.h"
#include "vmm/vsock.h"

/* Of a thread. ThreadSanitizer keeps more of its own there than that. */
#ifdef __SANITIZE_THREAD__
#	define STACK_SIZE (4UL << 20)
#else
#	define STACK_SIZE (512UL << 10)
#endif

static const struct {
	const char *name;
	int (*call)(int argc, char **argv, uint64_t main_ns);
} commands[] = {
    {"run", command_run},
    {"doctor", command_doctor},
    {"version", command_version},
    {"--version", command_version},
    {"help", command_help},
    {"--help", command_help},
    {"-h", command_help},
    {"vsock-connect", command_vsock_connect}, /* for foal itself */
    {"ps", command_ps},
    {"console", command_console},
    {"pause", command_pause},
    {"resume", command_resume},
    {"stop", command_stop},
    {"stat", command_stat},
    {"trace", command_trace},
    {"report", command_report},
    {"top", command_top},
    {"replay", command_replay},
    {"balloon", command_balloon},
    {"snapshot", command_snapshot},
    {"fork", command_fork},
    {"template", command_template},
    {"clone", command_clone},
    {"restore", command_restore},
    {"verify", command_verify},
    {"reset", command_reset},
    {"bench", command_bench},
    {"bench-sample", command_bench_sample}, /* the same */
    {"bench-touch", command_bench_touch},   /* the same */
    {"bench-fork", command_bench_fork},	    /* the same */
    {"bench-reset", command_bench_reset},   /* the same */
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

/*
 * What jansson orders objects' keys by, from the kernel's random bytes for this process: its own
 * would come out of /dev/urandom, for which a restore has no time, and a sandbox no file.
 */
static void seed_json(void)
{
	size_t seed;

	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	memcpy(&seed, (const void *)getauxval(AT_RANDOM), sizeof(seed));
	json_object_seed(seed | 1);
}

/*
 * What every copy of a VM has again: pages of stacks, and of tables of pages, which are fewer if
 * stacks lie side by side. (malloc's arenas: sandbox_prepare().)
 */
static void use_small_stacks(void)
{
	pthread_attr_t attr;

	pthread_getattr_default_np(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
}

int main(int argc, char **argv)
{
	uint64_t main_ns = now_ns();

	use_small_stacks();
	hold_standard_descriptors();
	seed_json();
	if (argc < 2)
		exit(usage_error("a command is needed; see foal help"));
	if (argc == 3 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0))
		exit(command_help(2, argv, main_ns));
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name) == 0)
			exit(commands[i].call(argc - 1, argv + 1, main_ns));
	}
	exit(usage_error("%s: no such command; see foal help", argv[1]));
}
