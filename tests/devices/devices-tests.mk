# The tests of devices/: linked with its archive alone and fake guest memory, so
# that a call into another room fails to link.

# One program each.
FUZZ_TARGETS      := $(addprefix tests/devices/,fuzz_virtio.c fuzz_state.c)
DEVICES_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(filter-out $(FUZZ_TARGETS),$(wildcard tests/devices/*.c)))
TEST_PROGRAMS     += $(OUT)/tests/test_devices

$(OUT)/tests/test_devices: $(DEVICES_TEST_OBJS) $(CHECK_OBJS) $(OUT)/libdevices.a | $(OUT)/foal-nbd
	$(call link,$(LDFLAGS),$(CHECK_LIBS) $(DEVICES_LIBS))

# Registers and rings from fuzz input, for FUZZ_SECONDS; needs clang's libFuzzer.
FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_SRCS    := $(addprefix tests/devices/,fuzz_host.c state_rig.c fake_ept.c) $(wildcard devices/*.c)

$(patsubst tests/devices/%.c,$(BUILD)/tests/%,$(FUZZ_TARGETS)): $(BUILD)/tests/%: \
		tests/devices/%.c $(FUZZ_SRCS) $(wildcard devices/*.h tests/devices/*.h)
	@mkdir -p $(@D)
	$(call said,LINK,$@)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) -std=gnu17 -O1 -g -Wall -Wextra -fno-strict-aliasing -pthread \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ \
		$< $(FUZZ_SRCS) $(DEVICES_LIBS)

.PHONY: fuzz-devices
fuzz-devices: $(BUILD)/tests/fuzz_virtio
	@mkdir -p $(BUILD)/fuzz/virtio
	cd $(BUILD)/fuzz && ../tests/fuzz_virtio -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
		-rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 virtio

# Bytes of state, with a checksum that is right.
.PHONY: fuzz-state
fuzz-state: $(BUILD)/tests/fuzz_state
	@mkdir -p $(BUILD)/fuzz/state
	cd $(BUILD)/fuzz && ../tests/fuzz_state -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
		-rss_limit_mb=2048 -max_len=4096 -print_final_stats=1 state
