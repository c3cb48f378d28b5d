# The guest kernel and its disk images. Freestanding, baseline x86-64, no vector registers: a
# host may have to emulate ring 0, and the kernel leaves the user programs' registers alone.

GUEST_KERNEL := $(BUILD)/guest/kernel.elf
GUEST_DISK   := $(BUILD)/guest/disk.img

GUEST_CFLAGS := -std=gnu17 -O2 -g $(WARN) -I. -ffreestanding -nostdinc \
	-isystem $(shell $(CC) -print-file-name=include) \
	-march=x86-64 -mgeneral-regs-only -mno-red-zone -mcmodel=kernel \
	-fno-pic -fno-pie -fno-stack-protector -fno-strict-aliasing -fno-omit-frame-pointer \
	-fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns -fcf-protection=none

GUEST_ROOMS := boot arch mm kernel drivers fs
GUEST_SRCS  := $(foreach r,$(GUEST_ROOMS),$(wildcard guest/$(r)/*.c guest/$(r)/*.S))
GUEST_OBJS  := $(patsubst guest/%,$(BUILD)/guest/obj/%.o,$(GUEST_SRCS))

$(BUILD)/guest/obj/%.c.o: guest/%.c
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/guest/obj/%.S.o: guest/%.S
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) $(GUEST_CFLAGS) -MMD -MP -c -o $@ $<

$(GUEST_KERNEL): $(GUEST_OBJS) guest/kernel.lds
	$(call said,LINK,$@)
	$(Q)$(CC) -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 \
		-Wl,-z,noexecstack -T guest/kernel.lds -o $@ $(GUEST_OBJS)

-include $(GUEST_OBJS:.o=.d)
-include guest/user/user.mk
-include guest/image/image.mk
