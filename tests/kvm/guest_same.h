/* A program that says the same on this machine's kernel and on the guest's. */
#ifndef FOAL_TESTS_KVM_GUEST_SAME_H
#define FOAL_TESTS_KVM_GUEST_SAME_H

/*
 * Runs the program of that name in build/tests/diff, with an argument there and here, and compares
 * what it says line by line, but for the kernel's own lines. It ends with status 0 on both, the
 * guest gives all memory back, and its file system is clean. cpus: the guest's. Skips the test
 * where the program could not be built.
 */
void same_on_both(const char *name, const char *in_guest, const char *on_host, const char *cpus);

#endif
