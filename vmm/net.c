#include "vmm/net.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The largest that passt announces: 65535 less an Ethernet header, in words of 4. */
#define USER_MTU      65520
#define USER_MTU_TEXT "65520"

/* --- tap ----------------------------------------------------------------------------- */

static int tap_error(const char *tap, int error, struct foal_error *err)
{
	const char *mend = "docs/network.md says more";

	if (error == EPERM)
		mend = "let root make it once for you: ip tuntap add dev NAME mode tap user YOU";
	else if (error == EBUSY)
		mend = "another program uses it";
	else if (error == ENOENT || error == ENODEV || error == ENXIO)
		mend = "the host lacks /dev/net/tun: modprobe tun";
	return error_set(err, FOAL_EXIT_HOST, -error, "--net tap=%s: %s; %s", tap, strerror(error),
			 mend);
}

static int tap_mtu(const char *name, uint16_t *mtu)
{
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;
	struct ifreq ifr = {0};

	memcpy(ifr.ifr_name, name, strlen(name)); /* shorter than IFNAMSIZ, see net_option.h */
	if (s < 0 || ioctl(s, SIOCGIFMTU, &ifr))
		r = -errno;
	if (s >= 0)
		close(s);
	/* What virtio can tell (5.1.4). */
	if (r == 0 && ifr.ifr_mtu >= 68 && ifr.ifr_mtu <= UINT16_MAX)
		*mtu = (uint16_t)ifr.ifr_mtu;
	return r;
}

static int open_tap(struct net_config *config, const char *name, struct foal_error *err)
{
	struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	int header = sizeof(struct virtio_net_hdr_v1);

	memcpy(ifr.ifr_name, name, strlen(name));
	config->kind = NET_TAP;
	config->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (config->fd < 0 || ioctl(config->fd, TUNSETIFF, &ifr) ||
	    ioctl(config->fd, TUNSETVNETHDRSZ, &header) || tap_mtu(name, &config->mtu))
		return tap_error(name, errno, err);
	return 0;
}

/* --- user mode ------------------------------------------------------------------------- */

/* Forwarded ports are those of the loopback interface: who else may connect is for the host. */
static int open_user(struct net_config *config, const struct net_option *option,
		     struct helpers *helpers, struct foal_error *err)
{
	char forward[32];
	const char *argv[16] = {"passt",       "--foreground", "--quiet", "--mtu",
				USER_MTU_TEXT, "--fd",	       "3"};
	unsigned n = 7;

	_Static_assert(HELPER_FD == 3, "as --fd says");
	if (geteuid() == 0 && !helpers->change_ids) {
		argv[n++] = "--runas"; /* nobody: what it would do anyway, without a word */
		argv[n++] = "65534:65534";
	}
	if (option->forward[0]) {
		snprintf(forward, sizeof(forward), "127.0.0.1/%s", option->forward);
		argv[n++] = "--tcp-ports";
		argv[n++] = forward;
	}
	config->kind = NET_STREAM;
	config->mtu = USER_MTU;
	return helper_start(helpers, argv, "--net user", "the guest's network is gone", &config->fd,
			    err);
}

/* --- both ------------------------------------------------------------------------------ */

int net_open(struct vm_net *net, const struct net_option *option, struct helpers *helpers,
	     struct foal_error *err)
{
	net->config.fd = -1;
	memcpy(net->config.mac, option->mac, sizeof(net->config.mac));
	return option->tap[0] ? open_tap(&net->config, option->tap, err)
			      : open_user(&net->config, option, helpers, err);
}

void net_close(struct vm_net *net)
{
	if (net->config.fd >= 0)
		close(net->config.fd);
	net->config.fd = -1;
}
