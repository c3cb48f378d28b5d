# The guest kernel and its disk images. Freestanding, baseline x86-64, no vector registers: a
# host may have to emulate ring 0, and the kernel leaves the user programs' registers alone.

GUEST_KERNEL := $(BUILD)/guest/kernel.elf
GUEST_DISK   := $(BUILD)/guest/disk.img
GUEST_PMEM   := $(BUILD)/guest/pmem.img

# What the kernel and its programs are built with.
FREESTANDING := -std=gnu17 -O2 -g $(WARN) -I. -ffreestanding -march=x86-64 -fno-pic -fno-pie \
	-fno-stack-protector -fno-strict-aliasing -fno-asynchronous-unwind-tables \
	-fno-tree-loop-distribute-patterns -fcf-protection=none
# max-page-size: segments at their pages, so that faults bring in the file's own pages.
FREESTANDING_LD := -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
	-Wl,-z,noexecstack

GUEST_CFLAGS := $(FREESTANDING) -nostdinc -isystem $(shell $(CC) -print-file-name=include) \
	-mgeneral-regs-only -mno-red-zone -mcmodel=kernel -fno-omit-frame-pointer

GUEST_ROOMS := boot arch mm kernel drivers fs
GUEST_SRCS  := $(foreach r,$(GUEST_ROOMS),$(wildcard guest/$(r)/*.c guest/$(r)/*.S))
GUEST_OBJS  := $(patsubst guest/%,$(BUILD)/guest/obj/%.o,$(GUEST_SRCS))

$(BUILD)/guest/obj/%.o: guest/%
	$(call compile,$(GUEST_CFLAGS))

$(GUEST_KERNEL): $(GUEST_OBJS) guest/kernel.lds
	$(call link,$(FREESTANDING_LD) -T guest/kernel.lds)

-include $(GUEST_OBJS:.o=.d)
include guest/user/user.mk
include guest/image/image.mk
