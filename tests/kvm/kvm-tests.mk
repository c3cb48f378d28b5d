# Tests that run build/foal on /dev/kvm: one program, and the guests it boots.
KVM_GUEST_DIR  := $(OUT)/tests/guests
KVM_GUESTS     := $(patsubst tests/kvm/guests/%.c,$(KVM_GUEST_DIR)/%.elf,$(wildcard tests/kvm/guests/*.c))
KVM_GUEST_LIB  := $(patsubst tests/kvm/guests/lib/%,$(KVM_GUEST_DIR)/lib/%.o,$(wildcard tests/kvm/guests/lib/*.[cS]))
KVM_TEST_OBJS  := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/kvm/*.c))
KVM_GUEST_LDS  := tests/kvm/guests/lib/guest.lds
# As the guest kernel: a host may emulate ring 0, and has no vector registers there.
KVM_GUEST_FLAGS := -std=gnu17 -O2 -g0 $(WARN) -I. -ffreestanding -march=x86-64 -mgeneral-regs-only \
	-mno-red-zone -fno-pic -fno-pie -fno-stack-protector -fcf-protection=none \
	-fno-asynchronous-unwind-tables -fno-strict-aliasing -fno-tree-loop-distribute-patterns

$(KVM_GUEST_DIR)/lib/%.o: tests/kvm/guests/lib/%
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) $(KVM_GUEST_FLAGS) -MMD -MP -c -o $@ $<

$(KVM_GUEST_DIR)/%.o: tests/kvm/guests/%.c
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) $(KVM_GUEST_FLAGS) -MMD -MP -c -o $@ $<

$(KVM_GUEST_DIR)/%.elf: $(KVM_GUEST_DIR)/%.o $(KVM_GUEST_LIB) $(KVM_GUEST_LDS)
	$(call said,LINK,$@)
	$(Q)$(CC) -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
		-Wl,-z,noexecstack -T $(KVM_GUEST_LDS) -o $@ $(filter %.o,$^)

# Static, so that it runs as it is on the emulated host. The guests are no
# prerequisite of the link, but of whoever runs it.
$(OUT)/tests/test_kvm: $(KVM_TEST_OBJS) | $(KVM_GUESTS)
	$(call said,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $(STATIC) -o $@ $(KVM_TEST_OBJS) -lcheck -lsubunit -lrt -lm -ljansson -lutil

.SECONDARY: $(KVM_GUESTS:.elf=.o)
-include $(KVM_GUESTS:.elf=.d) $(KVM_GUEST_LIB:.o=.d)

KVM_TEST_PROGRAMS += $(OUT)/tests/test_kvm
NESTED_TESTS      += $(OUT)/tests/test_kvm
NESTED_FILES      += $(OUT)/foal $(KVM_GUESTS)
