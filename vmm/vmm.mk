# make report-page   the page that foal report fills, with its charting library from npm's registry
#
# What of vmm/ is made when foal is built: the seccomp filters, the version, and the
# guest of `foal bench`. And what is made when it is asked for: the page.

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

# --- the page of foal report ------------------------------------------------
# Not a part of `all`: that needs no network, and no Node.js.
REPORT_PAGE    := $(OUT)/foal-report.html
REPORT_SOURCES := $(wildcard vmm/report/*.* vmm/report/src/*.js)

# $(call npm_ci,DIRECTORY,FOR): what the lock file beside the first prerequisite names.
define npm_ci
@mkdir -p $(1)
$(call said,NPM,$(1))
$(Q)cp $(<D)/package.json $(<D)/package-lock.json $(<D)/.npmrc $(1)
$(Q)cd $(1) && npm ci --loglevel=error >npm.log 2>&1 || \
	{ cat npm.log; echo "$(2) needs packages from npm's registry, which did not come" >&2; exit 1; }
@touch $@
endef

$(BUILD)/report/node_modules/.package-lock.json: vmm/report/package-lock.json vmm/report/package.json
	$(call npm_ci,$(BUILD)/report,make report-page)

$(REPORT_PAGE): $(BUILD)/report/node_modules/.package-lock.json $(REPORT_SOURCES)
	@mkdir -p $(@D)
	$(call said,PAGE,$@)
	$(Q)node vmm/report/build.mjs $(BUILD)/report/node_modules $@

.PHONY: report-page
report-page:
	@scripts/setup report
	@$(MAKE) --no-print-directory $(REPORT_PAGE)
