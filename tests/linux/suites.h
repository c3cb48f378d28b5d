/* The suites of test_linux, one a file, and what they share. */
#ifndef TEST_LINUX_SUITES_H
#define TEST_LINUX_SUITES_H

#include <check.h>

#include "tests/kvm/runner.h"

Suite *boot_suite(void);
Suite *console_suite(void);
Suite *counts_suite(void);
Suite *net_suite(void);
Suite *devices_suite(void);
Suite *platform_suite(void);
Suite *snapshot_suite(void);
Suite *copies_suite(void);
Suite *multiply_suite(void);

/* A file of build/linux (LINUX_IMAGES in the environment: elsewhere). */
const char *linux_path(const char *name);

/* The guest said a line that begins with "guest: " and @words; returns what follows them. */
const char *guest_said(const struct run *run, const char *words);

/* What the guest wrote to its first disk, as the snapshot @dir has it, into the @image. */
void lay_over(const char *image, const char *dir);

/* Of each file that foal opened: how much of it was read, on standard output. */
void print_read(const char *what, const struct run *run);

/* A number of KVM's statistics. */
uint64_t kvm_number(const struct run *run, const char *name);

#endif
