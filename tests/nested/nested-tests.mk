# What the emulated host itself must offer; run there by `make test-nested`.
NESTED_TESTS += $(OUT)/tests/kvm_probe $(OUT)/tests/test_host

$(OUT)/tests/kvm_probe: $(OUT)/tests/nested/kvm_probe.o
	$(call link,$(LDFLAGS) $(STATIC))

$(OUT)/tests/test_host: $(OUT)/tests/nested/test_host.o $(CHECK_OBJS)
	$(call link,$(LDFLAGS) $(STATIC),$(CHECK_LIBS))
