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
	uint8_t mac[6];	    /* one that was made up, if none was given */
	bool mac_given;
	char forward[12]; /* "HOST:GUEST", TCP ports; empty: none */
};

/* Room for net_option_text(). */
#define NET_OPTION_TEXT 80

/* The address of a single station, locally administered (IEEE 802, 8.2), that nobody else has. */
int net_make_mac(uint8_t mac[6], struct foal_error *err);
/* As --net has it. */
void net_option_text(const struct net_option *option, char text[NET_OPTION_TEXT]);

/* tap=NAME[,mac=M] or user[,mac=M][,forward=HOST:GUEST]. */
int net_option_parse(const char *name, const char *value, struct net_option *out,
		     struct foal_error *err);

#endif
