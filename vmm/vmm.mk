# What of vmm/ is made when foal is built: the seccomp filters, the version, and the
# guest of `foal bench`.

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

# That guest is part of foal: an ELF file in its read-only data, at
# bench_guest_start. FREESTANDING: guest/guest.mk.
comma             := ,
BENCH_GUEST       := $(BUILD)/vmm/bench_guest
BENCH_GUEST_FLAGS  = $(FREESTANDING) -g0 -mgeneral-regs-only -mno-red-zone

$(BENCH_GUEST)/start.o: vmm/bench_guest/start.S
	$(call compile,$(BENCH_GUEST_FLAGS))

$(BENCH_GUEST)/touch.o: vmm/bench_guest/touch.c
	$(call compile,$(BENCH_GUEST_FLAGS))

$(BENCH_GUEST)/exits.o: vmm/bench_guest/exits.c
	$(call compile,$(BENCH_GUEST_FLAGS))

$(BENCH_GUEST)/guest.lds: vmm/bench_guest/guest.lds vmm/bench_guest/job.h
	@mkdir -p $(@D)
	$(call said,GEN,$@)
	$(Q)$(CC) -E -P -I. -D__ASSEMBLER__ -x c $< -o $@

$(BENCH_GUEST)/guest.elf: $(BENCH_GUEST)/start.o $(BENCH_GUEST)/touch.o \
		$(BENCH_GUEST)/exits.o $(BENCH_GUEST)/guest.lds
	$(call link,$(FREESTANDING_LD) -Wl$(comma)--no-warn-rwx-segments -T $(BENCH_GUEST)/guest.lds)

$(OUT)/vmm/bench_guest/embedded.o: vmm/bench_guest/embedded.S $(BENCH_GUEST)/guest.elf
	$(call compile,-I$(BUILD))

$(OUT)/libvmm.a: $(OUT)/vmm/bench_guest/embedded.o
-include $(wildcard $(BENCH_GUEST)/*.d)
