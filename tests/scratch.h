/*
 * Files of tests. Each test has a directory of its own, made when it first asks for it and
 * gone when the test has passed; what those that failed left goes when the program ends.
 * A helper that cannot do its work fails the running test.
 */
#ifndef FOAL_TESTS_SCRATCH_H
#define FOAL_TESTS_SCRATCH_H

/* A path in the test's directory; lives as long as the test's process. */
const char *scratch(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An empty file without a name. */
int scratch_file(void);

/* @path again, to live as long as the test's process. */
const char *scratch_keep(const char *path);

/*
 * What fixtures of a suite (unchecked ones) ask for is theirs, and stays until the program ends.
 * @visit each directory that there is now, with its path.
 */
void scratch_each(void (*visit)(const char *directory));

/* Of run_suites(): before the first test, and after the last. */
void scratch_begin(void);
void scratch_end(void);

#endif
