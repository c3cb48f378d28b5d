#include "tests/ept/snapshot_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define HOLD_MS 60000

const uint8_t snap_id[SNAP_ID] = "0123456789abcde";
struct snap_next snap_next = {.cut_short = -1};

const struct snap_origin snap_origins[SNAP_ORIGINS] = {
    {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, false, 0},  {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, false, 3},
    {EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, false, 0}, {EPT_ENGINE_HANDLER, EPT_HUGE_NEVER, true, 0},
    {EPT_ENGINE_HANDLER, EPT_HUGE_ALWAYS, true, 1},  {EPT_ENGINE_KERNEL, EPT_HUGE_NEVER, false, 0},
    {EPT_ENGINE_KERNEL, EPT_HUGE_ALWAYS, false, 1},  {EPT_ENGINE_KERNEL, EPT_HUGE_NEVER, true, 0},
};

struct vm snap_make(const struct snap_origin *o)
{
	struct ept_config config = {
	    .vm_name = "test", .vcpus = 1, .engine = o->engine, .huge = o->huge};

	if (o->file)
		return vm_file_with(&config, SNAP_SIZE, EPT_FILE_COW);
	return vm_create(&config, -1, 0, SNAP_SIZE, EPT_FILE_COW);
}

/* --- what is in memory ------------------------------------------------------------------ */

enum used { UNTOUCHED, READ, COMPRESSES, RANDOM, ZEROS, NR_USED };

static enum used used(uint64_t page)
{
	return (enum used)(page / 5 % NR_USED);
}

void snap_use(const struct vm *vm)
{
	char bytes[PAGE];

	for (uint64_t page = 0; page < SNAP_PAGES; page++) {
		enum used how = used(page);

		snap_page(page, false, bytes);
		if (how == READ)
			(void)*at(vm, page);
		else if (how != UNTOUCHED)
			memcpy((char *)at(vm, page), bytes, PAGE);
	}
}

void snap_page(uint64_t page, bool file, char *to)
{
	for (uint64_t i = 0; i < PAGE; i++)
		switch (used(page)) {
		case UNTOUCHED:
		case READ:
			to[i] = (char)(file ? pattern_byte(page * PAGE + i) : 0);
			break;
		case COMPRESSES:
			to[i] = (char)((page % 250) + 1);
			break;
		case RANDOM:
			to[i] = (char)pattern_byte(~(page * PAGE + i));
			break;
		case ZEROS:
		case NR_USED:
			to[i] = 0;
			break;
		}
}

bool snap_all_there(const struct vm *vm, bool file)
{
	char want[PAGE];
	bool same = true;

	for (uint64_t page = 0; page < SNAP_PAGES && same; page++) {
		snap_page(page, file, want);
		same = !memcmp((char *)vm->hva + page * PAGE, want, PAGE);
	}
	return same;
}

/* --- writing ---------------------------------------------------------------------------- */

static struct ept_space *failing;

static void on_bus_error(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	if (!ept_space_bus_error(failing, info))
		_exit(254);
}

static void cut(struct ept_space *space)
{
	struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

	failing = space;
	if (sigaction(SIGBUS, &action, NULL) || ftruncate(snap_next.cut_short, 0))
		_exit(253);
	close(space->pagemap_fd);
	space->pagemap_fd = -1;
}

/* In the child: its status is the writer's error. */
static _Noreturn void write_and_end(struct ept_space *space, const struct snap_files *files,
				    int zstd, int out)
{
	struct ept_snapshot_options options = {
	    .memory_fd = files->memory, .index_fd = files->index, .zstd_level = zstd};
	struct ept_snapshot_info info;
	char why[300] = "";
	int err;

	memcpy(options.id, snap_id, sizeof(snap_id));
	options.id[SNAP_ID - 1] = snap_next.id;
	options.layers = snap_next.layers;
	options.count = snap_next.count;
	ept_space_fork_frozen(space, open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
	if (snap_next.cut_short >= 0)
		cut(space);
	err = ept_snapshot_write(space, &options, &info, why, sizeof(why));
	if (write(out, &info, sizeof(info)) != sizeof(info) ||
	    write(out, why, sizeof(why)) != sizeof(why))
		_exit(255);
	_exit(-err);
}

int snap_try(struct vm *vm, struct snap_files *files, int zstd, bool overwrite, char why[300])
{
	struct ept_fork f;
	int fds[2], status;
	pid_t child;

	files->memory = temp_file(0);
	files->index = temp_file(0);
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(ept_space_hold(vm->space, HOLD_MS), 0);
	ck_assert_int_eq(ept_space_fork_begin(vm->space, &f), 0);
	child = fork();
	if (!child)
		write_and_end(vm->space, files, zstd, fds[1]);
	ept_space_fork_parent(vm->space);
	ept_space_release(vm->space);
	close(fds[1]);
	if (overwrite)
		memset(vm->hva, 0x77, vm->size);
	ck_assert_int_eq(read(fds[0], &files->info, sizeof(files->info)), sizeof(files->info));
	ck_assert_int_eq(read(fds[0], why, 300), 300);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ept_space_fork_done(vm->space, &f);
	close(fds[0]);
	ck_assert(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

void snap_take(struct vm *vm, struct snap_files *files, int zstd)
{
	char why[300];

	ck_assert_msg(!snap_try(vm, files, zstd, false, why), "%s", why);
}

void snap_close(const struct snap_files *files)
{
	close(files->memory);
	close(files->index);
}

void snap_flip(int fd, uint64_t bit)
{
	uint8_t byte;

	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(bit / 8)), 1);
	byte ^= (uint8_t)(1U << bit % 8);
	ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)(bit / 8)), 1);
}

uint64_t snap_size(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	return (uint64_t)st.st_size;
}

/* --- restoring -------------------------------------------------------------------------- */

struct ept_snapshot *snap_open(const struct snap_files *files)
{
	struct ept_snapshot *s;
	char why[300];
	int err = ept_snapshot_open(files->memory, files->index, "snap", &s, why, sizeof(why));

	ck_assert_msg(!err, "%s", why);
	return s;
}

int snap_open_error(const struct snap_files *files, char why[300])
{
	struct ept_snapshot *s;
	int err = ept_snapshot_open(files->memory, files->index, "snap", &s, why, 300);

	if (!err)
		ept_snapshot_close(s);
	return err;
}

struct vm snap_vm(const struct ept_config *config, struct ept_snapshot *const *from, size_t count,
		  int origin_fd)
{
	struct ept_object *obj, *origin = NULL;
	struct vm vm;

	if (origin_fd >= 0)
		ck_assert_int_eq(
		    ept_object_file(origin_fd, "disk.img", 0, SNAP_SIZE, EPT_FILE_COW, &origin), 0);
	ck_assert_int_eq(ept_object_snapshot(from, count, GPA(0), SNAP_SIZE, origin, &obj), 0);
	ept_object_put(origin);
	vm = vm_begin(config, "ram", obj, SNAP_SIZE);
	ept_object_put(obj);
	return vm;
}

struct snap_restored snap_restore_with(const struct ept_config *config,
				       const struct snap_files *files, int origin_fd,
				       const struct ept_working_set *set)
{
	struct snap_restored r = {.snapshot = snap_open(files)};

	r.vm = snap_vm(config, &r.snapshot, 1, origin_fd);
	if (set)
		ck_assert_int_eq(ept_space_prefetch(r.vm.space, set), 0);
	vm_start(&r.vm);
	return r;
}

struct snap_restored snap_restore(const struct snap_files *files, int origin_fd)
{
	return snap_restore_with(&one_thread, files, origin_fd, NULL);
}

void snap_restored_destroy(struct snap_restored *r)
{
	vm_destroy(&r->vm);
	ept_snapshot_close(r->snapshot);
}
