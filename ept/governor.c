/*
 * The governor: a thread a space that watches how memory of the host kernel's engine is
 * touched: dense parts of anonymous memory get 2 MiB pages, and who reads or writes a
 * file in order is led. It waits for no storage (lead.h has who does).
 *
 * It costs nothing while nothing happens. What it waits for is, in turn:
 *   quiet    this process has used BUSY_NS of CPU time (a timer on that clock: an
 *            idle VM uses none, so nobody wakes)
 *   alert    a look every so often: have there been page faults? 0.5 to 16 ms,
 *            about as long as 128 faults take
 *   scan     what do the host's tables hold? Never more than an eighth of the time
 */
#include "ept/density.h"
#include "ept/host_pages.h"
#include "ept/stats.h"
#include "ept/thread.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BUSY_NS	     4000000L	/* of CPU time, between two looks while it is quiet */
#define WAIT_MIN     500000UL	/* ns between two looks when it is not */
#define WAIT_MAX     16000000UL /* after that it is quiet */
#define SCAN_FAULTS  64		/* as many since the last scan are worth one, */
#define FILE_FAULTS  16		/* with files, of which each brings more, these */
#define QUIET_FAULTS 16		/* fewer in a look are none */
#define LOOK_PAGES   128	/* new ones that a look should find */
#define SCAN_SHARE   8
#define VAIN_MAX     5 /* doublings of the wait */
#define ELSEWHERE    8 /* so many faults to a page that came: they are not the guest's */

/* A region lies in one area. */
static uint64_t first_region(const struct ept_area *area)
{
	return (area->start + EPT_LEAF_BYTES - 1) & ~(EPT_LEAF_BYTES - 1);
}

static unsigned regions_of(const struct ept_area *area)
{
	uint64_t first = first_region(area), end = area->end & ~(EPT_LEAF_BYTES - 1);

	if (end <= first)
		return 0;
	return (unsigned)((end - first) >> EPT_LEAF_SHIFT);
}

/* NULL: it is not governed. */
static const struct ept_rules *rules_for(const struct ept_area *area, bool huge, bool files)
{
	if (ept_handler_engine(area))
		return NULL;
	if (!area->obj)
		return huge ? &ept_rules_anon : NULL;
	return files && area->lead ? &ept_rules_file : NULL;
}

static int add_area(struct ept_governor *g, struct ept_area *area, bool huge, bool files)
{
	struct ept_density *d = &g->areas[g->nr_areas];

	d->rules = rules_for(area, huge, files);
	if (!d->rules)
		return 0;
	d->area = area;
	d->start = first_region(area);
	d->nr = regions_of(area);
	if (!d->nr)
		return 0;
	d->regions = calloc(d->nr, sizeof(*d->regions));
	if (!d->regions)
		return -ENOMEM;
	g->nr_areas++;
	g->files |= area->obj != NULL;
	return 0;
}

struct ept_governor *ept_governor_create(struct ept_space *space, bool huge, bool files)
{
	struct ept_governor *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	g->space = space;
	pthread_mutex_init(&g->lock, NULL);
	g->areas = calloc(space->nr_areas, sizeof(*g->areas));
	for (size_t i = 0; i < space->nr_areas && g->areas; i++)
		if (add_area(g, space->areas[i], huge, files))
			goto nothing;
	if (!g->nr_areas)
		goto nothing;
	g->wait = WAIT_MIN;
	g->quiet = true;
	g->faults = g->scan_faults = ept_host_faults();
	return g;
nothing:
	ept_governor_free(g);
	return NULL;
}

void ept_governor_free(struct ept_governor *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->nr_areas && g->areas; i++)
		free(g->areas[i].regions);
	free(g->areas);
	pthread_mutex_destroy(&g->lock);
	free(g);
}

/* Is any stream followed? */
static bool any_stream(const struct ept_governor *g)
{
	for (size_t i = 0; i < g->nr_areas; i++)
		if (ept_windows_any(&g->areas[i]) || ept_writers_any(&g->areas[i]))
			return true;
	return false;
}

static uint64_t worth_a_scan(const struct ept_governor *g)
{
	return g->files ? FILE_FAULTS : SCAN_FAULTS;
}

static void add_growth(struct ept_growth *sum, struct ept_growth part)
{
	sum->small += part.small;
	sum->all += part.all;
	sum->regions += part.regions;
	sum->files += part.files;
}

/* Of one area, into the sum. */
static void scan_area(struct ept_governor *g, struct ept_density *d, bool all, uint64_t now,
		      struct ept_growth *sum)
{
	struct ept_growth part =
	    all ? ept_density_scan_all(g, d, now) : ept_density_scan_hot(g, d, now);

	if (d->area->obj)
		part.files = part.all;
	add_growth(sum, part);
}

/* Where the last growth was; everywhere if that does not explain the @faults since. */
static struct ept_growth scan(struct ept_governor *g, uint64_t faults, uint64_t now)
{
	struct ept_growth growth = {0};

	ept_governor_count(&g->stats.scans, 1);
	for (size_t i = 0; i < g->nr_areas; i++)
		scan_area(g, &g->areas[i], false, now, &growth);
	if (growth.small * 2 >= faults || (growth.all && faults < worth_a_scan(g)))
		return growth;
	for (size_t i = 0; i < g->nr_areas; i++)
		scan_area(g, &g->areas[i], true, now, &growth);
	return growth;
}

uint64_t ept_thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/*
 * How many new pages the next look should find. Where files are read in order, and nothing
 * else happens, it has time until a stream has used a quarter of what was read ahead of it.
 */
static uint64_t pages_to_wait_for(const struct ept_governor *g, const struct ept_growth *growth)
{
	unsigned left = UINT_MAX;

	for (size_t i = 0; i < g->nr_areas; i++) {
		unsigned of = ept_windows_left(&g->areas[i]);

		left = of < left ? of : left;
		if (ept_writers_any(&g->areas[i])) /* what is copied ahead is little */
			return LOOK_PAGES;
	}
	if (left == UINT_MAX || growth->all != growth->files)
		return LOOK_PAGES;
	return (uint64_t)left * REGION_PAGES / 4;
}

static uint64_t clamp(uint64_t ns, uint64_t low)
{
	return ns < low ? low : ns > WAIT_MAX ? WAIT_MAX : ns;
}

static void scan_and_pace(struct ept_governor *g, uint64_t faults, uint64_t now)
{
	uint64_t started = ept_thread_ns(), begun = ept_now(), since = now - g->scan_at;
	uint64_t cost, fresh, spent;
	struct ept_growth growth;

	g->collapsing = g->placed = 0;
	growth = scan(g, faults, now);
	cost = ept_thread_ns() - started - g->collapsing;
	g->scan_at = now;
	g->scan_faults = g->faults;
	/* Files touched at random, or faults elsewhere: less and less reason to look. */
	if ((growth.all != growth.files && growth.all * ELSEWHERE >= faults) || any_stream(g))
		g->in_vain = 0;
	else if (g->in_vain < VAIN_MAX)
		g->in_vain++;
	/* What faults elsewhere now may come to guest memory next, and as fast. */
	fresh = growth.all > faults ? growth.all : faults;
	/* After bets soon: until the next ones each touch of the rest is a fault. */
	g->wait = g->placed ? WAIT_MIN
			    : clamp(since * pages_to_wait_for(g, &growth) / (fresh + 1),
				    WAIT_MIN << g->in_vain);
	spent = ept_now() - begun; /* with what was made huge: that is no looking */
	if (g->wait + spent < cost * SCAN_SHARE)
		g->wait = cost * SCAN_SHARE - spent;
}

uint64_t ept_governor_look(struct ept_governor *g, uint64_t now)
{
	uint64_t faults = ept_host_faults(), fresh = faults - g->faults;
	bool open = any_stream(g);

	if (g->quiet) /* what came since came at any speed: as if at once */
		g->scan_at = now - WAIT_MIN;
	g->quiet = false;
	g->faults = faults;
	faults -= g->scan_faults;
	if (faults >= (open ? 1 : worth_a_scan(g))) {
		scan_and_pace(g, faults, now);
		return g->wait;
	}
	g->wait = clamp(g->wait * 2, WAIT_MIN);
	for (size_t i = 0; i < g->nr_areas && open; i++) {
		ept_windows_close_idle(g, &g->areas[i], now);
		ept_writers_close_idle(&g->areas[i], now);
	}
	g->quiet = !open && fresh < QUIET_FAULTS && g->wait >= WAIT_MAX;
	return g->quiet ? 0 : g->wait;
}

/* --- the thread --------------------------------------------------------------------- */

/* Becomes readable each time that this process has used BUSY_NS more; or a negative errno. */
static int open_cpu_clock(timer_t *timer)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMAX};
	struct itimerspec every = {{0, BUSY_NS}, {0, BUSY_NS}};
	sigset_t set;
	int fd;

	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMAX); /* blocked, as all are in this thread */
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, timer)) {
		close(fd);
		return -errno;
	}
	timer_settime(*timer, 0, &every, NULL);
	return fd;
}

/* Until there may be something to see; false: the space stops. */
static bool wait_for(struct ept_governor *g, uint64_t ns)
{
	int clock_fd = g->clock_fd;
	struct pollfd fds[] = {{.fd = g->space->stop_fd, .events = POLLIN},
			       {.fd = clock_fd, .events = POLLIN}};
	struct timespec ts = {.tv_sec = (time_t)(ns / 1000000000U),
			      .tv_nsec = (long)(ns % 1000000000U)};
	struct signalfd_siginfo info;

	/* Without the clock it looks from time to time, as slowly as it may. */
	if (!ns && clock_fd < 0)
		ts.tv_nsec = 100000000;
	if (ppoll(fds, ns ? 1 : 2, ns || clock_fd < 0 ? &ts : NULL, NULL) < 0 && errno != EINTR)
		return false;
	if (fds[0].revents)
		return false;
	while (clock_fd >= 0 && read(clock_fd, &info, sizeof(info)) > 0)
		;
	return true;
}

static void *governor_thread(void *arg)
{
	struct ept_governor *g = arg;
	timer_t timer = NULL;
	uint64_t ns = WAIT_MIN;

	g->clock_fd = open_cpu_clock(&timer);
	ept_thread_begins(&g->space->config, "foal-governor", "governor");
	while (wait_for(g, ns)) {
		ept_work_begin(g->space);
		ns = ept_governor_look(g, ept_now());
		ept_work_end(g->space);
	}
	if (g->clock_fd >= 0) {
		timer_delete(timer);
		close(g->clock_fd);
	}
	return NULL;
}

int ept_governor_start(struct ept_space *space)
{
	bool huge = space->config.huge == EPT_HUGE_AUTO && ept_host_gives_huge();
	bool files = ept_host_tells(space->pagemap_fd);
	/* A forked space has one already, which looked at the parent's. */
	struct ept_governor *g = space->governor;
	int err;

	if (!g && !space->of_template)
		g = ept_governor_create(space, huge, files);
	if (!g)
		return 0; /* nothing to govern */
	g->faults = g->scan_faults = ept_host_faults();
	space->governor = g;
	g->clock_fd = -1;
	err = ept_thread_create(&space->config, &g->thread, governor_thread, g);
	g->running = !err;
	return err;
}

void ept_governor_stop(struct ept_space *space)
{
	struct ept_governor *g = space->governor;
	uint64_t one = 1;

	if (!g || !g->running || write(space->stop_fd, &one, sizeof(one)) != sizeof(one))
		return;
	pthread_join(g->thread, NULL);
	g->running = false;
}

/* --- for others ------------------------------------------------------------------------ */

static struct ept_density *density_of(struct ept_governor *g, const struct ept_area *area)
{
	for (size_t i = 0; i < g->nr_areas; i++)
		if (g->areas[i].area == area)
			return &g->areas[i];
	return NULL;
}

int ept_governor_give_back(struct ept_area *area, uint64_t gpa, uint64_t end)
{
	struct ept_governor *g = area->space->governor;
	struct ept_density *d = g ? density_of(g, area) : NULL;
	int err;

	if (!d)
		return ept_install_drop(NULL, ept_hva(area, gpa), end - gpa);
	pthread_mutex_lock(&g->lock);
	for (uint64_t at = ept_leaf_start(gpa); at < end; at += EPT_LEAF_BYTES) {
		uint64_t i = (at - d->start) >> EPT_LEAF_SHIFT;

		if (at >= d->start && i < d->nr)
			__atomic_store_n(&d->regions[i].given, 1, __ATOMIC_RELEASE);
	}
	err = ept_install_drop(NULL, ept_hva(area, gpa), end - gpa);
	pthread_mutex_unlock(&g->lock);
	return err;
}

void ept_space_huge_stats(const struct ept_space *space, struct ept_huge_stats *out)
{
	const struct ept_governor *g = space->governor;

	*out = (struct ept_huge_stats){0};
	if (!g)
		return;
#define X(field, name) out->field = __atomic_load_n(&g->stats.field, __ATOMIC_RELAXED);
	EPT_HUGE_COUNTERS(X)
#undef X
}
