# The ACPI tables that are written in ASL, compiled with iasl (acpica-tools) to C
# arrays: NAME.hex, and for what is filled in at run time NAME.offset.h. -we
# makes a warning an error.
ACPI_TABLES := $(patsubst vmm/acpi/%.asl,$(BUILD)/acpi/%.hex,$(wildcard vmm/acpi/*.asl))

$(BUILD)/acpi/%.hex: vmm/acpi/%.asl guest/abi.h
	@mkdir -p $(@D)
	$(call said,IASL,$<)
	$(Q)iasl -vs -we -tc -so -I . -p $(basename $@) $< >$(basename $@).log || \
		{ cat $(basename $@).log; exit 1; }

# They are found as "acpi/NAME.hex".
$(foreach t,acpi acpi_dsdt,$(OUT)/vmm/$t.o $(BUILD)/check/vmm/$t.tidy): $(ACPI_TABLES)
CPPFLAGS += -I$(BUILD)
