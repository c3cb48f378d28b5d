#include "vmm/ends.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/options.h"
#include "vmm/passed_files.h"

#define WORDS_MAX 300

bool fill_in(const char *pattern, const char *number, char *out, size_t size)
{
	const char *at = strchr(pattern, '%');
	int n = at ? snprintf(out, size, "%.*s%s%s", (int)(at - pattern), pattern, number, at + 1)
		   : snprintf(out, size, "%s", pattern);

	return n >= 0 && (size_t)n < size;
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool has_field(const char *text, const char *field)
{
	return begins(text, field + 1) || strstr(text, field);
}

/* --- who makes the copies ------------------------------------------------------------------- */

static int one_only(const char *command, const char *option, const char *value, const char *what,
		    struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_USAGE, -EINVAL, "%s: --%s %s: of several VMs each has %s",
			 command, option, value, what);
}

int ends_check(const struct end_patterns *patterns, const char *command, unsigned count,
	       struct foal_error *err)
{
	const char *vsock = patterns->vsock;

	for (unsigned i = 0; i < patterns->net_count && count > 1; i++) {
		const char *net = patterns->nets[i];

		if (has_field(net, ",mac="))
			return one_only(command, "net", net, "a mac of its own: leave it out", err);
		if (has_field(net, ",forward="))
			return one_only(command, "net", net, "ports of its own: fork one by one",
					err);
		if (begins(net, "tap=") && !strchr(net, '%'))
			return one_only(command, "net", net,
					"an interface of its own: a pattern with % in it", err);
	}
	if (vsock && count > 1 && has_field(vsock, ",cid="))
		return one_only(command, "vsock", vsock, "a cid of its own: leave it out", err);
	if (vsock && count > 1 && !strchr(vsock, '%'))
		return one_only(command, "vsock", vsock,
				"a path of its own: a pattern with % in it", err);
	return 0;
}

void ends_request(const struct end_patterns *patterns, json_t *members)
{
	json_t *nets = json_array();

	for (unsigned i = 0; i < patterns->net_count; i++)
		json_array_append_new(
		    nets, json_string(begins(patterns->nets[i], "tap=") ? "tap" : "user"));
	if (patterns->net_count)
		json_object_set(members, "nets", nets);
	if (patterns->vsock)
		json_object_set_new(members, "vsock", json_true());
	json_decref(nets);
}

static int too_long(const char *option, const char *value, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_USAGE, -ENAMETOOLONG, "--%s %s: it is too long", option,
			 value);
}

/* A CID is made up, and the path found from anywhere. */
static int take_vsock(const char *pattern, const char *number, struct vsock_option *out,
		      struct foal_error *err)
{
	char words[WORDS_MAX], *path = NULL, *here = NULL;
	int r = 0;

	if (!fill_in(pattern, number, words, sizeof(words) - 24))
		return too_long("vsock", pattern, err);
	if (!has_field(words, ",cid=")) {
		uint32_t cid;

		r = vsock_make_cid(&cid, err);
		snprintf(words + strlen(words), 24, ",cid=%u", cid);
	}
	if (r == 0)
		r = vsock_option_parse("vsock", words, out, err);
	if (r || out->path[0] == '/')
		return r;
	here = getcwd(NULL, 0);
	if (!here || asprintf(&path, "%s/%s", here, out->path) < 0)
		r = error_set(err, FOAL_EXIT_HOST, -errno, "--vsock: %s", strerror(errno));
	free(here);
	if (r)
		return r;
	free(out->path);
	out->path = NULL;
	r = vsock_take_path("vsock", pattern, path, out, err);
	free(path);
	return r;
}

static int take_net(const char *pattern, const char *number, struct net_option *out,
		    struct foal_error *err)
{
	char words[WORDS_MAX];

	if (!fill_in(pattern, number, words, sizeof(words)))
		return too_long("net", pattern, err);
	return net_option_parse("net", words, out, err);
}

int ends_open(const struct end_patterns *patterns, const char *number, int log, struct ends *out,
	      struct foal_error *err)
{
	struct helpers helpers = {.detached = true, .log = log};
	int r = 0;

	*out = (struct ends){.vsock = {.listener = -1, .connector = -1}};
	for (unsigned i = 0; i < patterns->net_count && r == 0; i++) {
		struct vm_net net = {.config.fd = -1};

		r = take_net(patterns->nets[i], number, &out->net_options[i], err);
		if (r == 0)
			r = net_open(&net, &out->net_options[i], &helpers, err);
		out->nets[out->net_count++] = net.config;
	}
	if (r == 0 && patterns->vsock)
		r = take_vsock(patterns->vsock, number, &out->vsock_option, err);
	if (r == 0 && patterns->vsock)
		r = vsock_open(&out->vsock, &out->vsock_option, &helpers, err);
	return r;
}

unsigned ends_files(const struct ends *ends, int files[ENDS_FILES_MAX])
{
	unsigned n = 0;

	for (unsigned i = 0; i < ends->net_count; i++)
		files[n++] = ends->nets[i].fd;
	if (ends->vsock_option.path) {
		files[n++] = ends->vsock.listener;
		files[n++] = ends->vsock.connector;
	}
	return n;
}

json_t *ends_describe(const struct ends *ends)
{
	json_t *out = json_object(), *nets = json_array();
	bool ok = out && nets;

	for (unsigned i = 0; ok && i < ends->net_count; i++) {
		char words[NET_OPTION_TEXT];

		net_option_text(&ends->net_options[i], words);
		ok = json_array_append_new(nets,
					   json_pack("[s, i]", words, (int)ends->nets[i].mtu)) == 0;
	}
	ok = ok && json_object_set(out, "nets", nets) == 0;
	json_decref(nets);
	if (ok && ends->vsock_option.path)
		ok = json_object_set_new(out, "vsock",
					 json_pack("[I, s]", (json_int_t)ends->vsock_option.cid,
						   ends->vsock_option.path)) == 0;
	if (ok)
		return out;
	json_decref(out);
	return NULL;
}

void ends_close(struct ends *ends)
{
	for (unsigned i = 0; i < ends->net_count; i++)
		if (ends->nets[i].fd >= 0)
			close(ends->nets[i].fd);
	ends->net_count = 0;
	if (ends->vsock_option.path)
		vsock_close(&ends->vsock);
	free(ends->vsock_option.path);
	ends->vsock_option.path = NULL;
}

/* --- the VM that is copied ------------------------------------------------------------------- */

unsigned ends_count(const struct end_kinds *kinds)
{
	return kinds->nets + (kinds->vsock ? 2 : 0);
}

static int cannot(struct foal_error *err, const char *option, const char *which, const char *why)
{
	return error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP, "no fork: --%s %s: %s", option, which,
			 why);
}

int ends_possible(const struct run_options *opt, const struct end_kinds *kinds,
		  struct foal_error *err)
{
	for (unsigned i = 0; i < opt->net_count; i++) {
		const char *tap = opt->nets[i].tap;

		if (i < kinds->nets && kinds->taps[i] == (tap[0] != 0))
			continue;
		return tap[0] ? cannot(err, "net tap", tap,
				       "each VM needs an interface of its own: a --net tap=PATTERN "
				       "here in its place")
			      : cannot(err, "net", "user",
				       "each VM needs a helper of its own: a --net user here in "
				       "its place");
	}
	if (kinds->nets > opt->net_count)
		return error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP,
				 "no fork: --net: the VM itself has %s",
				 opt->net_count ? "fewer networks" : "no network");
	if (opt->vsock.path && !kinds->vsock)
		return cannot(err, "vsock", opt->vsock.path,
			      "each VM needs a socket of its own: --vsock path=PATTERN");
	if (kinds->vsock && !opt->vsock.path)
		return error_set(err, FOAL_EXIT_CONTROL, -EOPNOTSUPP,
				 "no fork: --vsock: the VM itself has no vsock");
	return 0;
}

static const char no_sense[] = "a message does not say what the networks and the vsock are";

static const char *take_described_net(const json_t *said, bool tap, int fd,
				      struct net_option *option, struct net_config *config)
{
	const char *words = json_string_value(json_array_get(said, 0));
	json_int_t mtu = json_integer_value(json_array_get(said, 1));
	struct foal_error ignored = {0};

	if (!words || mtu < 0 || mtu > UINT16_MAX ||
	    net_option_parse("net", words, option, &ignored) || (option->tap[0] != 0) != tap)
		return no_sense;
	if (tap && !passed_tap(fd, option->tap))
		return "what came for a network is not its tap interface (IFF_TAP, IFF_NO_PI, "
		       "IFF_VNET_HDR, a header of 12 bytes, O_NONBLOCK)";
	if (!tap && !passed_stream(fd))
		return "what came for a network is no non-blocking Unix stream socket";
	*config =
	    (struct net_config){.fd = fd, .kind = tap ? NET_TAP : NET_STREAM, .mtu = (uint16_t)mtu};
	memcpy(config->mac, option->mac, sizeof(config->mac));
	return NULL;
}

static const char *take_described_vsock(const json_t *said, const int files[2], struct ends *ends)
{
	struct vsock_option *out = &ends->vsock_option;
	const char *path = json_string_value(json_array_get(said, 1));
	json_int_t cid = json_integer_value(json_array_get(said, 0));
	struct foal_error ignored = {0};

	out->cid = (uint32_t)cid;
	if (!passed_listener(files[0]))
		return "what came for the vsock is no non-blocking Unix stream socket that "
		       "listens";
	if (!passed_stream(files[1]))
		return "what came for the vsock's connector is no non-blocking Unix stream socket";
	ends->vsock.listener = files[0];
	ends->vsock.connector = files[1];
	return path && path[0] == '/' && vsock_is_cid(out->cid) &&
		       vsock_take_path("vsock", path, path, out, &ignored) == 0
		   ? NULL
		   : no_sense;
}

const char *ends_take(const struct end_kinds *kinds, const char *described, const int *files,
		      struct ends *out)
{
	json_t *said = json_loads(described, JSON_REJECT_DUPLICATES, NULL);
	const json_t *nets = json_object_get(said, "nets");
	const char *fault = said && json_array_size(nets) == kinds->nets ? NULL : no_sense;

	*out = (struct ends){.vsock = {.listener = -1, .connector = -1}};
	for (unsigned i = 0; !fault && i < kinds->nets; i++, out->net_count++)
		fault = take_described_net(json_array_get(nets, i), kinds->taps[i], *files++,
					   &out->net_options[i], &out->nets[i]);
	if (!fault && kinds->vsock)
		fault = take_described_vsock(json_object_get(said, "vsock"), files, out);
	json_decref(said);
	return fault;
}

/* --- foal restore ---------------------------------------------------------------------- */

static int renew_nets(const struct end_patterns *patterns, bool keep, struct run_options *opt,
		      struct foal_error *err)
{
	int r = 0;

	for (unsigned i = 0; i < opt->net_count && r == 0; i++) {
		struct net_option was = opt->nets[i], *net = &opt->nets[i];

		if (i < patterns->net_count)
			r = net_option_parse("net", patterns->nets[i], net, err);
		if (r == 0 && (net->tap[0] != 0) != (was.tap[0] != 0))
			r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
				      "restore: --net %s: the VM has another kind of network: "
				      "give %s",
				      patterns->nets[i], was.tap[0] ? "tap=NAME" : "user");
		if (r || (i < patterns->net_count && net->mac_given))
			continue;
		if (keep)
			memcpy(net->mac, was.mac, sizeof(net->mac));
		else
			r = net_make_mac(net->mac, err);
	}
	return r;
}

static int renew_vsock(const char *pattern, bool keep, struct vsock_option *vsock,
		       struct foal_error *err)
{
	struct vsock_option new = {0};
	uint32_t cid = vsock->cid;
	int r = 0;

	if (!pattern)
		return keep ? 0 : vsock_make_cid(&vsock->cid, err);
	r = take_vsock(pattern, "%", &new, err);
	free(vsock->path);
	*vsock = new;
	if (keep && !has_field(pattern, ",cid="))
		vsock->cid = cid;
	return r;
}

int ends_renew(const struct end_patterns *patterns, bool keep, struct run_options *opt,
	       struct foal_error *err)
{
	int r = renew_nets(patterns, keep, opt, err);

	if (r == 0 && patterns->net_count > opt->net_count)
		r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
			      "restore: --net %s: the snapshot's machine has %u networks",
			      patterns->nets[opt->net_count], opt->net_count);
	if (r == 0 && patterns->vsock && !opt->vsock.path)
		r = error_set(err, FOAL_EXIT_USAGE, -EINVAL,
			      "restore: --vsock: the snapshot's machine has no vsock");
	if (r == 0 && opt->vsock.path)
		r = renew_vsock(patterns->vsock, keep, &opt->vsock, err);
	return r;
}
