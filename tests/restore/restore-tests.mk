# State of vCPUs and devices out of one VM and into another, in one process.
RESTORE_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/restore/*.c))

$(OUT)/tests/test_restore: $(RESTORE_TEST_OBJS) $(CHECK_OBJS) $(LIBS) | $(GUEST_KERNEL) $(GUEST_DISK) \
		$(KVM_GUESTS)
	$(call link,$(LDFLAGS) $(STATIC),$(CHECK_LIBS) -ljansson $(DEVICES_LIBS) $(EPT_LIBS))

KVM_TEST_PROGRAMS += $(OUT)/tests/test_restore
NESTED_TESTS      += $(OUT)/tests/test_restore
# On the older kernel a vCPU's parts; lives are long, and the same.
PARTS_6.1_test_restore := vcpu refused
NESTED_FILES      += $(GUEST_KERNEL) $(GUEST_DISK)
