/*
 * Fault threads: read events, make each a request, have it resolved.
 *
 * All threads read one userfaultfd. Thread k keeps to the CPU that vCPU k runs
 * on: the vCPU sleeps while its fault is resolved, so the CPU is free, and
 * waking a thread on another CPU costs more than the fault itself. An event
 * wakes every thread that waits. So where there are several they are SCHED_BATCH,
 * which does not preempt: the one on the CPU that the vCPU has just left runs at
 * once, the others when their own vCPUs sleep, and no guest is interrupted for
 * another's fault. Each takes one event at a time, or a slow read would hold up
 * events that another thread is free to serve. (2 vCPUs resolved 1.1 times the
 * pages of one without the two, 1.6 times with them.)
 *
 * A fault thread never touches guest memory through its mapping: nobody would
 * be left to resolve that fault.
 */
#include "ept/fault_log.h"
#include "ept/space.h"
#include "ept/thread.h"
#include "ept/uffd_compat.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Events, and time, between two looks at where the vCPU runs. */
#define LOOK_EVERY    256
#define LOOK_EVERY_NS 10000000
#define STAT_FIELDS   37 /* from the state (3) to the processor (39), proc(5) */

/* The CPU that the vCPU's thread last ran on, or -1. */
static int cpu_of_vcpu(const struct ept_vcpu *vcpu)
{
	int fd = __atomic_load_n(&vcpu->stat_fd, __ATOMIC_ACQUIRE), cpu;
	char line[1024], *p;
	ssize_t n;

	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0 || (n = read(fd, line, sizeof(line) - 1)) < 0)
		return -1;
	line[n] = 0;
	p = strrchr(line, ')'); /* the name may hold anything */
	for (int field = 0; p && field < STAT_FIELDS; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%d", &cpu) == 1 ? cpu : -1;
}

static void look_where_vcpu_runs(struct ept_vcpu *vcpu)
{
	int cpu = cpu_of_vcpu(vcpu);

	if (cpu >= 0)
		__atomic_store_n(&vcpu->cpu, cpu, __ATOMIC_RELAXED);
}

static void look_now_and_then(struct ept_fault_thread *t, uint64_t now)
{
	if (t->events++ % LOOK_EVERY && now - t->looked < LOOK_EVERY_NS)
		return;
	look_where_vcpu_runs(&t->space->vcpus[t->index]);
	t->looked = now;
}

/* An affinity that is refused (a cpuset, say) costs speed only. */
static void follow_vcpu(struct ept_fault_thread *t)
{
	int cpu = __atomic_load_n(&t->space->vcpus[t->index].cpu, __ATOMIC_RELAXED);
	cpu_set_t set;

	if (cpu < 0 || cpu == t->cpu || cpu >= CPU_SETSIZE)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	t->cpu = cpu;
}

/* For counting and records alone: KVM's own worker faults on a vCPU's behalf under another id. */
static void find_origin(const struct ept_space *space, pid_t tid, struct ept_request *req)
{
	req->origin = EPT_ORIGIN_KVM;
	for (unsigned i = 0; i < space->config.vcpus; i++)
		if (__atomic_load_n(&space->vcpus[i].tid, __ATOMIC_RELAXED) == tid) {
			req->origin = EPT_ORIGIN_VCPU;
			req->vcpu = 1 + i;
			return;
		}
}

static void resolve_event(struct ept_space *space, const struct uffd_msg *msg, uint64_t now)
{
	uint64_t flags = msg->arg.pagefault.flags;
	struct ept_request req = {.flags = EPT_FAULT_EVENT, .picked_up = now};
	struct ept_resolution res;

	/* No other event was asked for, and nothing else is registered. */
	if (msg->event != UFFD_EVENT_PAGEFAULT ||
	    !ept_gpa_of(space, (void *)(uintptr_t)msg->arg.pagefault.address, &req.gpa))
		return;
	req.gpa.v &= EPT_PAGE_MASK;
	find_origin(space, (pid_t)msg->arg.pagefault.feat.ptid, &req);
	req.access =
	    flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP) ? EPT_WRITE : EPT_READ;
	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		req.flags |= EPT_FAULT_PROTECT;
	__atomic_fetch_add(&space->events[req.origin], 1, __ATOMIC_RELAXED);
	handle_ept_fault(space, &req, &res);
	__atomic_fetch_add(&space->ended[req.origin], 1, __ATOMIC_RELEASE);
}

/* 1, or 0 if another thread took it; negative: this descriptor will never give any again. */
static int read_event(int fd, struct uffd_msg *msg)
{
	if (read(fd, msg, sizeof(*msg)) == (ssize_t)sizeof(*msg))
		return 1;
	return errno == EAGAIN || errno == EINTR ? 0 : -errno;
}

static void begin(const struct ept_fault_thread *t)
{
	const struct ept_config *config = &t->space->config;
	struct sched_param param = {0};
	char name[16];

	if (config->vcpus > 1)
		sched_setscheduler(0, SCHED_BATCH, &param); /* refused: it costs speed only */
	snprintf(name, sizeof(name), "foal-fault/%u", t->index % 1000);
	ept_thread_begins(config, name, "fault");
	ept_fault_log_choose(t->index);
}

static void *fault_thread(void *arg)
{
	struct ept_fault_thread *t = arg;
	struct ept_space *space = t->space;
	struct pollfd fds[] = {{.fd = space->installer.fd, .events = POLLIN},
			       {.fd = space->stop_fd, .events = POLLIN}};
	struct uffd_msg msg;

	begin(t);
	for (;;) {
		int n;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents)
			break;
		n = read_event(space->installer.fd, &msg);
		if (n < 0) {
			ept_space_fail(space, EPT_CASE_DYING, GPA(0), n,
				       "%s: cannot read page fault events: %s; this is a bug",
				       space->name, strerrordesc_np(-n));
			break;
		}
		if (n) {
			uint64_t now = ept_now();

			resolve_event(space, &msg, now);
			look_now_and_then(t, now);
		}
		follow_vcpu(t);
	}
	return NULL;
}

static int start_one(struct ept_space *space, unsigned index)
{
	struct ept_fault_thread *t = &space->threads[index];
	int err;

	*t = (struct ept_fault_thread){.space = space, .index = index, .cpu = -1};
	err = ept_thread_create(&space->config, &t->thread, fault_thread, t);
	if (!err)
		space->nr_threads++;
	return err;
}

int ept_fault_threads_start(struct ept_space *space)
{
	unsigned count = space->config.vcpus;
	int err = 0;

	if (count > EPT_MAX_FAULT_THREADS)
		count = EPT_MAX_FAULT_THREADS;
	space->threads = calloc(count, sizeof(*space->threads));
	if (!space->threads)
		return -ENOMEM;
	for (unsigned i = 0; i < count && !err; i++)
		err = start_one(space, i);
	return err;
}

void ept_fault_threads_stop(struct ept_space *space)
{
	uint64_t one = 1;

	/* Level-triggered, so no thread can miss it; the counter cannot overflow. */
	if (!space->nr_threads || write(space->stop_fd, &one, sizeof(one)) != sizeof(one))
		return;
	for (unsigned i = 0; i < space->nr_threads; i++)
		if (!space->threads[i].joined)
			pthread_join(space->threads[i].thread, NULL);
	space->nr_threads = 0;
}

int ept_fault_threads_dead(struct ept_space *space)
{
	int dead = -1;

	if (pthread_mutex_trylock(&space->life_lock)) /* being stopped: they end */
		return -1;
	for (unsigned i = 0; space->life == EPT_LIFE_STARTED && i < space->nr_threads; i++) {
		struct ept_fault_thread *t = &space->threads[i];

		if (!t->joined && pthread_tryjoin_np(t->thread, NULL) == 0)
			t->joined = true;
		if (t->joined)
			dead = (int)i;
	}
	pthread_mutex_unlock(&space->life_lock);
	return dead;
}
