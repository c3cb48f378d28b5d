/* The life of a space: new, started, dying, stopped. */
#include "ept/space.h"
#include "ept/reset.h"
#include "ept/staging.h"
#include "ept/stats.h"
#include "ept/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int check_config(const struct ept_config *config)
{
	unsigned around = config->fault_around;

	if (!config->vcpus || config->vcpus > EPT_MAX_VCPUS)
		return -EINVAL;
	if (around > EPT_AROUND_MAX || around & (around - 1))
		return -EINVAL;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void free_vcpus(struct ept_space *space)
{
	for (unsigned i = 0; space->vcpus && i < space->config.vcpus; i++)
		close_fd(space->vcpus[i].stat_fd);
	free(space->vcpus);
}

static int alloc_vcpus(struct ept_space *space)
{
	space->vcpus = calloc(space->config.vcpus, sizeof(*space->vcpus));
	if (!space->vcpus)
		return -ENOMEM;
	for (unsigned i = 0; i < space->config.vcpus; i++)
		space->vcpus[i] = (struct ept_vcpu){.cpu = -1, .stat_fd = -1};
	return 0;
}

static void free_space(struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_areas; i++)
		ept_area_free(space->areas[i]);
	free(space->areas);
	free(space->threads);
	free_vcpus(space);
	ept_reader_free(space->reader);
	close_fd(space->failure_fd);
	close_fd(space->stop_fd);
	close_fd(space->pagemap_fd);
	ept_trace_close(space);
	ept_fault_log_close(&space->log);
	ept_governor_free(space->governor);
	ept_lead_queue_end(&space->files.queue);
	ept_staging_free(space->staging);
	ept_reclaim_free(space);
	ept_prefetch_free(space);
	ept_reset_free(space);
	ept_installer_close(&space->installer);
	ept_mirror_free(&space->mirror);
	ept_arena_free(&space->arena);
	pthread_cond_destroy(&space->released);
	pthread_cond_destroy(&space->idle);
	pthread_mutex_destroy(&space->watch_lock);
	pthread_mutex_destroy(&space->failure_lock);
	pthread_mutex_destroy(&space->life_lock);
	free(space->name);
	free(space);
}

int ept_space_create(const struct ept_config *config, struct ept_space **out)
{
	struct ept_space *space;
	int err = check_config(config);

	if (err)
		return err;
	space = calloc(1, sizeof(*space));
	if (!space)
		return -ENOMEM;
	space->config = *config;
	if (!config->fault_around)
		space->config.fault_around = EPT_AROUND_DEFAULT;
	space->installer.fd = space->installer.dev = -1;
	pthread_mutex_init(&space->life_lock, NULL);
	pthread_mutex_init(&space->failure_lock, NULL);
	pthread_mutex_init(&space->watch_lock, NULL);
	pthread_cond_init(&space->idle, NULL);
	pthread_cond_init(&space->released, NULL);
	ept_arena_init(&space->arena);
	ept_mirror_init(&space->mirror, &space->arena);
	space->pagemap_fd = space->trace_fd = space->log.fd = -1;
	ept_space_begins(space, ept_now());
	space->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	space->failure_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = ept_lead_queue_init(&space->files.queue);
	if (!err)
		err = ept_reclaim_init(space);
	if (err)
		goto fail;
	space->name = strdup(config->vm_name ? config->vm_name : "vm");
	err = -EMFILE;
	if (space->stop_fd < 0 || space->failure_fd < 0)
		goto fail;
	err = space->name ? alloc_vcpus(space) : -ENOMEM;
	if (!err)
		err = ept_trace_open(space);
	if (err)
		goto fail;
	space->config.vm_name = space->name;
	if (config->log)
		ept_fault_log_open(&space->log, config->memory_limit); /* it can be without */
	if (config->engine != EPT_ENGINE_KERNEL)
		err = ept_installer_open(&space->installer);
	/*
	 * Nothing can be opened any more when it is read. Without it resident is 0, and
	 * reclaim could not tell a private copy from the page of the file.
	 */
	space->pagemap_fd = ept_pagemap_open("/proc/self/pagemap");
	if (!err && config->memory_limit && space->pagemap_fd < 0)
		err = space->pagemap_fd;
	if (err)
		goto fail;
	*out = space;
	return 0;
fail:
	free_space(space);
	return err;
}

static bool reads_ahead(const struct ept_space *space)
{
	for (size_t i = 0; i < space->nr_areas; i++)
		if (space->areas[i]->obj && ept_handler_engine(space->areas[i]) &&
		    space->areas[i]->kind != EPT_KIND_LAYERS)
			return space->config.fault_around > 1;
	return false;
}

/* Without a reader every page is read by the fault that asks for it. */
static int make_reader(struct ept_space *space)
{
	if (!reads_ahead(space))
		return 0;
	space->reader = ept_reader_create();
	return space->reader ? 0 : -ENOMEM;
}

static int make_staging(struct ept_space *space)
{
	if (!ept_has_handlers(space) || space->config.huge == EPT_HUGE_NEVER)
		return 0;
	space->staging = ept_staging_create();
	return space->staging ? 0 : -ENOMEM;
}

int ept_threads_start(struct ept_space *space)
{
	int err = space->reader ? ept_reader_start(space->reader, &space->config) : 0;

	if (!err && ept_has_handlers(space))
		err = ept_fault_threads_start(space);
	if (!err)
		err = ept_governor_start(space);
	if (!err)
		err = ept_reclaim_start(space);
	if (!err && !space->of_template) /* else ept_space_watch_files() */
		err = ept_file_watch_start(space);
	if (!err)
		err = ept_prefetch_start(space);
	return err;
}

const char *ept_space_reads_by(const struct ept_space *space)
{
	return space->reader ? ept_reader_by(space->reader) : "off";
}

int ept_space_start(struct ept_space *space)
{
	int err = -EINVAL;

	pthread_mutex_lock(&space->life_lock);
	if (space->life != EPT_LIFE_NEW || !space->nr_areas)
		goto out;
	for (size_t i = 0; i < space->nr_areas; i++)
		space->areas[i]->index = i;
	err = ept_map_areas(space);
	if (!err)
		err = make_staging(space);
	if (!err)
		err = ept_prefetch_init(space);
	if (!err)
		err = make_reader(space);
	if (!err)
		err = ept_threads_start(space);
	if (err) {
		ept_reclaim_stop(space);
		ept_prefetch_stop(space);
		ept_governor_stop(space);
		ept_fault_threads_stop(space);
		ept_reader_stop(space->reader);
		ept_file_watch_stop(space);
		ept_unmap_areas(space);
		__atomic_store_n(&space->life, EPT_LIFE_STOPPED, __ATOMIC_RELEASE);
	} else {
		__atomic_store_n(&space->life, EPT_LIFE_STARTED, __ATOMIC_RELEASE);
	}
out:
	pthread_mutex_unlock(&space->life_lock);
	return err;
}

/* For ept_space_check(): a stop that waits for storage is told of. */
static void waits_for_reads(struct ept_space *space, bool waits)
{
	__atomic_store_n(&space->reader_stops, waits ? ept_now() : 0, __ATOMIC_RELAXED);
}

/*
 * Dying first: no fault thread may answer a waiter that unregistering is about
 * to wake, and one that reads the object returns to find the space dying.
 */
void ept_space_stop(struct ept_space *space)
{
	pthread_mutex_lock(&space->life_lock);
	if (space->life == EPT_LIFE_STARTED) {
		__atomic_store_n(&space->life, EPT_LIFE_DYING, __ATOMIC_RELEASE);
		ept_hold_break(space);
		ept_governor_stop(space);
		waits_for_reads(space, true);
		ept_reclaim_stop(space);
		waits_for_reads(space, true);
		ept_prefetch_stop(space);
		waits_for_reads(space, false);
		ept_fault_threads_stop(space);
		/* A fault thread may have waited for it; it waits for reads under way. */
		waits_for_reads(space, true);
		ept_reader_stop(space->reader);
		waits_for_reads(space, false);
		if (ept_has_handlers(space))
			ept_unregister_areas(space);
		ept_file_watch_stop(space); /* last: it may wait for storage */
	}
	__atomic_store_n(&space->life, EPT_LIFE_STOPPED, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&space->life_lock);
}

void ept_space_destroy(struct ept_space *space)
{
	if (!space)
		return;
	ept_space_stop(space);
	ept_unmap_areas(space);
	free_space(space);
}

/* Where a thread of this process runs is told by the processor field of its stat (proc(5)). */
static int open_stat(pid_t tid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	return open(path, O_RDONLY | O_CLOEXEC);
}

void ept_vcpu_bind(struct ept_space *space, unsigned vcpu, pid_t tid)
{
	if (vcpu >= space->config.vcpus)
		return;
	struct ept_vcpu *v = &space->vcpus[vcpu];
	__atomic_store_n(&v->tid, tid, __ATOMIC_RELAXED);
	if (ept_has_handlers(space) && vcpu < EPT_MAX_FAULT_THREADS && v->stat_fd < 0)
		__atomic_store_n(&v->stat_fd, open_stat(tid), __ATOMIC_RELEASE);
}

void ept_vcpu_on_cpu(struct ept_space *space, unsigned vcpu, int cpu)
{
	if (vcpu < space->config.vcpus)
		__atomic_store_n(&space->vcpus[vcpu].cpu, cpu, __ATOMIC_RELAXED);
}
