#ifndef FOAL_TESTS_VMM_SUITES_H
#define FOAL_TESTS_VMM_SUITES_H

#include <check.h>

Suite *docs_suite(void);
Suite *image_suite(void);
Suite *options_suite(void);

#endif
