# ept/: the unit tests against a fake installer, and the same room on the real
# userfaultfd with threads touching memory as guests would (skipped without it).

EPT_TEST_OBJS = $(CHECK_OBJS) $(OUT)/tests/ept/util.o $(OUT)/tests/ept/inject.o $(OUT)/tests/ept/stress.o \
		$(OUT)/tests/ept/stress_hold.o $(OUT)/tests/ept/records.o
EPT_UNIT_OBJS = $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/ept/unit_*.c)) \
		$(OUT)/tests/ept/fake_install.o $(OUT)/tests/ept/fake_host.o $(OUT)/tests/ept/fake_uring.o
EPT_UFFD_OBJS = $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/ept/uffd_*.c))

# The fake's symbols come before the archive, so the real installer and io_uring stay out.
$(OUT)/tests/test_ept: $(EPT_UNIT_OBJS) $(EPT_TEST_OBJS) $(OUT)/libept.a
	$(call link,$(LDFLAGS),$(CHECK_LIBS) $(EPT_LIBS))

$(OUT)/tests/test_ept_uffd: $(EPT_UFFD_OBJS) $(EPT_TEST_OBJS) $(OUT)/libept.a
	$(call link,$(LDFLAGS),$(CHECK_LIBS) $(EPT_LIBS))

TEST_PROGRAMS += $(OUT)/tests/test_ept $(OUT)/tests/test_ept_uffd
NESTED_TESTS  += $(OUT)/tests/test_ept_uffd
# No guest, and what userfaultfd lacks before 6.8 is met on 6.1.
NOT_6.12      += $(OUT)/tests/test_ept_uffd
