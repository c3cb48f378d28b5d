/* What a Linux guest said and wrote, and what foal and KVM counted of its run. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/linux/suites.h"

#define BLOCK 4096u

const char *linux_path(const char *name)
{
	const char *from = getenv("LINUX_IMAGES");
	static char path[4][256];
	static unsigned next;
	char *p = path[next++ % 4];

	snprintf(p, sizeof(path[0]), "%s/%s", from ? from : "build/linux", name);
	return p;
}

const char *guest_said(const struct run *run, const char *words)
{
	char line[128];
	const char *at;

	snprintf(line, sizeof(line), "guest: %s", words);
	at = strstr(run->out_text, line);
	ck_assert_msg(at != NULL, "no \"%s\" in:\n%s\n%s", line, run->out_text, run->err_text);
	return at + strlen(line);
}

static const json_t *member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);

	ck_assert_msg(value != NULL, "no \"%s\" in the statistics", name);
	return value;
}

void print_read(const char *what, const struct run *run)
{
	size_t i;
	json_t *f;

	printf("%s:", what);
	json_array_foreach(member(run->stats, "files"), i, f)
	{
		double size = (double)json_integer_value(member(f, "size"));
		double read = (double)json_integer_value(member(f, "read"));
		printf(" %s %.1f of %.1f MiB (%.0f %%)", json_string_value(member(f, "use")),
		       read / (1 << 20), size / (1 << 20), 100 * read / size);
	}
	printf(" read\n");
	fflush(stdout);
}

uint64_t kvm_number(const struct run *run, const char *name)
{
	return (uint64_t)json_integer_value(member(member(run->stats, "kvm"), name));
}

void lay_over(const char *image, const char *dir)
{
	char layer[300];
	size_t len;
	uint64_t nr, block, data;
	int fd = open(image, O_WRONLY | O_CLOEXEC);

	snprintf(layer, sizeof(layer), "%s/disk0.layer", dir);
	uint8_t *bytes = read_file(layer, &len);
	ck_assert_int_ge(fd, 0);
	ck_assert_uint_ge(len, BLOCK);
	memcpy(&nr, bytes + 24, sizeof(nr));
	data = BLOCK + (nr * 16 + BLOCK - 1) / BLOCK * BLOCK;
	ck_assert_uint_eq(len, data + nr * BLOCK);
	for (uint64_t i = 0; i < nr; i++) {
		memcpy(&block, bytes + BLOCK + 16 * i, sizeof(block));
		ck_assert_int_eq(
		    pwrite(fd, bytes + data + i * BLOCK, BLOCK, (off_t)(block * BLOCK)), BLOCK);
	}
	close(fd);
	free(bytes);
}
