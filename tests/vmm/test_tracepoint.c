/* Format files of tracepoints: one as a kernel writes it, and odd ones. */
#include <check.h>
#include <errno.h>
#include <string.h>

#include "tests/vmm/suites.h"
#include "vmm/tracepoint.h"

#define HEAD "name: kvm_page_fault\nID: 100\nformat:\n"
#define COMMON \
	"\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n" \
	"\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;\n\n"

#define GOOD \
	HEAD COMMON "\tfield:unsigned long guest_rip;\toffset:16;\tsize:8;\tsigned:0;\n" \
		    "\tfield:u64 error_code;\toffset:32;\tsize:8;\tsigned:0;\n\n" \
		    "print fmt: \"rip 0x%lx\", REC->guest_rip\n"

START_TEST(a_kernels)
{
	struct tracepoint_field fields[] = {{.name = "error_code"}, {.name = "guest_rip"}};
	unsigned char raw[40] = {[16] = 0x12, [17] = 0x34, [32] = 7};
	uint64_t id;

	ck_assert_int_eq(tracepoint_parse(GOOD, &id, fields, 2), 0);
	ck_assert_uint_eq(id, 100);
	ck_assert_uint_eq(tracepoint_get(&fields[0], raw, sizeof(raw)), 7);
	ck_assert_uint_eq(tracepoint_get(&fields[1], raw, sizeof(raw)), 0x3412);
	/* Cut short: what is not there is not read. */
	ck_assert_uint_eq(tracepoint_get(&fields[0], raw, sizeof(raw) - 1), 0);
	ck_assert_uint_eq(tracepoint_get(&fields[1], raw, 23), 0);
}
END_TEST

static const char *const odd[] = {
    "",
    "ID: 5\n",
    "name: x\nID: \n" COMMON,
    "name: x\nID: 65536\n" COMMON,
    "name: x\nID: -1\n" COMMON,
    "name: x\nID: 99999999999999999999999\n" COMMON,
    HEAD,
    HEAD "\tfield:u64 guest_rip",
    HEAD "\tfield:u64 guest_rip;",
    HEAD "\tfield:u64 guest_rip;\toffset:8;",
    HEAD "\tfield:u64 guest_rip;\n\toffset:8;\tsize:8;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:;\tsize:8;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:-8;\tsize:8;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:8x;\tsize:8;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:4294967295;\tsize:8;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:18446744073709551615;\tsize:8;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:8;\tsize:0;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:8;\tsize:3;\n",
    HEAD "\tfield:u64 guest_rip;\toffset:8;\tsize:16;\n",
    HEAD "\tfield:u64 guest_rip[2];\toffset:8;\tsize:8;\n",
    HEAD "\tfield:u64 not_guest_rip;\toffset:8;\tsize:8;\n",
    HEAD "\tfield:u64 guest_rip_too;\toffset:8;\tsize:8;\n",
};

START_TEST(odd_ones)
{
	struct tracepoint_field field = {.name = "guest_rip"};
	uint64_t id;

	ck_assert_int_eq(tracepoint_parse(odd[_i], &id, &field, 1), -EINVAL);
}
END_TEST

/* Cut at any byte: no read beyond it (a sanitizer looks), and all or nothing. */
START_TEST(cut_anywhere)
{
	char text[sizeof(GOOD)];

	for (size_t len = 0; len < sizeof(GOOD); len++) {
		struct tracepoint_field field = {.name = "error_code"};
		uint64_t id;
		memcpy(text, GOOD, len);
		text[len] = '\0';
		int r = tracepoint_parse(text, &id, &field, 1);
		ck_assert(r == -EINVAL || (field.offset == 32 && field.size == 8));
	}
}
END_TEST

Suite *tracepoint_suite(void)
{
	Suite *suite = suite_create("tracepoint");
	TCase *tc = tcase_create("tracepoint");

	tcase_add_test(tc, a_kernels);
	tcase_add_loop_test(tc, odd_ones, 0, sizeof(odd) / sizeof(odd[0]));
	tcase_add_test(tc, cut_anywhere);
	suite_add_tcase(suite, tc);
	return suite;
}
