# What of vmm/ is made when foal is built: the seccomp filters, and the version.

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

# Looked at by every make, written only if it says something else: nothing is linked for nothing.
VERSION = $(shell git describe --always --dirty 2>/dev/null || echo "unknown, built outside git")

$(OUT)/vmm/version.c: FORCE
	@mkdir -p $(@D)
	@text='extern const char foal_version[]; const char foal_version[] = "$(VERSION)";'; \
	echo "$$text" | cmp -s - $@ || { $(if $(V),:,printf '  %-5s %s\n' GEN $@); echo "$$text" >$@; }

$(OUT)/vmm/version.o: $(OUT)/vmm/version.c
	$(call compile,$(CPPFLAGS) $(CFLAGS))

$(OUT)/libvmm.a: $(OUT)/vmm/version.o

.PHONY: FORCE
FORCE:
