/* The kernel's command line: words, key=value words, and after "--" the words of init. */
#include "guest/include/cmdline.h"
#include "guest/include/boot.h"
#include "guest/include/string.h"

/* The next word from *pos on, its length in *len; NULL at the end. */
static const char *next_word(const char **pos, size_t *len)
{
	const char *p = *pos;
	const char *start;

	while (*p == ' ' || *p == '\t' || *p == '\n')
		p++;
	if (!*p)
		return NULL;
	start = p;
	while (*p && *p != ' ' && *p != '\t' && *p != '\n')
		p++;
	*len = (size_t)(p - start);
	*pos = p;
	return start;
}

/* Monitors append their devices to the whole line, so these words are the kernel's anywhere. */
static bool is_device_word(const char *w, size_t len)
{
	static const char key[] = "virtio_mmio.device=";

	return len >= sizeof(key) - 1 && !memcmp(w, key, sizeof(key) - 1);
}

static bool is_word(const char *w, size_t len, const char *word)
{
	return len == strlen(word) && !memcmp(w, word, len);
}

int cmdline_each(const char *key, int (*fn)(const char *value, void *arg), void *arg)
{
	const char *pos = boot_info.cmdline, *w;
	size_t klen = strlen(key), len;
	bool init_args = false;
	char value[128];

	while ((w = next_word(&pos, &len))) {
		size_t vlen;
		int ret;

		init_args |= is_word(w, len, "--");
		if (init_args && !is_device_word(w, len))
			continue;
		if (len <= klen || memcmp(w, key, klen) != 0 || w[klen] != '=')
			continue;
		vlen = MIN(len - klen - 1, sizeof(value) - 1);
		memcpy(value, w + klen + 1, vlen);
		value[vlen] = '\0';
		ret = fn(value, arg);
		if (ret)
			return ret;
	}
	return 0;
}

struct get_arg {
	char *buf;
	size_t size;
	bool found;
};

static int get_one(const char *value, void *arg)
{
	struct get_arg *g = arg;
	size_t n = MIN(strlen(value), g->size - 1);

	memcpy(g->buf, value, n);
	g->buf[n] = '\0';
	g->found = true;
	return 0;
}

bool cmdline_get(const char *key, char *buf, size_t size)
{
	struct get_arg g = {.buf = buf, .size = size};

	buf[0] = '\0';
	cmdline_each(key, get_one, &g);
	return g.found;
}

bool cmdline_has(const char *word)
{
	const char *pos = boot_info.cmdline, *w;
	size_t len;

	while ((w = next_word(&pos, &len)) && !is_word(w, len, "--"))
		if (is_word(w, len, word))
			return true;
	return false;
}

unsigned cmdline_init_args(char *buf, size_t size, const char **argv, unsigned max)
{
	const char *pos = boot_info.cmdline, *w;
	unsigned n = 0;
	size_t len;

	while ((w = next_word(&pos, &len)) && !is_word(w, len, "--"))
		;
	while (n < max && (w = next_word(&pos, &len)) && len < size) {
		if (is_device_word(w, len))
			continue;
		memcpy(buf, w, len);
		buf[len] = '\0';
		argv[n++] = buf;
		buf += len + 1;
		size -= len + 1;
	}
	return n;
}
