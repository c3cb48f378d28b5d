/* The boot, as a script; and the end of the run. */
#include "guest/include/apic.h"
#include "guest/include/block.h"
#include "guest/include/boot.h"
#include "guest/include/cmdline.h"
#include "guest/include/console.h"
#include "guest/include/cpu.h"
#include "guest/include/exec.h"
#include "guest/include/file.h"
#include "guest/include/fs.h"
#include "guest/include/huge.h"
#include "guest/include/hugetlb.h"
#include "guest/include/mm.h"
#include "guest/include/mm_init.h"
#include "guest/include/printk.h"
#include "guest/include/process.h"
#include "guest/include/random.h"
#include "guest/include/rlimit.h"
#include "guest/include/smp.h"
#include "guest/include/string.h"
#include "guest/include/swap.h"
#include "guest/include/syscall.h"
#include "guest/include/task.h"

#define DEFAULT_ROOT  "/dev/vda"
#define DEFAULT_INIT  "/bin/main"
#define INIT_ARGS_MAX 32

static u64 free_at_start; /* pages, before the first mount */

static struct block_device *device_of(const char *path)
{
	return strncmp(path, "/dev/", 5) ? NULL : blkdev_lookup(path + 5);
}

static void mount_root(void)
{
	struct block_device *pmem = blkdev_lookup("pmem0");
	struct block_device *root;
	char path[32];
	int err;

	if (!cmdline_get("root", path, sizeof(path)))
		memcpy(path, DEFAULT_ROOT, sizeof(DEFAULT_ROOT));
	root = device_of(path);
	if (!root)
		panic("root=%s: no such device (--disk gives /dev/vda, --pmem /dev/pmem0)", path);
	err = fs_mount(root, "/");
	if (err)
		panic("root=%s: not mounted (%d)", path, err);
	if (fs_mount_devices() || fs_mount_proc())
		panic("/dev, /proc: not mounted");
	/* Persistent memory that is not the root is at hand beside it. */
	if (pmem && pmem != root) {
		err = fs_mount(pmem, "/pmem");
		if (err)
			printk("pmem0: not mounted on /pmem (%d)\n", err);
	}
}

static void choose_huge_pages(void)
{
	char word[16];

	if (!cmdline_get("transparent_hugepage", word, sizeof(word)))
		return;
	if (!strncmp(word, "always", sizeof(word)))
		thp_mode = THP_ALWAYS;
	else if (!strncmp(word, "never", sizeof(word)))
		thp_mode = THP_NEVER;
	else if (strncmp(word, "madvise", sizeof(word)) != 0)
		panic("transparent_hugepage=%s: always, madvise or never", word);
}

static void fill_pool(void)
{
	u64 want = 0, got;
	char word[16];

	if (!cmdline_get("hugepages", word, sizeof(word)))
		return;
	for (const char *p = word; *p; p++) {
		if (*p < '0' || *p > '9' || want > 1UL << 32)
			panic("hugepages=%s: a number of 2 MiB pages", word);
		want = want * 10 + (u64)(*p - '0');
	}
	got = hugetlb_init(want);
	if (got < want)
		printk("hugepages=%lu: there is memory for %lu\n", want, got);
}

static void start_swap(void)
{
	struct block_device *bdev;
	char path[32];
	int err;

	if (!cmdline_get("swap", path, sizeof(path)))
		return;
	bdev = device_of(path);
	err = bdev ? swap_on(bdev) : -ENODEV;
	if (err)
		panic("swap=%s: no swap area there (%d); mkswap makes one", path, err);
}

static void open_console(void)
{
	struct file *f;

	for (int fd = 0; fd < 3; fd++)
		if (!file_open("/dev/console", O_RDWR, &f))
			fd_install(f);
}

/* The first task: what needs to sleep, then the first program in its own place. */
static void init_main(void *arg)
{
	/* Of the registers only those of FXSAVE survive a switch. Where ring 3 is shown the real
	 * processor, glibc would use the wider ones. */
	static const char *const envp[] = {
	    "PATH=/bin", "HOME=/", "TERM=vt100",
	    "GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX,-AVX2,-AVX_Fast_Unaligned_Load,"
	    "-AVX512F,-AVX512VL,-FMA,-FMA4"};
	static const char *argv[EXEC_ARGV_ROOM + 1 + INIT_ARGS_MAX];
	static char init[128], words[1024];
	struct exec_args args = {.path = init,
				 .argv = argv + EXEC_ARGV_ROOM,
				 .argc = 1,
				 .envp = envp,
				 .envc = ARRAY_SIZE(envp)};
	int err;

	(void)arg;
	random_init();
	drivers_init();
	free_at_start = nr_free_pages();
	rlimits_init(current->process);
	if (files_init(current))
		panic("no memory for the first task");
	mount_root();
	start_swap();
	open_console();
	if (!cmdline_get("init", init, sizeof(init)))
		memcpy(init, DEFAULT_INIT, sizeof(DEFAULT_INIT));
	args.argv[0] = init;
	args.argc += cmdline_init_args(words, sizeof(words), args.argv + 1, INIT_ARGS_MAX);
	pr_info("init: %s, %lu ms after boot\n", init, ktime_ns() / 1000000);
	machine_ready();
	err = do_exec(task_regs(current), &args);
	if (err)
		panic("init=%s: cannot be run (%d); init=PATH names a program of the root", init,
		      err);
}

/* From head.S, on the boot stack. */
void kernel_main(u64 start_info_phys)
{
	struct process *process;
	struct task *init;

	cpu_init();
	pvh_parse(start_info_phys);
	paging_init();
	page_alloc_init();
	pr_info("command line: %s\n", boot_info.cmdline);
	memory_init();
	choose_huge_pages();
	fill_pool();
	numa_balancing = cmdline_has("numa_balancing=enable");
	sched_init();
	apic_init();
	time_init();
	syscall_init();
	mce_init();
	console_init();
	smp_init();
	process = process_create();
	init = process ? task_create("init", init_main, NULL, process) : NULL;
	if (!init)
		panic("no memory for the first task");
	wake_up_new_task(init);
	idle_loop();
}

/* As a shell reports it: the exit code, or 128 and the signal. */
static u8 exit_code(int status)
{
	return (u8)(status & 0x7f ? 128 + (status & 0x7f) : status >> 8);
}

void kernel_shutdown(int status)
{
	s64 lost;

	processes_end_others();
	fs_unmount_all();
	if (nr_swap_slots() && swap_off())
		printk("swap: %lu pages are still in use\n", nr_swap_slots() - nr_free_slots());
	drivers_shutdown();
	huge_zero_shrink();
	lost = (s64)free_at_start - (s64)nr_free_pages();
	print_fault_counters();
	printk("memory: %lu of %lu pages free, %ld not given back\n", nr_free_pages(),
	       nr_total_pages(), lost);
	machine_exit(exit_code(status));
}
