# make coverage      which lines of guest/ its tests reach: by file, and in its mm/ which not

# The kernel that counts: gcc's own code, and at the end of a run its data on the console.
COV_DIR   := $(BUILD)/coverage
COV_FLAGS := -fprofile-arcs -ftest-coverage -fprofile-update=single -fprofile-info-section=gcov_info
COV_OBJS  := $(patsubst guest/%,$(COV_DIR)/guest/obj/%.o,$(GUEST_SRCS)) \
	$(COV_DIR)/guest/guest_gcov.o

$(COV_DIR)/guest/obj/%.o: guest/%
	$(call compile,$(GUEST_CFLAGS) $(COV_FLAGS))

$(COV_DIR)/guest/guest_gcov.o: tests/coverage/guest_gcov.c
	$(call compile,$(GUEST_CFLAGS))

$(COV_DIR)/guest/kernel.elf: $(COV_OBJS) guest/kernel.lds
	$(call link,$(FREESTANDING_LD) -T guest/kernel.lds -Xlinker --wrap=machine_exit,-lgcov)

# The other images as they are.
COV_IMAGES := $(addprefix $(COV_DIR)/guest/,disk.img pmem.img user)
$(COV_IMAGES): $(COV_DIR)/guest/%: | $(GUEST_DISK) $(GUEST_PMEM)
	@mkdir -p $(@D)
	$(Q)ln -sf ../../guest/$* $@

-include $(wildcard $(COV_DIR)/guest/*.d $(COV_DIR)/guest/obj/*/*.d)

# With gcov's own way for what of it is built for this machine: SAN=coverage.
COV_UNITS := test_guest_mm test_guest_fs test_guest_pages

.PHONY: coverage
coverage: all $(BUILD)/tests/test_kvm $(COV_DIR)/guest/kernel.elf $(COV_IMAGES)
	$(Q)$(MAKE) --no-print-directory SAN=coverage \
		$(COV_UNITS:%=$(BUILD)/san-coverage/tests/%)
	scripts/coverage "$(COV_UNITS)"
