/* The names of userfaultfd's features, as linux/userfaultfd.h spells them. */
#include "ept/ept.h"

static const char *const feature_names[] = {
    "PAGEFAULT_FLAG_WP",
    "EVENT_FORK",
    "EVENT_REMAP",
    "EVENT_REMOVE",
    "MISSING_HUGETLBFS",
    "MISSING_SHMEM",
    "EVENT_UNMAP",
    "SIGBUS",
    "THREAD_ID",
    "MINOR_HUGETLBFS",
    "MINOR_SHMEM",
    "EXACT_ADDRESS",
    "WP_HUGETLBFS_SHMEM",
    "WP_UNPOPULATED",
    "POISON",
    "WP_ASYNC",
    "MOVE",
};

const char *ept_host_feature_name(unsigned bit)
{
	return bit < sizeof(feature_names) / sizeof(*feature_names) ? feature_names[bit] : NULL;
}
