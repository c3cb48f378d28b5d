/* Machine <-> JSON: the two directions share one table. */
#include "vmm/manifest.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT	    1
/* More than there can be of disks, networks and all else together. */
#define MAX_OPTIONS 128

extern const char foal_version[];

/* --- one function an option: its @i-th value, allocated; NULL: there is none ----------------- */

static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *text(const char *fmt, ...)
{
	va_list args;
	char *out;

	va_start(args, fmt);
	int n = vasprintf(&out, fmt, args);
	va_end(args);
	return n < 0 ? NULL : out;
}

/* What is restored elsewhere is started elsewhere. */
static char *absolute(const char *path, const char *behind)
{
	char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);
	char *out = here ? text("%s/%s%s", here, path, behind) : text("%s%s", path, behind);

	free(here);
	return out;
}

static char *kernel_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->kernel ? absolute(opt->kernel, "") : NULL;
}

static char *initrd_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->initrd ? absolute(opt->initrd, "") : NULL;
}

static char *append_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->append[0] ? text("%s", opt->append) : NULL;
}

static char *boot_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->boot != BOOT_AUTO
		   ? text("%s", opt->boot == BOOT_PVH ? "pvh" : "linux64")
		   : NULL;
}

/* The words stand for a file that a host has. */
static char *firmware_value(const struct run_options *opt, unsigned i)
{
	const char *rom = opt->firmware;

	if (i > 0 || !rom)
		return NULL;
	if (strcmp(rom, "qboot") == 0 || strcmp(rom, "seabios") == 0)
		return text("%s", rom);
	return absolute(rom, "");
}

static char *size_text(const char *before, uint64_t bytes)
{
	return text("%s%lluK", before, (unsigned long long)bytes >> 10);
}

static char *memory_value(const struct run_options *opt, unsigned i)
{
	return i == 0 ? size_text("", opt->memory) : NULL;
}

static char *cpus_value(const struct run_options *opt, unsigned i)
{
	return i == 0 ? text("%u", opt->cpus) : NULL;
}

static char *cpu_value(const struct run_options *opt, unsigned i)
{
	return i == 0 ? text("%s", opt->cpu) : NULL;
}

static const char *mode_field(const struct file_option *file)
{
	static const char *const fields[] = {
	    [DISK_RO] = ",mode=ro", [DISK_COW] = ",mode=cow", [DISK_SHARED] = ",mode=shared"};

	return fields[file->mode];
}

static char *disk_value(const struct run_options *opt, unsigned i)
{
	const struct file_option *disk = &opt->disks[i];
	char *path, *out;

	if (i >= opt->disk_count)
		return NULL;
	if (disk->kind == FILE_NBD_URI)
		return text("%s%s", disk->path, mode_field(disk));
	path = absolute(disk->path, mode_field(disk));
	if (!path)
		return NULL;
	out = text("%s%s%s", disk->kind == FILE_NBD_UNIX ? "nbd:unix:" : "", path,
		   disk->kind == FILE_QCOW2 ? ",format=qcow2"
		   : disk->kind == FILE_RAW ? ",format=raw"
					    : "");
	free(path);
	return out;
}

static char *pmem_value(const struct run_options *opt, unsigned i)
{
	return i < opt->pmem_count ? absolute(opt->pmems[i].path, mode_field(&opt->pmems[i]))
				   : NULL;
}

static char *net_value(const struct run_options *opt, unsigned i)
{
	char words[NET_OPTION_TEXT];

	if (i >= opt->net_count)
		return NULL;
	net_option_text(&opt->nets[i], words);
	return text("%s", words);
}

static char *transport_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->pci ? text("pci") : NULL;
}

static char *vsock_value(const struct run_options *opt, unsigned i)
{
	char *path, *out;

	if (i > 0 || !opt->vsock.path)
		return NULL;
	path = absolute(opt->vsock.path, "");
	out = path ? text("cid=%u,path=%s", opt->vsock.cid, path) : NULL;
	free(path);
	return out;
}

static char *balloon_value(const struct run_options *opt, unsigned i)
{
	if (i > 0 || !opt->balloon)
		return NULL;
	return opt->balloon_target ? size_text("target=", opt->balloon_target) : text("on");
}

static char *console_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->virtio_console ? text("virtio") : NULL;
}

static char *reset_port_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->reset_port ? text("on") : NULL;
}

static char *rng_value(const struct run_options *opt, unsigned i)
{
	return i == 0 && opt->rng ? text("on") : NULL;
}

/* All that a manifest may say. */
static const struct {
	const char *name;
	bool repeats;
	char *(*value)(const struct run_options *opt, unsigned i);
} rows[] = {
    {"kernel", false, kernel_value},
    {"initrd", false, initrd_value},
    {"append", false, append_value},
    {"boot", false, boot_value},
    {"firmware", false, firmware_value},
    {"memory", false, memory_value},
    {"cpus", false, cpus_value},
    {"cpu", false, cpu_value},
    {"disk", true, disk_value},
    {"pmem", true, pmem_value},
    {"net", true, net_value},
    {"transport", false, transport_value},
    {"vsock", false, vsock_value},
    {"balloon", false, balloon_value},
    {"console", false, console_value},
    {"rng", false, rng_value},
    {"reset-port", false, reset_port_value},
};

#define NR_ROWS (sizeof(rows) / sizeof(rows[0]))

/* --- writing ---------------------------------------------------------------------------- */

/* False: out of memory, or the value is no UTF-8. */
static bool append_row(json_t *options, const struct run_options *opt, size_t row)
{
	bool ok = true;
	char *value;

	for (unsigned i = 0; ok && (value = rows[row].value(opt, i)); i++) {
		ok =
		    json_array_append_new(options, json_pack("[s, s]", rows[row].name, value)) == 0;
		free(value);
	}
	return ok;
}

json_t *manifest_machine(const struct run_options *opt)
{
	json_t *options = json_array();
	bool ok = options;

	for (size_t row = 0; ok && row < NR_ROWS; row++)
		ok = append_row(options, opt, row);
	if (!ok) {
		json_decref(options);
		return NULL;
	}
	return json_pack("{s:i, s:s, s:o}", "format", FORMAT, "foal", foal_version, "options",
			 options);
}

/* Nothing is opened, and no directory asked for: paths are absolute already. */
void manifest_renew_ends(json_t *machine, const struct run_options *opt)
{
	json_t *options = json_object_get(machine, "options"), *pair;
	unsigned nets = 0;
	size_t i;

	json_array_foreach(options, i, pair)
	{
		const char *name = json_string_value(json_array_get(pair, 0));
		char *value = NULL;

		if (strcmp(name, "net") == 0)
			value = net_value(opt, nets++);
		else if (strcmp(name, "vsock") == 0)
			value = vsock_value(opt, 0);
		if (value)
			json_array_set_new(pair, 1, json_string(value));
		free(value);
	}
}

/* --- reading ------------------------------------------------------------------------------ */

static int refuse(struct foal_error *err, const char *where, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int refuse(struct foal_error *err, const char *where, const char *fmt, ...)
{
	char what[300];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return error_set(err, FOAL_EXIT_SNAPSHOT, -EINVAL, "%s: %s", where, what);
}

/* The row of what a manifest may say, once if it does not repeat; NR_ROWS: it may not. */
static size_t row_of(const char *name, unsigned *seen)
{
	for (size_t row = 0; row < NR_ROWS; row++) {
		if (strcmp(rows[row].name, name) != 0)
			continue;
		if (*seen >> row & 1 && !rows[row].repeats)
			return NR_ROWS;
		*seen |= 1u << row;
		return row;
	}
	return NR_ROWS;
}

static int take_option(const json_t *pair, const char *where, unsigned *seen,
		       struct run_options *opt, struct foal_error *err)
{
	const char *name = json_string_value(json_array_get(pair, 0));
	const char *value = json_string_value(json_array_get(pair, 1));
	struct foal_error why = {0};

	if (!name || !value || json_array_size(pair) != 2)
		return refuse(err, where, "an option is not a name and a value");
	if (row_of(name, seen) == NR_ROWS)
		return refuse(err, where, "option %.40s is not a machine's, or comes twice", name);
	if (options_set(opt, name, value, &why))
		return refuse(err, where, "%s", why.text);
	return 0;
}

static int check_head(const json_t *machine, const char *where, struct foal_error *err)
{
	const json_t *format = json_object_get(machine, "format");

	if (!json_is_integer(format))
		return refuse(err, where, "it does not say its format");
	if (json_integer_value(format) != FORMAT)
		return refuse(err, where, "format %lld is not known, this foal reads %d",
			      (long long)json_integer_value(format), FORMAT);
	if (!json_is_array(json_object_get(machine, "options")))
		return refuse(err, where, "it has no list of options");
	return 0;
}

int manifest_take(const json_t *machine, const char *where, struct run_options *opt,
		  struct foal_error *err)
{
	const json_t *options = json_object_get(machine, "options");
	struct foal_error why = {0};
	unsigned seen = 0;
	int r = check_head(machine, where, err);

	if (r == 0 && json_array_size(options) > MAX_OPTIONS)
		r = refuse(err, where, "it has %zu options", json_array_size(options));
	for (size_t i = 0; r == 0 && i < json_array_size(options); i++)
		r = take_option(json_array_get(options, i), where, &seen, opt, err);
	/* What the guest sees must not depend on this version's defaults. */
	if (r == 0 && (row_of("memory", &seen) != NR_ROWS || row_of("cpus", &seen) != NR_ROWS))
		r = refuse(err, where, "it does not say memory or cpus");
	if (r == 0 && options_check_machine(opt, &why))
		r = refuse(err, where, "%s", why.text);
	return r;
}

/* --- the files below ------------------------------------------------------------------------ */

static int add_file(json_t *list, const char *path, struct foal_error *err)
{
	char *whole = absolute(path, "");
	json_t *name = whole ? json_string(whole) : NULL;
	struct stat st;
	int r = stat(path, &st) ? -errno : 0;

	free(whole);
	if (r || !name) {
		json_decref(name);
		return error_set(err, FOAL_EXIT_SNAPSHOT, r ? r : -EILSEQ, "%s: %s", path,
				 r ? strerror(-r) : "its name is no UTF-8");
	}
	json_array_append_new(
	    list,
	    json_pack("{s:o, s:I, s:I}", "path", name, "size", (json_int_t)st.st_size, "mtime_ns",
		      (json_int_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec));
	return 0;
}

/* What a server keeps, nobody can look at. */
static bool is_local(const struct file_option *file)
{
	return file->kind != FILE_NBD_URI && file->kind != FILE_NBD_UNIX;
}

json_t *manifest_files(const struct run_options *opt, struct foal_error *err)
{
	const char *single[] = {opt->kernel, opt->initrd, firmware_path(opt)};
	json_t *list = json_array();
	int r = 0;

	for (unsigned i = 0; i < 3 && r == 0; i++)
		r = single[i] ? add_file(list, single[i], err) : 0;
	for (unsigned i = 0; i < opt->disk_count && r == 0; i++)
		r = is_local(&opt->disks[i]) ? add_file(list, opt->disks[i].path, err) : 0;
	for (unsigned i = 0; i < opt->pmem_count && r == 0; i++)
		r = add_file(list, opt->pmems[i].path, err);
	if (r) {
		json_decref(list);
		return NULL;
	}
	return list;
}

int manifest_check_files(const json_t *files, const char *where, const struct run_options *opt,
			 struct foal_error *err)
{
	struct foal_error why = {0};
	json_t *here = manifest_files(opt, &why), *one;
	size_t i;
	int r =
	    here ? 0
		 : refuse(err, where, "%.250s; put the file back (cp -p keeps the time)", why.text);

	if (r == 0 && json_array_size(files) != json_array_size(here))
		r = refuse(err, where, "its list of files is not its machine's");
	json_array_foreach(here, i, one)
	{
		if (r == 0 && !json_equal(one, json_array_get(files, i)))
			r = refuse(
			    err, where,
			    "%s is not the file it was when the VM ran: another size or time "
			    "of change; put it back (cp -p keeps the time)",
			    json_string_value(json_object_get(one, "path")));
	}
	json_decref(here);
	return r;
}
