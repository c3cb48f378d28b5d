/*
 * Fuzz target: what a client of the control socket sends, in pieces, through a socket as
 * the control thread reads it. What is let in must keep the promises of
 * vmm/control_request.h, and each line has one answer.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "vmm/control_conn.h"

#define NEED(truth) \
	do { \
		if (!(truth)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void serve(struct conn *conn, size_t len)
{
	struct control_request request;
	struct control_fault fault = {.text = ""};

	NEED(len <= CONTROL_LINE_MAX && conn->in[len] == '\n');
	if (control_request_parse(conn->in, len, &request, &fault)) {
		NEED(fault.text[0] && strlen(fault.text) < sizeof(fault.text));
		conn_send(conn, conn_error(request.id, fault.code, fault.text), 1);
	} else {
		NEED((unsigned)request.command < NR_CONTROL_COMMANDS);
		NEED(request.timeout_ms <= 3600000);
		NEED(request.command != CONTROL_BALLOON ||
		     (request.size && request.size % 4096 == 0));
		conn_send(conn, conn_reply(request.id), 1);
	}
	control_request_free(&request);
}

/* A line for each that was served, as JSON. */
static void check_answers(int client, unsigned served)
{
	static char text[1 << 22];
	unsigned answers = 0;
	size_t len = 0;
	ssize_t n;

	while (len < sizeof(text) && (n = recv(client, text + len, sizeof(text) - len, 0)) > 0)
		len += (size_t)n;
	for (char *at = text, *end; (end = memchr(at, '\n', len - (size_t)(at - text)));
	     at = end + 1) {
		json_t *line = json_loadb(at, (size_t)(end - at), 0, NULL);
		NEED(json_is_object(line));
		json_decref(line);
		answers++;
	}
	NEED(answers >= served); /* one more where it was turned away */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conn conn;
	unsigned served = 0;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends))
		abort();
	conn_open(&conn, ends[0], 0);
	while (size > 0 && conn.fd >= 0) {
		size_t piece = data[0] * 16U + 1, len;

		data++, size--;
		piece = piece < size ? piece : size;
		if (piece && send(ends[1], data, piece, MSG_NOSIGNAL) != (ssize_t)piece)
			break;
		data += piece;
		size -= piece;
		for (bool more = conn_ready(&conn, POLLIN, 1, &len); more;
		     more = conn_next_line(&conn, &len, 1), served++)
			serve(&conn, len);
		if (conn.out_len > 0)
			break;
	}
	if (conn.out_len == 0)
		check_answers(ends[1], served);
	conn_close(&conn);
	close(ends[1]);
	return 0;
}
