# make setup         install what building, checking and testing needs
# make check         what can be said of the sources without running them
# make test-nested   run NESTED_TESTS on the emulated AMD host, once a kernel
#
# tests/*/*-tests.mk add to NESTED_TESTS (programs) and NESTED_FILES (what they
# read, such as build/foal and images); both keep their names over there.

NESTED_KERNELS ?= 6.12 6.1
# Seconds for each program.
NESTED_LIMIT   ?= 120

SOURCE_DIRS  := $(wildcard vmm ept devices guest tests)
HOST_SOURCES := $(foreach room,$(ROOMS),$(wildcard $(room)/*.c))
HOST_HEADERS := $(foreach room,$(ROOMS),$(wildcard $(room)/*.h)) guest/abi.h
SCRIPTS      := $(shell grep -rlE '^\#!.*sh$$' scripts .ci 2>/dev/null) $(wildcard scripts/lib/*.sh)

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
check-cppcheck: $(HOST_SOURCES)
	@mkdir -p $(BUILD)/check/cppcheck
	cppcheck -q -j2 --std=c11 --enable=warning,performance,portability --inline-suppr \
		--suppress=missingIncludeSystem --error-exitcode=1 \
		--cppcheck-build-dir=$(BUILD)/check/cppcheck -D_GNU_SOURCE -D__x86_64__ -I. $^

# A stamp a file, so that only what changed is analysed again.
check-tidy: $(HOST_SOURCES:%.c=$(BUILD)/check/%.tidy)

$(BUILD)/check/%.tidy: %.c $(HOST_HEADERS) .clang-tidy
	@mkdir -p $(@D)
	clang-tidy --quiet $< -- -std=gnu17 $(CPPFLAGS) 2>$@.log || { cat $@.log; exit 1; }
	@touch $@

# --- set-up, and the emulated host ------------------------------------------
.PHONY: setup test-nested
setup:
	scripts/setup

test-nested: $(NESTED_TESTS) $(NESTED_FILES)
	scripts/test-nested --limit $(NESTED_LIMIT) $(addprefix --kernel ,$(NESTED_KERNELS)) \
		$(addprefix --file ,$(NESTED_FILES)) $(NESTED_TESTS)
