# foal. In this file and those it includes, a line of this form is a line of `make help`:
#
# make all           build/foal, its helper, the guest kernel and its images: also without a word
# make help          these lines
# make run           install what is missing, build, boot the main job, print its table
# make clean         remove build/
#
# SAN=address or SAN=thread builds the host side under build/san-$(SAN) with that
# sanitizer; V=1 shows whole commands.

SAN   ?=
# Sanitizers open files and make system calls that a run does not.
SANDBOX := $(if $(SAN),false,true)
BUILD := build
OUT   := $(if $(SAN),$(BUILD)/san-$(SAN),$(BUILD))

Q    := $(if $(V),,@)
said  = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))

# The recipes of every room: $(call compile,FLAGS), $(call link,FLAGS,LIBRARIES).
define compile
@mkdir -p $(@D)
$(call said,CC,$<)
$(Q)$(CC) $(1) -MMD -MP -c -o $@ $<
endef
define link
@mkdir -p $(@D)
$(call said,LINK,$@)
$(Q)$(CC) $(1) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(2)
endef
define archive
$(call said,AR,$@)
$(Q)rm -f $@ && $(AR) rcs $@ $^
endef

CC       := gcc
AR       := ar
CPPFLAGS := -D_GNU_SOURCE -I. -DFOAL_SANDBOX_DEFAULT=$(SANDBOX)
WARN     := -Wall -Wextra -Wshadow -Werror -Wmissing-prototypes -Wstrict-prototypes -Wvla
CFLAGS   := -std=gnu17 -O2 -g $(WARN) -fno-strict-aliasing -pthread
LDFLAGS  := -pthread
# A static program needs 0.5 ms for exec, a dynamic one several (docs/dependencies.md).
STATIC   := -static
# Always the archive: Debian 12's shared library lacks functions of its own header.
URING    := -l:liburing.a
ifeq ($(SAN),address)
CFLAGS  += -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
STATIC  :=
endif
ifeq ($(SAN),thread)
CFLAGS  += -fsanitize=thread -fno-omit-frame-pointer
LDFLAGS += -fsanitize=thread
STATIC  :=
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
# Nothing that was built is deleted as an intermediate file.
.SECONDARY:

ifeq ($(SAN),coverage)
CFLAGS  += --coverage
LDFLAGS += --coverage
STATIC  :=
endif

ROOMS := ept devices vmm
objs   = $(patsubst %.c,$(OUT)/%.o,$(wildcard $(1)/*.c))

# --- the three host rooms: one archive each, linked in this order -----------
LIBS := $(OUT)/libvmm.a $(OUT)/libdevices.a $(OUT)/libept.a
$(OUT)/libept.a:     $(call objs,ept)
$(OUT)/libdevices.a: $(call objs,devices)
$(OUT)/libvmm.a:     $(filter-out %/main.o,$(call objs,vmm))
$(LIBS):
	$(archive)

# What ept/ wants behind it.
EPT_LIBS := -llz4 -lzstd -lxxhash $(URING)
# What devices/ wants.
DEVICES_LIBS := -lxxhash

# What vmm/ wants.
VMM_LIBS := -ljansson -lncurses -ltinfo

$(OUT)/foal: $(OUT)/vmm/main.o $(LIBS)
	$(call link,$(LDFLAGS) $(STATIC),$(VMM_LIBS) $(DEVICES_LIBS) $(EPT_LIBS))

# Serves disks from NBD servers: a program of its own for libnbd's shared libraries.
$(OUT)/foal-nbd: $(OUT)/devices/nbd/foal_nbd.o
	$(call link,$(LDFLAGS),-lnbd)

$(OUT)/%.o: %.c
	$(call compile,$(CPPFLAGS) $(CFLAGS))

-include $(wildcard $(OUT)/*/*.d $(OUT)/*/*/*.d)

# Called only where the processor has it.
$(OUT)/ept/checksum_avx2.o: ept/checksum_avx2.c
	$(call compile,$(CPPFLAGS) $(CFLAGS) -O3 -mavx2)

include vmm/acpi/acpi.mk
include vmm/vmm.mk
include guest/guest.mk
include tests/tests.mk
include scripts/scripts.mk

.PHONY: all clean help
all: $(OUT)/foal $(OUT)/foal-nbd $(GUEST_KERNEL) $(GUEST_DISK) $(GUEST_PMEM)

clean:
	rm -rf $(BUILD)

help:
	@sed -n 's/^# \(make [a-z-]*  \)/\1/p' $(filter Makefile %.mk,$(MAKEFILE_LIST))
