/*
 * A guest's network: data to a stock Linux guest and back over TCP, its address by
 * DHCP, through a tap interface (64 MiB) and through passt (8 MiB).
 *
 * Each test has a network namespace of its own, in which all of the host's side
 * is: this process, what it starts, and foal. The guest's part is jobs/net.
 */
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/linux/suites.h"

#define TAP_BYTES     (64UL << 20)
/* What an emulated guest takes long for is passt's own TCP, which gives a slow peer up. */
#define PASST_BYTES   (8UL << 20)
#define PIECE	      (64UL << 10)

#define PORT_TO_GUEST 9000
#define PORT_BACK     9001

#define MAC	      "02:12:34:56:78:9a"

/* --- the host's side of the transfer --------------------------------------------------- */

struct transfer {
	int listener;
	pthread_t thread;
	uint64_t wanted, bytes;
	char sum[SHA256_HEX];
};

static int listen_on(uint16_t port)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	ck_assert_int_ge(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

/* Cheap, never the same twice in such a transfer, and not compressible by halves. */
static void next_piece(uint64_t *state, uint64_t piece[PIECE / 8])
{
	for (size_t i = 0; i < PIECE / 8; i++) {
		*state ^= *state << 13;
		*state ^= *state >> 7;
		*state ^= *state << 17;
		piece[i] = *state;
	}
}

static bool send_all(int fd, const void *data, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = send(fd, (const char *)data + done, len - done, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static void *give(void *arg)
{
	static uint64_t piece[PIECE / 8];
	struct transfer *t = arg;
	uint64_t state = 0x9e3779b97f4a7c15;
	struct sha256 sha;
	int fd = accept(t->listener, NULL, NULL);

	sha256_init(&sha);
	while (t->bytes < t->wanted) {
		next_piece(&state, piece);
		sha256_update(&sha, piece, PIECE);
		if (!send_all(fd, piece, PIECE))
			break;
		t->bytes += PIECE;
	}
	sha256_final_hex(&sha, t->sum);
	close(fd);
	return NULL;
}

static void *take(void *arg)
{
	static uint8_t piece[PIECE];
	struct transfer *t = arg;
	struct sha256 sha;
	int fd = accept(t->listener, NULL, NULL);
	ssize_t n;

	sha256_init(&sha);
	while ((n = recv(fd, piece, PIECE, 0)) > 0) {
		sha256_update(&sha, piece, (size_t)n);
		t->bytes += (uint64_t)n;
	}
	sha256_final_hex(&sha, t->sum);
	close(fd);
	return NULL;
}

static struct transfer out, back;

static void start_transfers(uint64_t bytes)
{
	out = (struct transfer){.listener = listen_on(PORT_TO_GUEST), .wanted = bytes};
	back = (struct transfer){.listener = listen_on(PORT_BACK)};
	ck_assert_int_eq(pthread_create(&out.thread, NULL, give, &out), 0);
	ck_assert_int_eq(pthread_create(&back.thread, NULL, take, &back), 0);
}

/* --- the host's network ------------------------------------------------------------------ */

static void host(const char *command)
{
	int status = system(command);

	ck_assert_msg(status == 0, "%s: status %d", command, status);
}

/* A namespace in which nothing but what the test makes is; only root may. */
static void enter_network(void)
{
	ck_assert_msg(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0, "unshare: %s", strerror(errno));
	ck_assert_int_eq(setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1), 0);
	host("busybox ip link set lo up");
}

static pid_t dhcp_server;

/* The interface, its end of the network 10.77.0.0/24, and a DHCP server on it. */
static void make_tap(void)
{
	char config[512];
	int n;

	host("busybox tunctl -t foal0 >/dev/null");
	host("busybox ip addr add 10.77.0.1/24 dev foal0");
	host("busybox ip link set foal0 up");
	write_file(scratch("leases"), "", 0);
	n = snprintf(config, sizeof(config),
		     "start 10.77.0.20\nend 10.77.0.20\ninterface foal0\n"
		     "lease_file %s\npidfile %s\noption subnet 255.255.255.0\n"
		     "option router 10.77.0.1\n",
		     scratch("leases"), scratch("udhcpd.pid"));
	write_file(scratch("udhcpd.conf"), config, (size_t)n);
	dhcp_server = fork();
	if (dhcp_server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("busybox", "udhcpd", "-f", scratch("udhcpd.conf"), NULL);
		_exit(127);
	}
}

/*
 * passt shows the guest what the host has: an address and a route. It goes into
 * a root of its own by pivot_root(2), which the initial RAM file system does not
 * have: so this process's root becomes a mount like any other.
 */
static void make_route(void)
{
	host("busybox tunctl -t ext0 >/dev/null");
	host("busybox ip addr add 10.78.0.2/24 dev ext0");
	host("busybox ip link set ext0 up");
	host("busybox ip route add default via 10.78.0.1 dev ext0");
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert(mkdir("/new-root", 0755) == 0 || errno == EEXIST);
	ck_assert_int_eq(mount("/", "/new-root", NULL, MS_BIND | MS_REC, NULL), 0);
	char *cwd = getcwd(NULL, 0);
	ck_assert_int_eq(chdir("/new-root"), 0);
	ck_assert_int_eq(mount(".", "/", NULL, MS_MOVE, NULL), 0);
	ck_assert_int_eq(chroot("."), 0);
	ck_assert_int_eq(chdir(cwd), 0);
	free(cwd);
}

/* --- the tests ------------------------------------------------------------------------------ */

static void run_job(struct run *run, const char *net)
{
	run_foal(run, ARGS("--kernel", linux_path("vmlinuz"), "--initrd", linux_path("initrd.gz"),
			   "--memory", "512M", "--time-limit", GUEST_LIMIT, "--net", net,
			   "--append", "console=ttyS0 panic=-1 quiet job=net"));
	ck_assert_msg(run->status == 0, "status %d\n%s\n%s", run->status, run->out_text,
		      run->err_text);
	guest_said(run, "job net ended with 0");
}

static uint64_t net_number(const struct run *run, const char *name)
{
	const json_t *nets = json_object_get(run->stats, "nets");

	return (uint64_t)json_integer_value(json_object_get(json_array_get(nets, 0), name));
}

/* All of it there and back, and counted. */
static void check_transfers(const struct run *run)
{
	ck_assert_int_eq(pthread_join(out.thread, NULL), 0);
	ck_assert_int_eq(pthread_join(back.thread, NULL), 0);
	ck_assert_uint_eq(out.bytes, out.wanted);
	ck_assert_uint_eq(back.bytes, out.wanted);
	ck_assert_msg(strncmp(guest_said(run, "received "), out.sum, SHA256_HEX - 1) == 0,
		      "sent %s, the guest:\n%s", out.sum, run->out_text);
	ck_assert_str_eq(back.sum, out.sum);
	guest_said(run, "sent");
	ck_assert_uint_gt(net_number(run, "rx_bytes"), out.wanted);
	ck_assert_uint_gt(net_number(run, "tx_bytes"), out.wanted);
	ck_assert_uint_eq(net_number(run, "rx_dropped"), 0);
	ck_assert_uint_eq(net_number(run, "tx_dropped"), 0);
	printf("%lu MiB there and back: %lu and %lu frames, %lu exits\n",
	       (unsigned long)(out.wanted >> 20), (unsigned long)net_number(run, "rx_frames"),
	       (unsigned long)net_number(run, "tx_frames"),
	       (unsigned long)kvm_number(run, "exits"));
	fflush(stdout);
}

START_TEST(over_a_tap_interface)
{
	struct run run;

	enter_network();
	make_tap();
	start_transfers(TAP_BYTES);
	run_job(&run, "tap=foal0,mac=" MAC);
	guest_said(&run, "mac " MAC " mtu 1500");
	guest_said(&run, "address 10.77.0.20");
	check_transfers(&run);
	/* Large segments crossed whole: far fewer frames than packets of 1500 bytes. */
	ck_assert_uint_lt(net_number(&run, "rx_frames"), TAP_BYTES / 1500);
	ck_assert_uint_lt(net_number(&run, "tx_frames"), TAP_BYTES / 1500);
	check_events(&run);
	run_free(&run);
	kill(dhcp_server, SIGKILL);
	waitpid(dhcp_server, NULL, 0);
}
END_TEST

/* The router's address stands for the host's loopback interface. */
START_TEST(through_passt)
{
	struct run run;

	enter_network();
	make_route();
	start_transfers(PASST_BYTES);
	run_job(&run, "user,mac=" MAC);
	guest_said(&run, "mac " MAC " mtu 65520");
	guest_said(&run, "address 10.78.0.2");
	check_transfers(&run);
	check_events(&run);
	/* It was waited for. */
	ck_assert_uint_eq(foal_lines(&run), 0);
	run_free(&run);
}
END_TEST

Suite *net_suite(void)
{
	Suite *suite = suite_create("net");
	TCase *tc = tcase_create("net");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_test(tc, over_a_tap_interface);
	tcase_add_test(tc, through_passt);
	suite_add_tcase(suite, tc);
	return suite;
}
