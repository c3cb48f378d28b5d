# vmm/ as far as it goes without a VM: what it reads, and what it promises in docs/.

VMM_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(filter-out %/fuzz_image.c %/fuzz_control.c %/fuzz_trace.c,$(wildcard tests/vmm/*.c))) $(OUT)/vmm/filters/rules.o
TEST_PROGRAMS += $(OUT)/tests/test_vmm

$(OUT)/tests/test_vmm: $(VMM_TEST_OBJS) $(CHECK_OBJS) $(LIBS)
	$(call link,$(LDFLAGS),$(CHECK_LIBS) $(VMM_LIBS) $(DEVICES_LIBS) $(EPT_LIBS))

# Kernel files from fuzz input, for FUZZ_SECONDS; needs clang's libFuzzer.
FUZZ_IMAGE_SRCS := tests/vmm/fuzz_image.c vmm/image.c vmm/image_elf.c vmm/image_bzimage.c vmm/error.c

$(BUILD)/tests/fuzz_image: $(FUZZ_IMAGE_SRCS) $(wildcard vmm/*.h)
	@mkdir -p $(@D)
	$(call said,LINK,$@)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) -std=gnu17 -O1 -g -Wall -Wextra -fno-strict-aliasing -pthread \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ \
		$(FUZZ_IMAGE_SRCS)

.PHONY: fuzz-image
fuzz-image: $(BUILD)/tests/fuzz_image
	@mkdir -p $(BUILD)/fuzz/image
	cd $(BUILD)/fuzz && ../tests/fuzz_image -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
		-rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 image

# What a client of the control socket sends.
FUZZ_CONTROL_SRCS := tests/vmm/fuzz_control.c vmm/control_conn.c vmm/control_request.c

$(BUILD)/tests/fuzz_control: $(FUZZ_CONTROL_SRCS) $(wildcard vmm/*.h)
	@mkdir -p $(@D)
	$(call said,LINK,$@)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) -std=gnu17 -O1 -g -Wall -Wextra -fno-strict-aliasing -pthread \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ \
		$(FUZZ_CONTROL_SRCS) -ljansson

.PHONY: fuzz-control
fuzz-control: $(BUILD)/tests/fuzz_control
	@mkdir -p $(BUILD)/fuzz/control
	cd $(BUILD)/fuzz && ../tests/fuzz_control -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
		-rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 control

# What foal trace reads, and what it is turned into; trace_file.c is in its own.
FUZZ_TRACE_SRCS := tests/vmm/fuzz_trace.c $(addprefix vmm/,trace_meta.c trace_out.c trace_chrome.c \
		   trace_csv.c trace_summary.c trace_sums.c trace_kvm_csv.c trace_kvm_file.c \
		   trace_rips_csv.c rip_sums.c kvm_sums.c symbols.c run_dir.c error.c) \
		   $(addprefix ept/,ledger.c arena.c record.c)

$(BUILD)/tests/fuzz_trace: $(FUZZ_TRACE_SRCS) vmm/trace_file.c $(wildcard vmm/*.h ept/*.h)
	@mkdir -p $(@D)
	$(call said,LINK,$@)
	$(Q)$(FUZZ_CC) $(CPPFLAGS) -std=gnu17 -O1 -g -Wall -Wextra -fno-strict-aliasing -pthread \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -o $@ \
		$(FUZZ_TRACE_SRCS) -ljansson -lxxhash

.PHONY: fuzz-trace
fuzz-trace: $(BUILD)/tests/fuzz_trace
	@mkdir -p $(BUILD)/fuzz/trace
	cd $(BUILD)/fuzz && ../tests/fuzz_trace -max_total_time=$(FUZZ_SECONDS) -timeout=10 \
		-rss_limit_mb=2048 -max_len=8192 -print_final_stats=1 trace
