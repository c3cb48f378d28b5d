#include "vmm/options_devices.h"

#include <errno.h>
#include <string.h>

#include "vmm/option_values.h"

static int next_file(const char *value, struct run_options *out, struct foal_error *err)
{
	if (out->disk_count + out->pmem_count < MAX_FILES)
		return 0;
	return error_set(err, FOAL_EXIT_USAGE, -E2BIG,
			 "run: %s: at most %d disks and pmems together", value, MAX_FILES);
}

int option_disk(const char *name, const char *value, struct run_options *out,
		struct foal_error *err)
{
	int r = next_file(value, out, err);

	return r ? r : file_option_parse(name, value, true, &out->disks[out->disk_count++], err);
}

int option_pmem(const char *name, const char *value, struct run_options *out,
		struct foal_error *err)
{
	int r = next_file(value, out, err);

	return r ? r : file_option_parse(name, value, false, &out->pmems[out->pmem_count++], err);
}

int option_net(const char *name, const char *value, struct run_options *out, struct foal_error *err)
{
	if (out->net_count == MAX_NETS)
		return option_bad(err, name, value, "there are 8 already");
	return net_option_parse(name, value, &out->nets[out->net_count++], err);
}

int option_transport(const char *name, const char *value, struct run_options *out,
		     struct foal_error *err)
{
	static const char *const transports[] = {"mmio", "pci", NULL};
	int word = 0, r = option_word(name, value, transports, &word, err);

	out->pci = word == 1;
	return r;
}

int option_vsock(const char *name, const char *value, struct run_options *out,
		 struct foal_error *err)
{
	if (out->vsock.path)
		return option_bad(err, name, value, "a guest has one vsock device at most");
	return vsock_option_parse(name, value, &out->vsock, err);
}

int option_balloon(const char *name, const char *value, struct run_options *out,
		   struct foal_error *err)
{
	static const char *const words[] = {"off", "on", "target=SIZE", NULL};
	static const char key[] = "target=";
	int word = 0, r;

	out->balloon_target = 0;
	if (strncmp(value, key, sizeof(key) - 1) == 0) {
		out->balloon = true;
		return option_size("balloon: target", value + sizeof(key) - 1, &out->balloon_target,
				   err);
	}
	r = option_word(name, value, words, &word, err);
	out->balloon = word == 1;
	return r;
}

int option_console(const char *name, const char *value, struct run_options *out,
		   struct foal_error *err)
{
	static const char *const consoles[] = {"serial", "virtio", NULL};
	int word = 0, r = option_word(name, value, consoles, &word, err);

	out->virtio_console = word == 1;
	return r;
}

int option_rng(const char *name, const char *value, struct run_options *out, struct foal_error *err)
{
	return option_switch(name, value, &out->rng, err);
}

int option_reset_port(const char *name, const char *value, struct run_options *out,
		      struct foal_error *err)
{
	return option_switch(name, value, &out->reset_port, err);
}
