/* What --net says. */
#ifndef FOAL_VMM_NET_OPTION_H
#define FOAL_VMM_NET_OPTION_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmm/error.h"

#define MAX_NETS 8

struct net_option {
	char tap[IFNAMSIZ]; /* empty: user mode */
	uint8_t mac[6];	    /* 0: make one up */
	char forward[12];   /* "HOST:GUEST", TCP ports; empty: none */
};

/* tap=NAME[,mac=M] or user[,mac=M][,forward=HOST:GUEST]. */
int net_option_parse(const char *name, const char *value, struct net_option *out,
		     struct foal_error *err);

#endif
