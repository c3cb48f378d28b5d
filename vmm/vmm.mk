# What of vmm/ is made when foal is built: the seccomp filters.

FILTERS := $(OUT)/vmm/filters

# It runs while building, whatever is built: no sanitizer, no static libraries.
$(FILTERS)/make_filters: vmm/filters/make_filters.c vmm/filters/rules.c \
		vmm/filters/rules.h vmm/filters/filters.h vmm/thread_kinds.h
	@mkdir -p $(@D)
	$(call said,LINK,$@)
	$(Q)$(CC) $(CPPFLAGS) -std=gnu17 -O1 $(WARN) -o $@ $(filter %.c,$^) -lseccomp

$(FILTERS)/filters.c: $(FILTERS)/make_filters
	$(call said,GEN,$@)
	$(Q)$< >$@

$(FILTERS)/filters.o: $(FILTERS)/filters.c
	$(call compile,$(CPPFLAGS) $(CFLAGS))

$(OUT)/libvmm.a: $(FILTERS)/filters.o
