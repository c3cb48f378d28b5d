/*
 * Compiles rules.c into seccomp filters and writes them out as C, when foal is
 * built: so that a run neither carries libseccomp nor pays for it.
 *
 *   make_filters >filters.c
 *   make_filters --table     the table of docs/sandbox.md
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vmm/filters/filters.h"
#include "vmm/filters/rules.h"

/* System calls newer than libseccomp have no name. */
#define MAX_CALL 512

static const char *const kinds[] = {
#define X(id, name) name,
    THREAD_KINDS(X)
#undef X
};

static int add_rules(scmp_filter_ctx ctx, enum thread_kind kind)
{
	/* A binary tree: few steps to the rule that a call is for. */
	int r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);

	for (size_t i = 0; i < nr_rules && r == 0; i++) {
		if (!(rules[i].kinds & 1U << kind))
			continue;
		uint32_t action =
		    rules[i].answer ? SCMP_ACT_ERRNO((uint32_t)rules[i].answer) : SCMP_ACT_ALLOW;
		r = seccomp_rule_add_exact_array(ctx, action, rules[i].number, rules[i].nr_args,
						 rules[i].args);
		if (r)
			fprintf(stderr, "make_filters: %s %s: %s\n", rules[i].call,
				rules[i].only ? rules[i].only : "", strerror(-r));
	}
	return r;
}

/*
 * Linux from 5.11 on tries a filter that is installed with every number of a system call, to know
 * which it allows whatever the arguments. That is half of what a thread pays for its filter (30 us
 * of 60 here), and a start waits for those of the last threads. It gives up where the filter looks
 * at an argument, and every call runs the filter then, some 25 ns. So that comes first for who
 * seldom calls anything, or KVM_RUN, of which an argument is looked at anyway.
 */
static const unsigned look_first =
    1U << THREAD_MAIN | 1U << THREAD_VCPU | 1U << THREAD_VCPU_STATE | 1U << THREAD_CONTROL;
static const struct sock_filter look_at_argument =
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args));

/* How many instructions; negative errno. */
static int compile(enum thread_kind kind, struct sock_filter code[THREAD_FILTER_MAX])
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int fd = memfd_create("filter", MFD_CLOEXEC);
	int r = ctx && fd >= 0 ? 0 : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = add_rules(ctx, kind);
	if (r == 0)
		r = seccomp_export_bpf(ctx, fd);
	if (r == 0) {
		const size_t before = look_first >> kind & 1;
		const ssize_t room = (ssize_t)((THREAD_FILTER_MAX - before) * sizeof(*code));
		ssize_t n = pread(fd, code + before, (size_t)room, 0);
		r = n > 0 && n < room ? (int)(n + (ssize_t)(before * sizeof(*code))) : -E2BIG;
		if (before)
			code[0] = look_at_argument;
	}
	if (fd >= 0)
		close(fd);
	seccomp_release(ctx);
	return r < 0 ? r : r / (int)sizeof(*code);
}

static int print_filter(enum thread_kind kind)
{
	struct sock_filter code[THREAD_FILTER_MAX] = {{0}};
	int count = compile(kind, code);

	if (count < 0) {
		fprintf(stderr, "make_filters: %s: %s\n", kinds[kind], strerror(-count));
		return count;
	}
	printf("\nstatic const struct sock_filter %s_filter[] = {\n", kinds[kind]);
	for (int i = 0; i < count; i++)
		printf("\t{0x%02x, %u, %u, 0x%08x},\n", code[i].code, code[i].jt, code[i].jf,
		       code[i].k);
	puts("};");
	return 0;
}

static void print_names(void)
{
	puts("\nconst char *const system_call_names[] = {");
	for (int nr = 0; nr < MAX_CALL; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, nr);
		if (name)
			printf("\t[%d] = \"%s\",\n", nr, name);
		free(name);
	}
	puts("};\n\nconst size_t nr_system_call_names =\n"
	     "\tsizeof(system_call_names) / sizeof(system_call_names[0]);");
}

static int print_filters(void)
{
	puts("/* Written by make_filters from vmm/filters/rules.c. */\n"
	     "#include \"vmm/filters/filters.h\"");
	for (int kind = 0; kind < NR_THREAD_KINDS; kind++) {
		if (print_filter((enum thread_kind)kind))
			return 1;
	}
	puts("\nconst struct thread_filter thread_filters[NR_THREAD_KINDS] = {");
	for (int kind = 0; kind < NR_THREAD_KINDS; kind++)
		printf("\t{%s_filter, sizeof(%s_filter) / sizeof(%s_filter[0])},\n", kinds[kind],
		       kinds[kind], kinds[kind]);
	puts("};");
	print_names();
	return 0;
}

static int print_table(void)
{
	printf("| system call | arguments |");
	for (int kind = 0; kind < NR_THREAD_KINDS; kind++)
		printf(" %s |", kinds[kind]);
	printf("\n|---|---|");
	for (int kind = 0; kind < NR_THREAD_KINDS; kind++)
		printf("---|");
	putchar('\n');
	for (size_t i = 0; i < nr_rules; i++) {
		printf("| %s | %s |", rules[i].call, rules[i].only ? rules[i].only : "");
		for (int kind = 0; kind < NR_THREAD_KINDS; kind++)
			printf(" %s |", rules[i].kinds & 1U << kind ? "x" : "");
		putchar('\n');
	}
	return 0;
}

int main(int argc, char **argv)
{
	int r = argc > 1 && strcmp(argv[1], "--table") == 0 ? print_table() : print_filters();

	return r || fflush(stdout) ? 1 : 0;
}
