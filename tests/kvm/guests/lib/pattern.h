/*
 * What test guests find in files and leave in them: the first eight bytes of a
 * page. Shared by the guests and the tests that make and read the files.
 */
#ifndef TEST_GUEST_PATTERN_H
#define TEST_GUEST_PATTERN_H

/* Page @n of a file, as the test made it. */
#define FILE_PATTERN(n)	  (0xf0a1000000000000UL + (n))

/* Page @n, as the guest wrote it. */
#define GUEST_PATTERN(n)  (0xd157000000000000UL + (n))

/* Pages of the two tables in the guest `kernel-data`. */
#define KERNEL_DATA_PAGES 512

/* How a guest that finds something wrong ends; a status of its own for each. */
enum guest_status {
	GUEST_OK = 0,
	GUEST_BAD_VALUE = 11,  /* a page held something else */
	GUEST_NO_PMEM = 12,    /* no such virtio-pmem device */
	GUEST_BAD_PARAM = 13,  /* the command line makes no sense */
	GUEST_BAD_DEVICE = 14, /* a device refused or answered wrong */
	GUEST_BAD_INFO = 15,   /* the boot information is wrong */
};

#endif
