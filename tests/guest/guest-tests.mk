# The guest's filesystem and its programs' checksum, compiled for the build
# machine against a fake kernel: tests/test_guest_fs.

GUEST_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/guest/*.c)) \
	$(patsubst %.c,$(OUT)/tests/%.o,$(wildcard guest/fs/*.c) guest/user/lib/sha256.c)

# An address that user space has, for the memory that the kernel reaches directly.
$(GUEST_TEST_OBJS): CPPFLAGS += -DDIRECT_MAP_BASE=0x200000000000UL

$(OUT)/tests/guest/%.o: guest/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OUT)/tests/test_guest_fs: $(GUEST_TEST_OBJS)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $^ -lcheck -lsubunit -lrt -lm

-include $(wildcard $(OUT)/tests/guest/*/*.d $(OUT)/tests/guest/*/*/*.d)
