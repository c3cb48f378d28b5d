# What the emulated host itself must offer; run there by `make test-nested`.
NESTED_TESTS += $(OUT)/tests/kvm_probe $(OUT)/tests/test_host

$(OUT)/tests/kvm_probe: $(OUT)/tests/nested/kvm_probe.o
	$(call said,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $(STATIC) -o $@ $^

$(OUT)/tests/test_host: $(OUT)/tests/nested/test_host.o
	$(call said,LINK,$@)
	$(Q)$(CC) $(LDFLAGS) $(STATIC) -o $@ $^ $(shell pkg-config --static --libs check)
