# make setup         install what building, checking and testing needs
# make check         what can be said of the sources without running them; parts: check-docs, ...
# make test-nested   run NESTED_TESTS on the emulated AMD host, once a kernel
# make test-vmx      run VMX_TESTS on the emulated Intel host
#
# tests/*/*-tests.mk add to NESTED_TESTS (programs) and NESTED_FILES (what they
# read, such as build/foal and images); both keep their names over there. Of a program
# with PARTS_name these suites are run, with PARTS_6.12_name or PARTS_6.1_name on that
# kernel these alone: on 6.12 what needs nested paging, or a guest whose ring 0 is not
# emulated, on 6.1 what foal does without MOVE, POISON, CONTINUE_MODE_WP, PAGEMAP_SCAN and
# KVM_CAP_MEMORY_FAULT_INFO. Those in NOT_6.12 or NOT_6.1 are not run on that kernel.
# NESTED_ALL=1, where this machine's KVM runs none of them, and SOAK=1 run all on
# both.

NESTED_KERNELS ?= 6.12 6.1
# Seconds for each program.
NESTED_LIMIT   ?= 1800

SOURCE_DIRS  := $(wildcard vmm ept devices guest tests)
HOST_SOURCES := $(foreach room,$(ROOMS),$(wildcard $(room)/*.c))
TIDY_CONFIGS := $(wildcard .clang-tidy */.clang-tidy guest/user/.clang-tidy)
CHECK_HEADERS := $(wildcard $(SOURCE_DIRS:%=%/*.h) tests/*/*.h guest/*/*.h guest/user/*/*.h)
TEST_SOURCES := $(wildcard tests/*.c tests/*/*.c)
GUEST_SOURCES := $(wildcard guest/*/*.c guest/user/*/*.c vmm/bench_guest/*.c)
SCRIPTS      := $(shell grep -rlE '^\#!.*sh$$' scripts tests .ci 2>/dev/null) $(wildcard scripts/lib/*.sh)

# --- make check: each part also stands alone -------------------------------
.PHONY: check check-format check-tidy check-cppcheck check-layering check-docs check-scripts
check: all check-format check-layering check-docs check-scripts check-cppcheck check-tidy
	@echo "check: all clean"

# The build itself is a part: its warnings are errors.

check-format:
	find $(SOURCE_DIRS) -name '*.[ch]' -print0 | xargs -0r clang-format --dry-run -Werror

check-layering:
	scripts/check-layering --self-test
	scripts/check-layering

check-docs:
	scripts/check-docs --self-test
	scripts/check-docs

check-scripts:
	shellcheck -x $(SCRIPTS)

# C11 is as far as this version goes. Suppressions stand in the code, next to what they excuse.
check-cppcheck: $(HOST_SOURCES) $(TEST_SOURCES)
	@mkdir -p $(BUILD)/check/cppcheck
	cppcheck -q -j2 --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --error-exitcode=1 \
		--cppcheck-build-dir=$(BUILD)/check/cppcheck -D_GNU_SOURCE -D__x86_64__ -I. $^

# A stamp a file, so that only what changed is analysed again. Other flags than the build's for
# guest/: clang knows none of the rest, and nothing is generated.
check-tidy: $(patsubst %.c,$(BUILD)/check/%.tidy,$(HOST_SOURCES) $(TEST_SOURCES) $(GUEST_SOURCES))

TIDY_FLAGS = -std=gnu17 $(CPPFLAGS)
$(BUILD)/check/guest/%.tidy $(BUILD)/check/vmm/bench_guest/%.tidy: TIDY_FLAGS = -std=gnu17 -I. -ffreestanding

$(BUILD)/check/%.tidy: %.c $(CHECK_HEADERS) $(TIDY_CONFIGS)
	@mkdir -p $(@D)
	$(call said,TIDY,$<)
	$(Q)clang-tidy --quiet $< -- $(TIDY_FLAGS) >$@.log 2>&1 || { cat $@.log; exit 1; }
	@touch $@

# --- set-up, and the emulated host ------------------------------------------
.PHONY: setup test-nested nested-ready
setup:
	scripts/setup

# Each part is a program of its own there: what a host that dies has finished is not repeated.
parts_of    = $(if $(strip $(2)),$(foreach part,$(2),"$(1) $(part)"),$(1))
nested_tests = $(filter-out $(if $(SOAK)$(NESTED_ALL),,$(NOT_$(1))),$(NESTED_TESTS))
nested_runs = $(foreach test,$(nested_tests),$(call parts_of,$(test),$(or \
	$(if $(SOAK)$(NESTED_ALL),,$(PARTS_$(1)_$(notdir $(test)))),$(PARTS_$(notdir $(test))))))
# $(call on_host,KERNEL,PROGRAMS): or nothing, if there are none.
on_host     = $(if $(strip $(2)),scripts/test-nested --limit $(NESTED_LIMIT) --kernel $(1) \
		$(addprefix --file ,$(NESTED_FILES)) $(2) || failed=1;)

# All that the emulated hosts run and run on: what starts two of them makes it first,
# as two makes at once would make the same files.
nested-ready: $(NESTED_TESTS) $(NESTED_FILES)
	$(Q)$(foreach kernel,$(NESTED_KERNELS),scripts/nested-svm --kernel $(kernel) --fetch &&) true

test-nested: $(NESTED_TESTS) $(NESTED_FILES)
	@failed=0; $(foreach kernel,$(NESTED_KERNELS), \
		$(call on_host,$(kernel),$(call nested_runs,$(kernel)))) \
	exit $$failed

# Bochs is slow: what differs between the two, or could. What is left out halts a
# processor with interrupts off, needs more memory, or takes long (docs/hosts.md).
VMX_SUITES ?= cases files doctor
VMX_TESTS  ?= $(OUT)/tests/kvm_probe $(OUT)/tests/test_host \
	$(foreach suite,$(VMX_SUITES),"$(OUT)/tests/test_kvm $(suite)") \
	tests/nested/boot-linux

.PHONY: test-vmx
test-vmx: $(NESTED_TESTS) $(NESTED_FILES) $(LINUX_IMAGES)
	scripts/test-nested --host vmx --limit $(NESTED_LIMIT) \
		$(addprefix --file ,$(sort $(NESTED_FILES) $(LINUX_DIR)/vmlinuz $(LINUX_DIR)/initrd.gz)) \
		$(VMX_TESTS)
