/* What the filesystem's test files share: the images, and comparing files with their originals. */
#ifndef TESTS_FS_TEST_H
#define TESTS_FS_TEST_H

#include "tests/guest/fake_kernel.h"
#include <check.h>

/* Makes a folder of real files, and ext2 images of it, in a temporary folder. Once. */
void images_make(void);
void images_remove(void);

/* A path in the temporary folder; static storage. The images are 1024.img, 2048.img, 4096.img. */
const char *in_dir(const char *name);

/* Runs a command in the temporary folder; fails the test if it fails. */
void shell(const char *command);

/* Loads NAME and mounts it at "/" (slot 0) or "/other" (slot 1). fs_mount's result. */
int mount_image(struct fake_disk *disk, unsigned slot, const char *name, bool pmem);

/* The file at `path`, or the test fails. */
struct inode *must_find(const char *path);
/* fs_lookup's error alone. */
int find_error(const char *path);

/* Reads the whole file through the filesystem and compares it with tree/NAME. */
void expect_same(const char *path, const char *original);

/* Unmounts all, and expects every object and frame back. */
void unmount_clean(void);

Suite *sha256_suite(void);
Suite *virtio_suite(void);
Suite *ext2_suite(void);
Suite *ext2_write_suite(void);
Suite *hostile_suite(void);

#endif
