#include "vmm/net_option.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "vmm/option_values.h"

int net_make_mac(uint8_t mac[6], struct foal_error *err)
{
	if (getrandom(mac, 6, 0) != 6)
		return error_set(err, FOAL_EXIT_HOST, -errno, "getrandom: %s", strerror(errno));
	mac[0] = (uint8_t)((mac[0] & ~1u) | 2u);
	return 0;
}

void net_option_text(const struct net_option *option, char text[NET_OPTION_TEXT])
{
	const uint8_t *m = option->mac;

	snprintf(text, NET_OPTION_TEXT, "%s%s,mac=%02x:%02x:%02x:%02x:%02x:%02x%s%s",
		 option->tap[0] ? "tap=" : "user", option->tap, m[0], m[1], m[2], m[3], m[4], m[5],
		 option->forward[0] ? ",forward=" : "", option->forward);
}

/* Six bytes in hexadecimal, none of them left out. */
static bool parse_mac(const char *text, uint8_t mac[6])
{
	for (int i = 0; i < 6; i++, text += 3) {
		char digits[3] = {text[0]};

		if (text[0])
			digits[1] = text[1];
		if (!isxdigit((unsigned char)digits[0]) || !isxdigit((unsigned char)digits[1]) ||
		    text[2] != (i < 5 ? ':' : 0))
			return false;
		mac[i] = (uint8_t)strtoul(digits, NULL, 16);
	}
	return true;
}

static int take_mac(const char *name, const char *value, const char *text, struct net_option *out,
		    struct foal_error *err)
{
	static const uint8_t zero[6];

	if (!parse_mac(text, out->mac))
		return option_bad(err, name, value, "give the mac as in mac=52:54:00:12:34:56");
	if ((out->mac[0] & 1) || memcmp(out->mac, zero, sizeof(zero)) == 0)
		return option_bad(err, name, value, "this mac is no single station's");
	return 0;
}

/* A port from 1 to 65535, and where its digits end. */
static const char *port_end(const char *text)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	return isdigit((unsigned char)*text) && end - text <= 5 && port > 0 && port < 65536 ? end
											    : NULL;
}

static int take_forward(const char *name, const char *value, const char *text,
			struct net_option *out, struct foal_error *err)
{
	const char *colon = port_end(text);
	const char *end = colon && *colon == ':' ? port_end(colon + 1) : NULL;

	if (out->tap[0])
		return option_bad(err, name, value, "ports are forwarded with `user` only");
	if (!end || *end)
		return option_bad(err, name, value, "give two TCP ports, as in forward=2222:22");
	snprintf(out->forward, sizeof(out->forward), "%s", text);
	return 0;
}

int net_option_parse(const char *name, const char *value, struct net_option *out,
		     struct foal_error *err)
{
	enum { MAC, FORWARD };
	static const char *const keys[] = {[MAC] = "mac", [FORWARD] = "forward", NULL};
	const char *words[2] = {NULL, NULL};
	char *head = strdup(value);
	int r;

	*out = (struct net_option){0};
	if (!head)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "run: out of memory");
	r = option_fields(name, head, keys, words, err);
	if (r)
		goto out;
	if (strncmp(head, "tap=", 4) == 0) {
		size_t n = strlen(head + 4);

		if (n == 0 || n >= sizeof(out->tap) || strpbrk(head + 4, "/%:, "))
			r = option_bad(err, name, value,
				       "give a tap interface of 1 to 15 characters");
		else
			memcpy(out->tap, head + 4, n + 1);
	} else if (strcmp(head, "user") != 0) {
		r = option_bad(err, name, value, "give tap=NAME or user");
	}
	if (r == 0 && words[MAC])
		r = take_mac(name, value, words[MAC], out, err);
	else if (r == 0)
		r = net_make_mac(out->mac, err);
	out->mac_given = words[MAC];
	if (r == 0 && words[FORWARD])
		r = take_forward(name, value, words[FORWARD], out, err);
out:
	free(head);
	return r;
}
