/* Touching what may not be there, and looking at all there is. */
#include "sequence.h"

#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static sigjmp_buf back;
static volatile sig_atomic_t caught, caught_code;
static char *volatile caught_at;

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)context;
	caught = signal;
	caught_code = info->si_code;
	caught_at = info->si_addr;
	siglongjmp(back, 1);
}

/* With the mask as it is: saving it would make every touch a system call. */
void catch_faults(void)
{
	struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};

	sigemptyset(&action.sa_mask);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

bool touch_read(const char *at, uint64_t *value)
{
	if (sigsetjmp(back, 0))
		return false;
	*value = *(const volatile uint64_t *)(const volatile void *)at;
	return true;
}

bool touch_write(char *at, uint64_t value)
{
	if (sigsetjmp(back, 0))
		return false;
	*(volatile uint64_t *)(volatile void *)at = value;
	return true;
}

/* The signal that a touch of @at ended in; where, only if it is not where it has to be. */
void print_fault(const char *at)
{
	printf("%s%d",
	       caught == SIGSEGV  ? "segv"
	       : caught == SIGBUS ? "bus"
				  : "?",
	       (int)caught_code);
	if (caught_at != at)
		printf("@%+ld", (long)(caught_at - at));
}

/* --- what is there ----------------------------------------------------------------------- */

static uint64_t mixed(uint64_t sum, uint64_t value)
{
	sum ^= value + 0x9e3779b97f4a7c15UL + (sum << 6) + (sum >> 2);
	return sum;
}

/* Of all that can be read of a page, every 64 bytes. */
static uint64_t sum_of_page(const char *page, uint64_t sum)
{
	for (unsigned at = 0; at < PAGE; at += 64) {
		uint64_t value;

		if (!touch_read(page + at, &value))
			value = ((uint64_t)caught << 32) | (unsigned)caught_code;
		sum = mixed(sum, value);
		if (at == 0 && caught)
			break;
	}
	return sum;
}

void look_at_all(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		caught = 0;
		sum = sum_of_page(page_at(i), sum);
	}
	printf("all %016lx\n", (unsigned long)sum);
}

/* A run of pages of one kind, as /proc names kinds. */
static void print_run(unsigned long from, unsigned long to, const char *kind)
{
	if (from < to)
		printf(" %lu+%lu %s", (from - (unsigned long)ARENA) / PAGE, (to - from) / PAGE,
		       kind);
}

/* Neighbours of one kind are one: what two kernels merge may differ. */
void look_at_maps(void)
{
	const unsigned long arena = (unsigned long)ARENA;
	unsigned long start, end, from = 0, to = 0;
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512], kind[5], last[5] = "";

	printf("maps");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, kind) != 3 || start < arena ||
		    end > arena + PAGES * PAGE)
			continue;
		if (start != to || strcmp(kind, last) != 0) {
			print_run(from, to, last);
			from = start;
		}
		to = end;
		memcpy(last, kind, sizeof(last));
	}
	print_run(from, to, last);
	putchar('\n');
	if (f)
		fclose(f);
}
