/*
 * The userfaultfd constants that are newer than Linux 6.1's headers, as the
 * kernel's own documentation gives them (Documentation/admin-guide/mm/
 * userfaultfd.rst, ioctl_userfaultfd(2)). Kernel ABI: the values never change.
 */
#ifndef FOAL_EPT_UFFD_COMPAT_H
#define FOAL_EPT_UFFD_COMPAT_H

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#ifndef USERFAULTFD_IOC_NEW /* 6.1: the device node */
#	define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif
#ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM /* 5.19 */
#	define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1 << 12)
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED /* 6.4 */
#	define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON /* 6.6 */
#	define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC /* 6.7 */
#	define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE /* 6.8 */
#	define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFDIO_MOVE /* 6.8 */
struct uffdio_move {
	__u64 dst, src, len, mode;
	__s64 move; /* bytes that were, or a negative errno */
};
#	define UFFDIO_MOVE		  _IOWR(UFFDIO, 0x05, struct uffdio_move)
#	define UFFDIO_MOVE_MODE_DONTWAKE ((__u64)1 << 0)
#endif
#ifndef UFFDIO_CONTINUE_MODE_WP /* 6.4 */
#	define UFFDIO_CONTINUE_MODE_WP ((__u64)1 << 1)
#endif

#ifndef UFFDIO_POISON /* 6.6 */
struct uffdio_poison {
	struct uffdio_range range;
	__u64 mode;
	__s64 updated;
};
#	define UFFDIO_POISON _IOWR(UFFDIO, 0x08, struct uffdio_poison)
#endif

#endif
