/*
 * The main job: read a large real file through its mapping, and go through the
 * ways in which a program's memory can come to be, checking every byte of it.
 *
 *   main [nonce=WORD] [DIR ...]
 *
 * Each DIR holds `corpus`, which is only read, and `shared`, which is written.
 * Without any, /data is taken, and /pmem/data too if it is there. WORD goes into
 * what is written to `shared`, so that runs can be told apart in the image.
 * Prints a line a step; the exit status is 0 if all of them held, else 1.
 */
#include "guest/user/lib/sha256.h"
#include "guest/user/lib/user.h"

enum {
	SPREAD_PAGES = 64, /* pages of the corpus written privately */
	SHARED_STEP = 4,   /* every how many pages of `shared` are written */
	ANON_PAGES = 256,
	FORK_PAGES = 16,
	TURN_LIMIT_MS = 20000,
};

struct job {
	const char *nonce;
	const char *dir;
	char corpus[128];
	char shared[128];
	char sum[SHA256_HEX]; /* the corpus's, once the first step has read it */
};

static int fail(const struct job *job, const char *what, long detail)
{
	print("main: FAILED: %s: %s (%ld)\n", job->dir, what, detail);
	return 1;
}

static bool all_bytes(const uint8_t *p, size_t len, uint8_t byte)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != byte)
			return false;
	}
	return true;
}

static uint8_t *map_anonymous(size_t pages)
{
	long addr = sys_mmap(NULL, pages * PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return addr < 0 ? NULL : (uint8_t *)addr;
}

/* Sums the corpus through a fresh read-only mapping, and prints it as sha256sum(1) would. */
static int sum_corpus(const struct job *job, char sum[SHA256_HEX])
{
	struct mapping map;
	uint64_t start = now_ns();
	int err = map_file(job->corpus, false, MAP_PRIVATE, &map);

	if (err)
		return fail(job, "mapping the corpus", err);
	sha256_hex(map.data, map.len, sum);
	print("sha256 %s  %s\n", sum, job->corpus);
	print("main: read ok: %lu bytes in %lu ms\n", map.len, (now_ns() - start) / 1000000);
	unmap(&map);
	return 0;
}

static int step_read(struct job *job)
{
	return sum_corpus(job, job->sum);
}

/* Page `page` of the spread got its stamp in `own`, and only there. */
static bool private_page_ok(const struct mapping *own, const struct mapping *file, size_t page,
			    const char *stamp, size_t len)
{
	const uint8_t *mine = own->data + page * PAGE_SIZE;
	const uint8_t *theirs = file->data + page * PAGE_SIZE;

	return !memcmp(mine, stamp, len) && memcmp(theirs, stamp, len) != 0 &&
	       !memcmp(mine + len, theirs + len, PAGE_SIZE - len);
}

static int step_private_write(struct job *job)
{
	struct mapping own, file;
	char stamp[48];
	/* Few of its pages are written: with little memory all of it would be refused. */
	int err = map_file(job->corpus, true, MAP_PRIVATE | MAP_NORESERVE, &own);

	if (err)
		return fail(job, "mapping the corpus privately", err);
	err = map_file(job->corpus, false, MAP_PRIVATE, &file);
	if (err)
		return fail(job, "mapping the corpus again", err);

	size_t stride = own.len / PAGE_SIZE / SPREAD_PAGES;
	if (!stride)
		return fail(job, "corpus too small, bytes", (long)own.len);
	for (size_t i = 0; i < SPREAD_PAGES; i++) {
		size_t len = format(stamp, sizeof(stamp), "private page %zu", i * stride);

		memcpy(own.data + i * stride * PAGE_SIZE, stamp, len);
	}
	for (size_t i = 0; i < SPREAD_PAGES; i++) {
		size_t len = format(stamp, sizeof(stamp), "private page %zu", i * stride);

		if (!private_page_ok(&own, &file, i * stride, stamp, len))
			return fail(job, "private write, page", (long)(i * stride));
	}
	unmap(&own);
	unmap(&file);
	print("main: private write ok: %d pages\n", SPREAD_PAGES);
	return 0;
}

static int step_unchanged(struct job *job)
{
	char sum[SHA256_HEX];

	if (sum_corpus(job, sum))
		return 1;
	if (strcmp(sum, job->sum) != 0)
		return fail(job, "the corpus changed under private writes", 0);
	print("main: file unchanged ok\n");
	return 0;
}

static int step_anonymous(struct job *job)
{
	uint8_t *mem = map_anonymous(ANON_PAGES);

	if (!mem)
		return fail(job, "mapping anonymous memory", 0);
	if (!all_bytes(mem, (size_t)ANON_PAGES * PAGE_SIZE, 0))
		return fail(job, "anonymous memory was not zero", 0);
	for (size_t i = 0; i < ANON_PAGES; i++)
		memset(mem + i * PAGE_SIZE, (int)i, PAGE_SIZE);
	for (size_t i = 0; i < ANON_PAGES; i++) {
		if (!all_bytes(mem + i * PAGE_SIZE, PAGE_SIZE, (uint8_t)i))
			return fail(job, "anonymous write, page", (long)i);
	}
	sys_munmap(mem, (size_t)ANON_PAGES * PAGE_SIZE);
	print("main: anonymous ok: %d pages read as zero, then written\n", ANON_PAGES);
	return 0;
}

/* Parent and child take turns through a word of the shared file. */
enum turn { TURN_START = 1, TURN_CHILD_WROTE, TURN_PARENT_WROTE };

static bool await_turn(const volatile uint32_t *turn, enum turn want)
{
	for (unsigned ms = 0; ms < TURN_LIMIT_MS; ms++) {
		if (*turn == want)
			return true;
		sleep_ms(1);
	}
	return false;
}

/* The child's exit status: 0, or the number of the check that failed. */
static int fork_child(uint8_t *mem, volatile uint32_t *turn)
{
	const size_t half = FORK_PAGES * PAGE_SIZE / 2;

	if (!all_bytes(mem, 2 * half, 'P'))
		return 1;
	memset(mem, 'C', half);
	*turn = TURN_CHILD_WROTE;
	if (!await_turn(turn, TURN_PARENT_WROTE))
		return 2;
	if (!all_bytes(mem, half, 'C') || !all_bytes(mem + half, half, 'P'))
		return 3;
	return 0;
}

static int fork_parent(const struct job *job, uint8_t *mem, volatile uint32_t *turn)
{
	const size_t len = (size_t)FORK_PAGES * PAGE_SIZE;

	if (!await_turn(turn, TURN_CHILD_WROTE))
		return fail(job, "the child never took its turn", (long)*turn);
	if (!all_bytes(mem, len, 'P'))
		return fail(job, "the child's write showed in the parent", 0);
	memset(mem, 'Q', len);
	*turn = TURN_PARENT_WROTE;
	return 0;
}

static int step_fork(struct job *job)
{
	struct mapping shared;
	int status = 0;
	uint8_t *mem = map_anonymous(FORK_PAGES);
	int err = map_file(job->shared, true, MAP_SHARED, &shared);

	if (err || !mem)
		return fail(job, "mapping memory for fork", err);
	volatile uint32_t *turn = (volatile uint32_t *)shared.data;
	*turn = TURN_START;
	memset(mem, 'P', (size_t)FORK_PAGES * PAGE_SIZE);

	int pid = sys_fork();
	if (pid < 0)
		return fail(job, "fork", pid);
	if (!pid)
		sys_exit(fork_child(mem, turn));
	if (fork_parent(job, mem, turn))
		return 1;
	if (sys_wait4(pid, &status) != pid || status)
		return fail(job, "the child's status", status);
	if (!all_bytes(mem, (size_t)FORK_PAGES * PAGE_SIZE, 'Q'))
		return fail(job, "the parent lost its own write", 0);
	sys_munmap(mem, (size_t)FORK_PAGES * PAGE_SIZE);
	unmap(&shared);
	print("main: fork ok: %d pages, copied on write both ways\n", FORK_PAGES);
	return 0;
}

/* What page `page` of the shared file is to hold: one line, over and over. */
static void fill_pattern(uint8_t *dst, const char *nonce, size_t page)
{
	char line[128];
	size_t len = format(line, sizeof(line), "foal %s page %zu\n", nonce, page);

	for (size_t at = 0; at < PAGE_SIZE; at += len)
		memcpy(dst + at, line, len < PAGE_SIZE - at ? len : PAGE_SIZE - at);
}

/* The sum of the pages of `shared` that are left alone. */
static void sum_untouched(const struct mapping *map, char sum[SHA256_HEX])
{
	struct sha256 ctx;

	sha256_init(&ctx);
	for (size_t page = 0; page < map->len / PAGE_SIZE; page++) {
		if (page % SHARED_STEP)
			sha256_update(&ctx, map->data + page * PAGE_SIZE, PAGE_SIZE);
	}
	sha256_final_hex(&ctx, sum);
}

/* The file, read the other way, holds what the mapping holds. */
static int compare_with_read(const struct job *job, const struct mapping *map)
{
	static uint8_t buf[PAGE_SIZE];
	int fd = sys_open(job->shared, O_RDONLY);

	if (fd < 0)
		return fail(job, "opening the shared file", fd);
	for (size_t off = 0; off < map->len; off += PAGE_SIZE) {
		long n = sys_pread(fd, buf, PAGE_SIZE, off);

		if (n != PAGE_SIZE || memcmp(buf, map->data + off, PAGE_SIZE) != 0)
			return fail(job, "read() differs from the mapping, offset", (long)off);
	}
	sys_close(fd);
	return 0;
}

static int step_shared_write(struct job *job)
{
	struct mapping map;
	char before[SHA256_HEX], after[SHA256_HEX];
	int err = map_file(job->shared, true, MAP_SHARED, &map);
	size_t written = 0;

	if (err)
		return fail(job, "mapping the shared file", err);
	if (!map.len || map.len % PAGE_SIZE)
		return fail(job, "the shared file is not whole pages", (long)map.len);
	sum_untouched(&map, before);
	for (size_t page = 0; page < map.len / PAGE_SIZE; page += SHARED_STEP, written++)
		fill_pattern(map.data + page * PAGE_SIZE, job->nonce, page);
	err = sys_msync(map.data, map.len, MS_SYNC);
	if (err)
		return fail(job, "msync", err);
	sum_untouched(&map, after);
	if (strcmp(before, after) != 0)
		return fail(job, "pages next to the written ones changed", 0);
	if (compare_with_read(job, &map))
		return 1;
	sha256_hex(map.data, map.len, after);
	print("sha256 %s  %s\n", after, job->shared);
	print("main: shared write ok: %zu pages, synced\n", written);
	unmap(&map);
	return 0;
}

static int run_job(const char *dir, const char *nonce)
{
	static int (*const steps[])(struct job *) = {
	    step_read,	    step_private_write, step_unchanged,
	    step_anonymous, step_fork,		step_shared_write,
	};
	struct job job = {.nonce = nonce, .dir = dir};

	format(job.corpus, sizeof(job.corpus), "%s/corpus", dir);
	format(job.shared, sizeof(job.shared), "%s/shared", dir);
	print("main: %s\n", dir);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		if (steps[i](&job))
			return 1;
	}
	return 0;
}

static bool exists(const char *path)
{
	int fd = sys_open(path, O_RDONLY);

	if (fd >= 0)
		sys_close(fd);
	return fd >= 0;
}

static int run_all(int argc, char **argv)
{
	const char *nonce = "none";
	bool any = false;

	for (int i = 1; i < argc; i++) {
		if (!memcmp(argv[i], "nonce=", 6)) {
			nonce = argv[i] + 6;
			continue;
		}
		any = true;
		if (run_job(argv[i], nonce))
			return 1;
	}
	if (any)
		return 0;
	if (run_job("/data", nonce))
		return 1;
	return exists("/pmem/data/corpus") ? run_job("/pmem/data", nonce) : 0;
}

int main(int argc, char **argv)
{
	struct rusage ru = {0};
	int status = run_all(argc, argv);

	sys_getrusage(&ru);
	print("main: faults: minor %ld, major %ld\n", ru.ru_minflt, ru.ru_majflt);
	if (!status)
		print("main: ok\n");
	return status;
}
