/* The page that a report's data goes into: one file that `make report-page` puts beside foal. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmm/helper.h"
#include "vmm/report.h"

#define PAGE_NAME "foal-report.html"
#define PAGE_MAX  (16 << 20) /* bytes */
#define PLACE	  "@TRACE@"  /* where the data goes */

static int refuse(const char *path, const char *what, struct foal_error *err)
{
	return error_set(err, FOAL_EXIT_HOST, -ENOENT,
			 "%s: %s; this is the page that a report is drawn by, build it with "
			 "make report-page",
			 path, what);
}

static int split(struct report_page *page, const char *path, struct foal_error *err)
{
	char *place = strstr(page->text, PLACE);

	if (!place || strstr(place + 1, PLACE))
		return refuse(path, "it has no one place for the data", err);
	page->head = (size_t)(place - page->text);
	page->tail = page->head + strlen(PLACE);
	return 0;
}

static int read_page(struct report_page *page, const char *path, int fd, struct foal_error *err)
{
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > PAGE_MAX)
		return refuse(path, "not a file of that kind", err);
	page->text = calloc(1, (size_t)st.st_size + 1);
	if (!page->text)
		return error_set(err, FOAL_EXIT_HOST, -ENOMEM, "out of memory");
	while (page->len < (size_t)st.st_size) {
		ssize_t n = read(fd, page->text + page->len, (size_t)st.st_size - page->len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return refuse(path, n ? strerror(errno) : "it became shorter", err);
		page->len += (size_t)n;
	}
	return split(page, path, err);
}

int report_page_load(struct report_page *page, struct foal_error *err)
{
	char path[PATH_MAX];

	*page = (struct report_page){0};
	int r = helper_beside(PAGE_NAME, path, sizeof(path), err);
	if (r)
		return r;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return refuse(path, strerror(errno), err);
	r = read_page(page, path, fd, err);
	close(fd);
	return r;
}

void report_page_free(struct report_page *page)
{
	free(page->text);
}

/* JSON has '<' in texts alone, where it can be said otherwise: no "</script" or "<!--" is left. */
static int put_escaped(const char *text, size_t len, void *to)
{
	struct trace_out *out = to;

	while (len) {
		const char *mark = memchr(text, '<', len);
		size_t n = mark ? (size_t)(mark - text) : len;
		trace_out_bytes(out, text, n);
		if (mark)
			trace_out_bytes(out, "\\u003c", 6), n++;
		text += n;
		len -= n;
	}
	return 0;
}

void report_page_write(const struct report_page *page, const json_t *data, struct trace_out *out)
{
	trace_out_bytes(out, page->text, page->head);
	if (!data || json_dump_callback(data, put_escaped, out, JSON_COMPACT | JSON_ENSURE_ASCII))
		trace_out_fail(out, -ENOMEM);
	trace_out_bytes(out, page->text + page->tail, page->len - page->tail);
}
