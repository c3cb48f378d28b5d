/* What the plain alternatives to foal's start-up and clones are made of (tests/bench/bare_*.c). */
#ifndef FOAL_TESTS_BENCH_BARE_KVM_H
#define FOAL_TESTS_BENCH_BARE_KVM_H

#include <stdint.h>

/* Else say @what, with errno, and end with status 1. */
void need(int ok, const char *what);

/* All end the program where KVM refuses. Descriptors are the caller's; nobody closes them. */
int create_vm(int kvm);
/* @file: mapped privately; -1: anonymous memory. @size: bytes. */
void add_slot(int vm, unsigned slot, uint64_t gpa, uint64_t size, int file);
int create_vcpu(int kvm, int vm);
/* A structure that one call gives, given back by the other. */
void put_back(int fd, unsigned long get, unsigned long set, void *data, const char *what);
/* All that foal loads into a vCPU and a VM's clock. */
void set_state(int kvm, int vm, int vcpu);

/* CLOCK_MONOTONIC, nanoseconds. */
uint64_t moment(void);
/* A line with the moment, at once. */
void print_now(void);

/* --- bare_clones.c: each to the end of the program, with its status ------------------------- */

int clones(int kvm, uint64_t size, unsigned long count);
int clone_on_request(int kvm, uint64_t size);
/* @touching: its guest runs, and touches; @huge: memory that is in 2 MiB pages. */
int clone_made_ahead(int kvm, uint64_t size, int touching, int huge);

#endif
