/* foal template: of a VM that runs it is a fork that stays; of a snapshot, of one restored for it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmm/helper.h"
#include "vmm/remote.h"
#include "vmm/snapshot_dir.h"

/* What the VM may take to be gone. */
#define GONE_MS 20000

/* The VM that was restored for it was there for nothing else. */
static int template_and_stop(const struct remote_options *opt, struct run_dir *dir,
			     struct client *client)
{
	struct foal_error ignored = {0};
	struct name_mark mark;
	int status;

	name_mark(dir, opt->name, &mark);
	status = remote_fork(opt, dir, client);
	json_decref(client_ask(client, "stop", json_pack("{s:b}", "kill", 1), -1, &ignored));
	name_wait_gone(dir, opt->name, &mark, GONE_MS);
	name_tidy(dir, opt->name);
	return status;
}

/* foal restore, into the background, paused. Its exit status; it said why. */
static int restore_paused(const struct remote_options *opt, const char *name)
{
	const char *argv[] = {"foal",	    "restore",	  opt->dir,
			      "-d",	    "--name",	  name,
			      "--paused",   "--prefetch", "off",
			      "--stats",    "off",	  opt->run_dir ? "--run-dir" : NULL,
			      opt->run_dir, NULL};
	int out, status = 0;
	pid_t pid = helper_self((char *const *)(uintptr_t)argv, &out);

	if (pid < 0)
		return FOAL_EXIT_HOST;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	close(out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : FOAL_EXIT_SIGNAL + WTERMSIG(status);
}

/* What DIR is called, without what is before and behind it. */
static void name_of_dir(const char *dir, char name[VM_NAME_SIZE])
{
	size_t len = strlen(dir), at;

	while (len > 1 && dir[len - 1] == '/')
		len--;
	for (at = len; at && dir[at - 1] != '/'; at--)
		;
	snprintf(name, VM_NAME_SIZE, "%.*s", (int)(len - at), dir + at);
}

static int template_of_dir(struct remote_options *opt)
{
	char name[VM_NAME_SIZE], source[VM_NAME_SIZE];

	if (opt->pattern)
		snprintf(name, sizeof(name), "%s", opt->pattern);
	else
		name_of_dir(opt->dir, name);
	const char *fault = vm_name_fault(name);
	if (fault)
		return usage_error("template: %s: no VM's name: %s; give --name", name, fault);
	snprintf(source, sizeof(source), "%.50s.restored", name);
	int status = restore_paused(opt, source);
	if (status)
		return status;
	opt->pattern = name;
	opt->name = source;
	return remote_run(opt, template_and_stop);
}

/* Whoever took a snapshot NAME says so here, too; a DIR is told from a name by its /. */
static void point_at_dir(const char *name)
{
	char path[VM_NAME_SIZE + sizeof("/" SNAPSHOT_MANIFEST)];

	snprintf(path, sizeof(path), "%s/" SNAPSHOT_MANIFEST, name);
	if (access(path, F_OK) == 0)
		notice("template: there is a snapshot %s here: foal template ./%s makes one of it",
		       name, name);
}

int command_template(int argc, char **argv, uint64_t main_ns)
{
	struct remote_options opt;
	int r = remote_parse(argc, argv, &opt);

	(void)main_ns;
	if (r)
		return r;
	if (opt.dir)
		return template_of_dir(&opt);
	r = remote_run(&opt, remote_fork);
	if (r == FOAL_EXIT_NAME)
		point_at_dir(opt.name);
	return r;
}
