/* The cases, and the order in which a guest touches pages. */
#include <stdlib.h>

#include "vmm/bench.h"

/* No option: what a user gets. Anonymous memory and shared caches have one setting each. */
#define DEFAULT	     ""
#define SHARED_CACHE ""
#define LIMITED	     "--memory-limit 32M --swap FILE" /* BENCH_LIMIT_MIB; bench.h: swap */
#define HANDLER	     "--fault-engine handler"

/* clang-format off */
#define AT_MOST(r)  {'<', r}
#define AT_LEAST(r) {'>', r}

/* Two vCPUs at once, beside one. Those without a bar say what the host alone makes of it. */
#define TWO(n, o, m, ...) \
	{.name = "2cpus." n, .options = o, .other = BENCH_ONE_CPU, .cpus = 2, .mib = m, __VA_ARGS__}
#define AT_LEAST_HALF_MORE .measures = {{BENCH_RATE, AT_LEAST(1.5)}}
#define NO_BAR		   .measures = {{BENCH_RATE, {0}}}

/* Of the detail: small, timed, without a bar. */
#define DETAIL(n, o, b, p, ...) \
	{.name = "detail." n, .options = o, .backing = b, .pattern = p, .mib = 16, \
	 .detail = true, .measures = {{BENCH_TIME, {0}}}, __VA_ARGS__}

/* A file read in a pattern, from the page cache and not, by one vCPU and two. */
#define READS(n, o, p, ...) \
	DETAIL(n ".warm.1cpu", o, BENCH_PRIVATE, p, .cpus = 1, __VA_ARGS__), \
	DETAIL(n ".warm.2cpu", o, BENCH_PRIVATE, p, .cpus = 2, __VA_ARGS__), \
	DETAIL(n ".cold.1cpu", o, BENCH_PRIVATE, p, .cpus = 1, .cold = true, __VA_ARGS__), \
	DETAIL(n ".cold.2cpu", o, BENCH_PRIVATE, p, .cpus = 2, .cold = true, __VA_ARGS__)
#define PATTERNS(who, o) \
	READS(who ".file.read.seq", o, BENCH_SEQUENTIAL, .percent = 100), \
	READS(who ".file.read.strided", o, BENCH_STRIDED, .percent = 100), \
	READS(who ".file.read.random", o, BENCH_RANDOM, .percent = 10)
#define WINDOW(n) PATTERNS("window" #n, HANDLER " --fault-around " #n)

/* Every case of the handlers that a guest can bring about, and what they are to the kernel. */
#define PATHS(who, o, n) \
	DETAIL(who ".anon.read.seq." #n "cpu", o, BENCH_ANON, BENCH_SEQUENTIAL, .cpus = n), \
	DETAIL(who ".anon.write.seq." #n "cpu", o, BENCH_ANON, BENCH_SEQUENTIAL, .cpus = n, \
	       .write = true), \
	DETAIL(who ".anon.write.random." #n "cpu", o, BENCH_ANON, BENCH_RANDOM, .cpus = n, \
	       .write = true, .percent = 50), \
	DETAIL(who ".anon.wp.seq." #n "cpu", o, BENCH_ANON, BENCH_SEQUENTIAL, .cpus = n, \
	       .write = true, .read_before = true), \
	DETAIL(who ".file.cow.seq." #n "cpu", o, BENCH_PRIVATE, BENCH_SEQUENTIAL, .cpus = n, \
	       .write = true), \
	DETAIL(who ".file.wp.seq." #n "cpu", o, BENCH_PRIVATE, BENCH_SEQUENTIAL, .cpus = n, \
	       .write = true, .read_before = true), \
	DETAIL(who ".shared.read.seq." #n "cpu", o, BENCH_SHARED, BENCH_SEQUENTIAL, .cpus = n), \
	DETAIL(who ".shared.write.seq." #n "cpu", o, BENCH_SHARED, BENCH_SEQUENTIAL, .cpus = n, \
	       .write = true), \
	DETAIL(who ".shared.mkwrite.seq." #n "cpu", o, BENCH_SHARED, BENCH_SEQUENTIAL, .cpus = n, \
	       .write = true, .read_before = true)
/* Of foal bench exits: microseconds each, without a bar. */
#define EXIT(n, o, ...) \
	{.name = "exit." n, .options = o, .exits = true, .cpus = 1, \
	 .measures = {{BENCH_TIME, {0}}}, __VA_ARGS__}
/* Each touch is an event that maps so many pages: our cache has all of them. */
#define HANDLED(n) \
	EXIT("fault.handler." #n, HANDLER " --huge never --fault-around " #n, \
	     .backing = BENCH_PRIVATE, .pattern = BENCH_SPARSE, .cached = true, \
	     .mib = BENCH_LONG_FILE_MIB)
#define LEAVES(n, w, k, o) \
	EXIT(n ".ring0", DEFAULT, .exit = w, .ring0 = true, .times = k, .other = o), \
	EXIT(n ".ring3", DEFAULT, .exit = w, .times = k, .other = o)
/* Of foal bench replay: one that is recorded, and behind it others, which that predicts. */
#define REPLAY(n, o, b, p, ...) \
	{.name = "replay." n, .options = HANDLER " " o, .backing = b, .pattern = p, .mib = 64, \
	 .cpus = 1, .replayed = true, __VA_ARGS__}
#define REPLAYED(n, b, p, ...) \
	REPLAY(n ".1", "--fault-around 1 --huge never", b, p, __VA_ARGS__), \
	REPLAY(n ".16", "--fault-around 16 --huge never", b, p, __VA_ARGS__), \
	REPLAY(n ".64", "--fault-around 64 --huge never", b, p, __VA_ARGS__), \
	REPLAY(n ".huge", "--fault-around 16 --huge always", b, p, __VA_ARGS__)
#define ENGINE(who, o) PATTERNS(who, o), PATHS(who, o, 1), PATHS(who, o, 2)

const struct bench_case bench_cases[] = {
    {.name = "control.anon.write.seq", .options = DEFAULT, .write = true, .plain = true,
     .cpus = 1, .mib = 64, .measures = {{BENCH_TIME, {0}}}},
    {.name = "control.anon.write.sparse", .options = DEFAULT, .pattern = BENCH_SPARSE,
     .write = true, .plain = true, .cpus = 1, .mib = 1024, .pairs = BENCH_BRIEF,
     .measures = {{BENCH_TIME, {0}}}},
    {.name = "control.file.read.seq.cold", .options = DEFAULT, .backing = BENCH_PRIVATE,
     .cold = true, .plain = true, .cpus = 1, .mib = BENCH_FILE_MIB,
     .measures = {{BENCH_TIME, {0}}}},

    {.name = "anon.write.seq", .options = DEFAULT, .write = true, .cpus = 1, .mib = 512,
     .measures = {{BENCH_TIME, AT_MOST(0.10)}}},
    {.name = "anon.write.random_half", .options = DEFAULT, .pattern = BENCH_RANDOM, .percent = 50,
     .write = true, .cpus = 1, .mib = 256, .measures = {{BENCH_TIME, AT_MOST(0.25)}}},
    {.name = "anon.write.sparse", .options = DEFAULT, .pattern = BENCH_SPARSE, .write = true,
     .cpus = 1, .mib = 1024, .pairs = BENCH_BRIEF,
     .measures = {{BENCH_TIME, AT_MOST(1.2)}, {BENCH_OWN, AT_MOST(1.1)}}},
    {.name = "always_huge.anon.write.random_half", .options = "--huge always",
     .pattern = BENCH_RANDOM, .percent = 50, .write = true, .cpus = 1, .mib = 256,
     .measures = {{BENCH_TIME, {0}}}},
    {.name = "always_huge.anon.write.sparse", .options = "--huge always", .pattern = BENCH_SPARSE,
     .write = true, .cpus = 1, .mib = 1024, .pairs = BENCH_BRIEF,
     .measures = {{BENCH_TIME, {0}}, {BENCH_OWN, {0}}}},

    {.name = "file.read.seq", .options = SHARED_CACHE, .backing = BENCH_PRIVATE, .cpus = 1,
     .mib = BENCH_LONG_FILE_MIB, .measures = {{BENCH_TIME, AT_MOST(1.1)}}},
    {.name = "file.read.seq.huge", .options = "--huge always", .backing = BENCH_PRIVATE, .cpus = 1,
     .mib = BENCH_LONG_FILE_MIB, .measures = {{BENCH_TIME, AT_MOST(0.5)}, {BENCH_MEMORY, {0}}}},
    {.name = "file.read.seq.cold", .options = DEFAULT, .backing = BENCH_PRIVATE, .cold = true,
     .cpus = 1, .mib = BENCH_FILE_MIB, .measures = {{BENCH_TIME, AT_MOST(0.9)}}},
    {.name = "file.read.random_tenth.cold", .options = DEFAULT, .backing = BENCH_PRIVATE,
     .pattern = BENCH_RANDOM, .percent = 10, .cold = true, .cpus = 1, .mib = BENCH_FILE_MIB,
     .measures = {{BENCH_TIME, AT_MOST(1.1)}, {BENCH_READ, AT_MOST(1.2)}}},
    {.name = "file.write.seq", .options = DEFAULT, .backing = BENCH_PRIVATE, .write = true,
     .cpus = 1, .mib = BENCH_LONG_FILE_MIB,
     .measures = {{BENCH_TIME, AT_MOST(0.8)}, {BENCH_OWN, AT_MOST(1.1)}}},

    TWO("anon.write.seq", DEFAULT, 1024, .write = true, AT_LEAST_HALF_MORE),
    TWO("file.read.seq", DEFAULT, BENCH_LONG_FILE_MIB, .backing = BENCH_PRIVATE, AT_LEAST_HALF_MORE),
    TWO("file.write.seq", DEFAULT, BENCH_LONG_FILE_MIB, .backing = BENCH_PRIVATE, .write = true,
        AT_LEAST_HALF_MORE),
    TWO("handler.anon.write.seq", HANDLER, 1024, .write = true, AT_LEAST_HALF_MORE),
    TWO("handler.file.read.seq", HANDLER, BENCH_LONG_FILE_MIB, .backing = BENCH_PRIVATE,
        AT_LEAST_HALF_MORE),
    TWO("handler.file.write.seq", HANDLER, BENCH_LONG_FILE_MIB, .backing = BENCH_PRIVATE,
        .write = true, AT_LEAST_HALF_MORE),
    TWO("always_huge.anon.write.seq", "--huge always", 1024, .write = true, NO_BAR),
    TWO("plain.anon.write.seq", DEFAULT, 64, .plain = true, .write = true, NO_BAR),
    TWO("plain.file.read.seq", DEFAULT, BENCH_FILE_MIB, .plain = true,
        .backing = BENCH_PRIVATE, NO_BAR),
    TWO("plain.file.write.seq", DEFAULT, BENCH_FILE_MIB, .plain = true,
        .backing = BENCH_PRIVATE, .write = true, NO_BAR),

    {.name = "ten_vms.file.read", .options = SHARED_CACHE, .backing = BENCH_PRIVATE,
     .other = BENCH_ONE_VM, .cpus = 1, .mib = BENCH_FILE_MIB,
     .measures = {{BENCH_MEMORY, AT_MOST(1.3)}}},

    {.name = "limit.write.skewed", .options = LIMITED,
     .pattern = BENCH_SKEWED, .write = true, .other = BENCH_HOST_SWAP, .cpus = 1, .mib = 2 * BENCH_LIMIT_MIB,
     .pairs = BENCH_BRIEF, .measures = {{BENCH_TIME, AT_MOST(1.0)}, {BENCH_FIRST, {0}}, {BENCH_STEADY, {0}}}},
    {.name = "limit.write.uniform", .options = LIMITED,
     .pattern = BENCH_UNIFORM, .write = true, .other = BENCH_HOST_SWAP, .cpus = 1, .mib = 2 * BENCH_LIMIT_MIB,
     .pairs = BENCH_BRIEF, .measures = {{BENCH_TIME, AT_MOST(1.0)}, {BENCH_FIRST, {0}}, {BENCH_STEADY, {0}}}},

    {.name = "log.anon.write.seq", .options = HANDLER " --huge never", .other = BENCH_NO_LOG, .write = true,
     .cpus = 1, .mib = 64, .pairs = 4, .stamped = true,
     .measures = {{BENCH_TIME, AT_MOST(1.02)}, {BENCH_MIDDLE, AT_MOST(1.02)}}},

    WINDOW(1),
    WINDOW(16),
    WINDOW(64),
    WINDOW(512),
    ENGINE("auto", DEFAULT),
    ENGINE("kernel", "--fault-engine kernel"),
    PATHS("handler", HANDLER, 1),
    PATHS("handler", HANDLER, 2),

    LEAVES("nothing", BENCH_LOOP, 4000, BENCH_NOBODY),
    EXIT("fault.guest", DEFAULT, .exit = BENCH_GUEST_FAULT, .times = BENCH_FAULT_PAGES,
         .other = BENCH_NOBODY),
    EXIT("fault.kernel.4K", "--fault-engine kernel --huge never", .write = true, .mib = 64),
    EXIT("fault.kernel.2M", "--fault-engine kernel --huge always", .pattern = BENCH_SPARSE,
         .write = true, .plain_huge = true, .mib = 256, .pairs = BENCH_BRIEF),
    EXIT("fault.handler.anon", HANDLER " --huge never", .write = true, .mib = 16),
    HANDLED(1),
    HANDLED(16),
    HANDLED(64),
    HANDLED(512),
    EXIT("fault.wp", HANDLER " --huge never", .write = true, .read_before = true, .mib = 16),
    LEAVES("mmio", BENCH_MMIO, 2000, BENCH_HOST_KERNEL),
    LEAVES("pio", BENCH_PIO, 2000, BENCH_HOST_KERNEL),
    EXIT("hypercall", DEFAULT, .exit = BENCH_HYPERCALL, .ring0 = true, .times = 4000,
         .other = BENCH_NOBODY),
    EXIT("halt", "--halt exit", .exit = BENCH_HALT, .ring0 = true, .times = 200),

    REPLAYED("file.seq", BENCH_PRIVATE, BENCH_SEQUENTIAL),
    REPLAYED("file.strided", BENCH_PRIVATE, BENCH_STRIDED),
    REPLAYED("file.random", BENCH_PRIVATE, BENCH_RANDOM, .percent = 50),
    REPLAYED("file.write", BENCH_PRIVATE, BENCH_SEQUENTIAL, .write = true),
    REPLAYED("anon.seq", BENCH_ANON, BENCH_SEQUENTIAL, .write = true),
    REPLAYED("anon.random", BENCH_ANON, BENCH_RANDOM, .percent = 50, .write = true),
};
/* clang-format on */

const size_t bench_case_count = sizeof(bench_cases) / sizeof(bench_cases[0]);

/* --- orders ----------------------------------------------------------------------------- */

/* The same numbers in each run, so that both sides touch the same pages (xorshift64). */
static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void shuffle(uint32_t *list, size_t count)
{
	uint64_t state = 0x2545f4914f6cdd1d;

	for (size_t i = count; i > 1; i--) {
		size_t other = next_random(&state) % i;
		uint32_t kept = list[i - 1];
		list[i - 1] = list[other];
		list[other] = kept;
	}
}

/* Behind a first touch of all @pages, which is there already. */
static void draw(uint32_t *list, size_t count, size_t pages, bool skewed)
{
	uint64_t state = 0x9e3779b97f4a7c15;
	size_t few = pages / 5;

	for (size_t i = pages; i < count; i++) {
		bool often = skewed && next_random(&state) % 5 < 4;
		/* The pages touched often are spread over all of them. */
		list[i] =
		    (uint32_t)(often ? next_random(&state) % few * 5 : next_random(&state) % pages);
	}
}

uint32_t *bench_order(const struct bench_case *c, size_t limit, size_t *count)
{
	bool drawn = c->pattern == BENCH_UNIFORM || c->pattern == BENCH_SKEWED;
	size_t pages = (size_t)c->mib << 8, step = 1;
	uint32_t *list = malloc(BENCH_DRAWN * pages * sizeof(*list));

	if (!list)
		return NULL;
	if (c->pattern == BENCH_STRIDED)
		step = BENCH_STRIDE;
	if (c->pattern == BENCH_SPARSE)
		step = 512;
	*count = drawn ? BENCH_DRAWN * pages : pages / step;
	for (size_t i = 0; i < pages / step; i++)
		list[i] = (uint32_t)(i * step);
	if (drawn || c->pattern == BENCH_RANDOM)
		shuffle(list, pages);
	if (drawn)
		draw(list, *count, pages, c->pattern == BENCH_SKEWED);
	if (c->pattern == BENCH_RANDOM)
		*count = pages * c->percent / 100;
	if (limit && limit < *count)
		*count = limit;
	return list;
}
