/*
 * What needs nested paging in hardware (or in an emulator of such hardware):
 * stock Linux guests, and KVM's counts of nested faults beside foal's.
 *
 *   test_linux [SUITE]...
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/linux/suites.h"
#include "tests/run_suites.h"

/* KVM without it emulates ring 0, and cannot run all of a stock kernel (docs/hosts.md). */
static bool has_nested_paging(void)
{
	char word[64];
	bool found = false;
	FILE *cpuinfo = fopen("/proc/cpuinfo", "r");

	while (cpuinfo && !found && fscanf(cpuinfo, "%63s", word) == 1)
		found = strcmp(word, "npt") == 0 || strcmp(word, "ept") == 0;
	if (cpuinfo)
		fclose(cpuinfo);
	return found;
}

int main(int argc, char **argv)
{
	static Suite *(*const suites[])(void) = {
	    counts_suite,  boot_suite,	   net_suite,	 devices_suite,	 platform_suite,
	    console_suite, snapshot_suite, copies_suite, multiply_suite,
	};

	if (access("/dev/kvm", R_OK | W_OK) || !has_nested_paging()) {
		puts("SKIP test_linux: no /dev/kvm with nested paging");
		return 77;
	}
	return run_suites(suites, sizeof(suites) / sizeof(*suites), argc ? argv + 1 : argv);
}
