/* The guest's network devices: opened before anything is built. Private to vmm/. */
#ifndef FOAL_VMM_NET_H
#define FOAL_VMM_NET_H

#include "devices/devices.h"
#include "vmm/error.h"
#include "vmm/helper.h"
#include "vmm/net_option.h"

struct vm_net {
	struct net_config config;
	struct device *device;
};

/*
 * Open the tap interface, or start the helper, that @option asks for. The
 * device dup's config.fd; net_close() closes it.
 */
int net_open(struct vm_net *net, const struct net_option *option, struct helpers *helpers,
	     struct foal_error *err);
void net_close(struct vm_net *net);

#endif
