/*
 * In the guest: one vsock connection, standard input out, what comes to standard
 * output.
 *
 *   vsock-peer connect PORT    to the host
 *   vsock-peer listen PORT     from the host; says "guest: listening" when it can be reached
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int copy(int from, int to)
{
	static char data[64 << 10];
	ssize_t n;

	while ((n = read(from, data, sizeof(data))) > 0)
		for (ssize_t done = 0, m; done < n; done += m) {
			m = write(to, data + done, (size_t)(n - done));
			if (m <= 0)
				return 1;
		}
	return n < 0;
}

static int open_peer(const char *how, unsigned port)
{
	struct sockaddr_vm at = {.svm_family = AF_VSOCK, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (strcmp(how, "connect") == 0) {
		at.svm_cid = VMADDR_CID_HOST;
		return connect(fd, (struct sockaddr *)&at, sizeof(at)) ? -1 : fd;
	}
	at.svm_cid = VMADDR_CID_ANY;
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 1))
		return -1;
	fputs("guest: listening\n", stderr);
	return accept(fd, NULL, NULL);
}

int main(int argc, char **argv)
{
	int fd = argc == 3 ? open_peer(argv[1], (unsigned)strtoul(argv[2], NULL, 10)) : -1;
	int sent = 0, received;
	pid_t pid;

	if (fd < 0) {
		perror("guest: vsock-peer");
		return 2;
	}
	pid = fork();
	if (pid == 0) {
		int rc = copy(STDIN_FILENO, fd);

		shutdown(fd, SHUT_WR);
		_exit(rc);
	}
	received = copy(fd, STDOUT_FILENO);
	waitpid(pid, &sent, 0);
	return received || sent;
}
