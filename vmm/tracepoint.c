#include "vmm/tracepoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORMAT_MAX 32768U /* bytes; a page in older kernels, kvm_exit's has 5 KiB */
#define SAMPLE_MAX 8192U  /* a raw sample has no more */
#define ID_MAX	   65535U /* samples have it in 16 bits */

/* The number behind @key in the line at @at. */
static int number_of(const char *at, const char *key, unsigned long most, unsigned *out)
{
	const char *line_end = at + strcspn(at, "\n");
	const char *digits = strstr(at, key);
	char *end;

	if (!digits || digits >= line_end)
		return -EINVAL;
	digits += strlen(key);
	if (*digits < '0' || *digits > '9')
		return -EINVAL;
	unsigned long value = strtoul(digits, &end, 10);
	if (value > most || (*end != ';' && *end != '\n' && *end))
		return -EINVAL;
	*out = (unsigned)value;
	return 0;
}

/* The declaration at @at, up to its semicolon, is of @name and of no array. */
static int declares(const char *at, const char *name)
{
	size_t len = strcspn(at, ";\n"), name_len = strlen(name);

	return at[len] == ';' && len > name_len && at[len - name_len - 1] == ' ' &&
	       strncmp(at + len - name_len, name, name_len) == 0;
}

static int find_field(const char *text, struct tracepoint_field *field)
{
	static const char begins[] = "\tfield:";
	const char *at = text;

	while ((at = strstr(at, begins)) && !declares(at + strlen(begins), field->name))
		at++;
	if (!at || number_of(at, "offset:", SAMPLE_MAX, &field->offset) ||
	    number_of(at, "size:", sizeof(uint64_t), &field->size))
		return -EINVAL;
	/* Of these alone a number can be taken. */
	return field->size && (field->size & (field->size - 1)) == 0 ? 0 : -EINVAL;
}

int tracepoint_parse(const char *text, uint64_t *id, struct tracepoint_field *fields, size_t n)
{
	static const char begins[] = "\nID: ";
	const char *at = strstr(text, begins);
	unsigned value = 0;
	int r = at ? number_of(at + 1, begins + 1, ID_MAX, &value) : -EINVAL;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = find_field(text, &fields[i]);
	*id = value;
	return r;
}

static int open_format(const char *name)
{
	static const char *const mounts[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
	char path[PATH_MAX];
	int fd = -1;

	for (size_t i = 0; fd < 0 && i < sizeof(mounts) / sizeof(mounts[0]); i++) {
		snprintf(path, sizeof(path), "%s/events/%s/format", mounts[i], name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 && errno != ENOENT)
			return -errno;
	}
	return fd < 0 ? -ENOENT : fd;
}

int tracepoint_read(const char *name, uint64_t *id, struct tracepoint_field *fields, size_t n)
{
	int fd = open_format(name), r = -ENOMEM;
	char *text = fd < 0 ? NULL : calloc(1, FORMAT_MAX + 1);
	size_t len = 0;
	ssize_t got = 1;

	while (text && got > 0 && len < FORMAT_MAX) {
		got = read(fd, text + len, FORMAT_MAX - len);
		len += got > 0 ? (size_t)got : 0;
	}
	if (fd < 0)
		r = fd;
	else if (text)
		r = got < 0 ? -errno : tracepoint_parse(text, id, fields, n);
	free(text);
	if (fd >= 0)
		close(fd);
	return r;
}

uint64_t tracepoint_get(const struct tracepoint_field *field, const void *raw, size_t len)
{
	uint64_t value = 0;

	if (field->offset + field->size <= len)
		memcpy(&value, (const char *)raw + field->offset, field->size);
	return value;
}
