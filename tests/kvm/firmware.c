/*
 * A ROM of 4 KiB, by hand: the processor starts in it as after reset, finds it
 * once more below 1 MiB, writable there, and fw_cfg. The other ROMs are real,
 * and boot Linux (tests/linux).
 */
#include <string.h>

#include "tests/kvm/runner.h"
#include "tests/kvm/suites.h"

#define ROM_SIZE 4096
#define RESET	 0xff0 /* of a ROM that ends at 4 GiB */
#define MARK	 0x800
#define PASSED	 42

/* Real mode; the ROM is at f000 of a code segment whose base is 0xffff0000. */
static const unsigned char code[] = {
    0xba, 0x10,	  0x05,			  /* mov $0x510, %dx */
    0x31, 0xc0,				  /* xor %ax, %ax */
    0xef,				  /* out %ax, (%dx): the signature */
    0x42,				  /* inc %dx */
    0xec,				  /* in (%dx), %al */
    0x3c, 'Q',				  /* cmp $'Q', %al */
    0x75, 36,				  /* jne fail */
    0xb8, 0x00,	  0xff,			  /* mov $0xff00, %ax: the ROM below 1 MiB */
    0x8e, 0xd8,				  /* mov %ax, %ds */
    0x80, 0x3e,	  0x00, 0x08, 0x5a,	  /* cmpb $0x5a, MARK */
    0x75, 24,				  /* jne fail */
    0xc6, 0x06,	  0x00, 0x08, 0x07,	  /* movb $7, MARK */
    0x80, 0x3e,	  0x00, 0x08, 0x07,	  /* cmpb $7, MARK */
    0x75, 12,				  /* jne fail */
    0x2e, 0x80,	  0x3e, 0x00, 0xf8, 0x5a, /* cmpb $0x5a, %cs:0xf000 + MARK: not that one */
    0x75, 4,				  /* jne fail */
    0xb0, PASSED,			  /* mov $PASSED, %al */
    0xe6, 0xf4,				  /* out %al, $0xf4 */
    0xb0, 1,				  /* fail: mov $1, %al */
    0xe6, 0xf4,				  /* out %al, $0xf4 */
    0xf4,				  /* hlt */
};

static const char *make_rom_of(const unsigned char *start, size_t len)
{
	static const unsigned char jump[] = {0xe9, 0x0d, 0xf0}; /* to the ROM's start */
	unsigned char rom[ROM_SIZE] = {[MARK] = 0x5a};
	const char *path = scratch("rom");

	memcpy(rom, start, len);
	memcpy(rom + RESET, jump, sizeof(jump));
	write_file(path, rom, sizeof(rom));
	return path;
}

static const char *make_rom(void)
{
	return make_rom_of(code, sizeof(code));
}

/* By the host kernel as far as it can, and with foal resolving every fault itself. */
START_TEST(reset)
{
	struct run run;
	const char *engine = _i % 2 ? "handler" : "auto";

	run_foal(&run, ARGS("--firmware", make_rom(), "--fault-engine", engine, "--time-limit",
			    GUEST_LIMIT));
	ck_assert_msg(run.status == PASSED, "status %d: %s", run.status, run.err_text);
	run_free(&run);
}
END_TEST

/* As Linux reboots: by the vector below 1 MiB, where the ROM would start over. */
START_TEST(reboot)
{
	static const unsigned char jump[] = {0xea, 0xf0, 0xff, 0x00, 0xf0}; /* ljmp f000:fff0 */
	struct run run;

	run_foal(&run,
		 ARGS("--firmware", make_rom_of(jump, sizeof(jump)), "--time-limit", GUEST_LIMIT));
	expect_end(&run, 111, "the guest reset itself");
	run_free(&run);
}
END_TEST

/* A ROM that jumps nowhere is a guest that crashed, and no more. */
START_TEST(empty_rom)
{
	unsigned char rom[ROM_SIZE];
	struct run run;

	memset(rom, 0xff, sizeof(rom));
	write_file(scratch("rom"), rom, sizeof(rom));
	run_foal(&run, ARGS("--firmware", scratch("rom"), "--time-limit", "2"));
	ck_assert_int_ge(run.status, 105);
	run_free(&run);
}
END_TEST

/* As without firmware: longer than a kernel takes is said, not cut. */
START_TEST(command_line_limit)
{
	static char line[4097];
	struct run run;

	memset(line, 'x', sizeof(line) - 1);
	expect_refusal(
	    ARGS("--firmware", make_rom(), "--kernel", guest_path("exit.elf"), "--append", line),
	    100, "--append: 4096 bytes; this kernel takes at most 4095");
	line[4095] = 0;
	run_foal(&run, ARGS("--firmware", make_rom(), "--kernel", guest_path("exit.elf"),
			    "--append", line, "--time-limit", GUEST_LIMIT));
	ck_assert_msg(run.status == PASSED || strstr(run.err_text, "qemu-system-data"),
		      "status %d: %s", run.status, run.err_text);
	run_free(&run);
}
END_TEST

Suite *firmware_suite(void)
{
	Suite *suite = suite_create("firmware");
	TCase *tc = tcase_create("firmware");

	tcase_set_timeout(tc, TEST_LIMIT);
	tcase_add_loop_test(tc, reset, 0, 2);
	tcase_add_test(tc, reboot);
	tcase_add_test(tc, empty_rom);
	tcase_add_test(tc, command_line_limit);
	suite_add_tcase(suite, tc);
	return suite;
}
