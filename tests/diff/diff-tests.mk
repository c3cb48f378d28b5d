# The same program on this machine's kernel and on the guest's:
# make test-swap     the guest with more memory in use than it has: 160 MiB of 64, and of 32
# make test-diff     SEEDS=20 random sequences of memory operations, OPERATIONS=500 each
SEEDS      ?= 20
OPERATIONS ?= 500

# With musl's libc: a program as people build them for Linux, unchanged.
$(BUILD)/tests/diff/%: tests/diff/%.c
	@mkdir -p $(@D)
	$(call said,MUSL,$@)
	$(Q)musl-gcc -static -std=gnu17 -O2 -g $(WARN) -D_GNU_SOURCE -I. -MMD -MP -o $@ $(filter %.c,$^)

$(BUILD)/tests/diff/hostile: tests/diff/hostile_calls.c
$(BUILD)/tests/diff/oracle: $(wildcard tests/diff/oracle_*.c)
$(BUILD)/tests/diff/sequence: tests/diff/sequence_look.c

# What the tests on /dev/kvm run of them, where they can be built.
KVM_DIFF := $(if $(shell command -v musl-gcc),$(addprefix $(BUILD)/tests/diff/,cputimers events hostile frames liars \
	oracle posix_timers queued self sequence threads timers touches))

-include $(wildcard $(BUILD)/tests/diff/*.d)

# make guest-shell   the guest kernel runs busybox's shell here
.PHONY: guest-shell
guest-shell: all
	scripts/guest-shell

.PHONY: test-diff
test-diff: all $(BUILD)/tests/diff/sequence
	scripts/test-diff --seeds $(SEEDS) --operations $(OPERATIONS)

.PHONY: test-swap
test-swap: all
	scripts/test-swap
