# make test          everything that fits a submission; ends with one line of sums
# make soak          the same for hours: all suites on both kernels, fuzzing for ten minutes each
# make test-quick    the unit tests and the tests on /dev/kvm alone
# make test-san      with SAN=address or SAN=thread: the unit tests under that sanitizer
# make fuzz          the fuzz targets: fuzz-devices, -state, -image, -control, -trace; FUZZ_SECONDS=60 each
# make bench         start-up, main job, faults, restores, exits beside the plain alternative
# make bench-boot    a stock Linux guest beside QEMU's, on the emulated AMD host
#
# tests/*/*-tests.mk add to:
TEST_PROGRAMS     := # unit tests: need nothing of the host
KVM_TEST_PROGRAMS := # need /dev/kvm, the guest and its images
NESTED_TESTS      := # run on the emulated host by make test-nested
NESTED_FILES      := # what those read
# Check, and what its static archive wants.
CHECK_LIBS        := -lcheck -lsubunit -lrt -lm
# What each of the programs is made of, besides its own.
CHECK_OBJS        := $(addprefix $(OUT)/tests/,run_suites.o scratch.o emulated_host.o)
include $(wildcard tests/*/*-tests.mk)

BENCH := $(OUT)/tests/bench/bench
BARE  := $(OUT)/tests/bench/bare_kvm

$(BENCH): $(addprefix $(OUT)/,tests/bench/bench.o tests/bench/series.o vmm/series.o)
	$(call link,$(LDFLAGS),-ljansson)

FAULT_LOG := $(OUT)/tests/bench/fault_log
$(FAULT_LOG): $(addprefix $(OUT)/,tests/bench/fault_log.o tests/bench/series.o vmm/series.o libept.a)
	$(call link,$(LDFLAGS),-ljansson)

$(BARE): $(addprefix $(OUT)/tests/bench/,bare_kvm.o bare_clones.o)
	$(call link,$(LDFLAGS) $(STATIC))

# Static, so that it runs as it is on the emulated host.
BENCH_BOOT := $(OUT)/tests/bench/bench_boot
$(BENCH_BOOT): $(addprefix $(OUT)/tests/bench/,bench_boot.o boot_memory.o series.o) \
		$(OUT)/vmm/series.o
	$(call link,$(LDFLAGS) $(STATIC),-ljansson)

.PHONY: test soak test-all test-quick test-san fuzz bench bench-boot run

# Two steps: what setup installs has to be there before this file's rules look for it.
test:
	@scripts/setup
	@$(MAKE) --no-print-directory -j2 all $(TEST_PROGRAMS) $(KVM_TEST_PROGRAMS)
	@$(MAKE) --no-print-directory test-all

soak: export SOAK := 1
soak: export TEST_MINUTES := 240
soak: export NESTED_LIMIT := 7200
soak: export FUZZ_SECONDS := 600
soak: export FOAL_SNAPSHOT_ROUNDS := 100
soak: export FOAL_SNAPSHOT_KILLS := 200
soak: export FOAL_FORK_KILLS := 200
soak: export FOAL_CHAIN_FLIPS := 100000
soak: export FOAL_TOUCHES := 10000
soak: test

test-all: $(TEST_PROGRAMS) $(KVM_TEST_PROGRAMS)
	scripts/run-tests "$(TEST_PROGRAMS)" "$(KVM_TEST_PROGRAMS)"

test-quick: all $(TEST_PROGRAMS) $(KVM_TEST_PROGRAMS)
	scripts/run-tests --quick "$(TEST_PROGRAMS)" "$(KVM_TEST_PROGRAMS)"

# foal ends with 1 where a bar does not hold: the rows say which.
bench: all $(BENCH) $(BARE) $(FAULT_LOG) $(OUT)/tests/guests/exit.elf
	$(OUT)/foal bench faults --detail --json=$(BUILD)/bench-faults.json || [ $$? -eq 1 ]
	$(OUT)/foal bench exits --json=$(BUILD)/bench-exits.json
	$(OUT)/foal bench snapshots --bare $(BARE) --json=$(BUILD)/bench-snapshots.json || [ $$? -eq 1 ]
	$(OUT)/foal bench replay --json=$(BUILD)/bench-replay.json || [ $$? -eq 1 ]
	$(FAULT_LOG) $(BUILD)/bench-fault-log.json
	$(BENCH) $(OUT)/foal $(BARE) $(OUT)/tests/guests/exit.elf $(GUEST_KERNEL) $(GUEST_DISK) \
		$(GUEST_PMEM) $(BUILD)/bench-faults.json $(BUILD)/bench-snapshots.json \
		$(BUILD)/bench-exits.json $(BUILD)/bench-fault-log.json $(BUILD)/bench-replay.json \
		$(BUILD)/bench.json

bench-boot: $(OUT)/foal $(BENCH_BOOT) $(LINUX_IMAGES)
	scripts/bench-boot $(BUILD)/bench-boot.json

# The main job: the guest reads files through a disk and through pmem.
run:
	@scripts/setup build
	@$(MAKE) --no-print-directory -j2 all
	@scripts/run-main-job

# Called with SAN set: the unit tests as SAN builds them, in the form that scripts/lib/tally.awk
# counts.
test-san: $(TEST_PROGRAMS)
	@failed=0; for program in $^; do \
		name=$(SAN)/$${program##*/} status=0; \
		echo "== $$name"; \
		$$program || status=$$?; \
		printf '\n== %s: status %d\n' "$$name" "$$status"; \
		[ $$status -eq 0 ] || [ $$status -eq 77 ] || failed=1; \
	done; exit $$failed

fuzz: fuzz-devices fuzz-state fuzz-image fuzz-control fuzz-trace
