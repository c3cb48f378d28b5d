# The guest's filesystem, its drivers and its programs' checksum, compiled for
# the build machine against a fake kernel: tests/test_guest_fs.

GUEST_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/guest/*.c)) \
	$(patsubst %.c,$(OUT)/tests/%.o,$(wildcard guest/fs/*.c guest/drivers/*.c)) \
	$(OUT)/tests/guest/user/lib/sha256.o

# An address that user space has, for the memory that the kernel reaches directly.
$(GUEST_TEST_OBJS): CPPFLAGS += -DDIRECT_MAP_BASE=0x200000000000UL

# Device registers are a model's, and interrupts cannot be switched off.
$(OUT)/tests/guest/drivers/%.o: CPPFLAGS += -include tests/guest/host_io.h

$(OUT)/tests/guest/%.o: guest/%.c
	$(call compile,$(CPPFLAGS) $(CFLAGS))

$(OUT)/tests/test_guest_fs: $(GUEST_TEST_OBJS) $(CHECK_OBJS)
	$(call link,$(LDFLAGS),$(CHECK_LIBS))

-include $(wildcard $(OUT)/tests/guest/*/*.d $(OUT)/tests/guest/*/*/*.d)

# One thread, and fences that the thread sanitizer does not know.
ifneq ($(SAN),thread)
TEST_PROGRAMS += $(OUT)/tests/test_guest_fs
endif
