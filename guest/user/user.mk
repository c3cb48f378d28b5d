# The guest's user programs: one guest/user/NAME.c each, linked statically with
# the small runtime in guest/user/lib. They follow Linux's ABI and run there too.

USER_OUT   := $(BUILD)/guest/user
USER_NAMES := $(sort $(basename $(notdir $(wildcard guest/user/*.c))))
USER_PROGS := $(addprefix $(USER_OUT)/,$(USER_NAMES))
USER_CRT   := $(USER_OUT)/lib/crt0.o
USER_LIB   := $(USER_OUT)/libuser.a

# Baseline x86-64: what the guest's kernel saves at a switch (fxsave) covers it.
USER_CFLAGS := -std=gnu17 -O2 -g $(WARN) -I. -march=x86-64 -ffreestanding -fno-pie \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -fno-tree-loop-distribute-patterns
# max-page-size: segments at their pages, so that faults bring in the file's own pages.
USER_LDFLAGS := -nostdlib -static -no-pie -Wl,-z,max-page-size=4096 -Wl,--build-id=none \
	-Wl,-z,noexecstack

$(USER_OUT)/%.o: guest/user/%.c
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) $(USER_CFLAGS) -MMD -MP -c -o $@ $<

$(USER_OUT)/%.o: guest/user/%.S
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) -I. -c -o $@ $<

$(USER_LIB): $(patsubst guest/user/%.c,$(USER_OUT)/%.o,$(wildcard guest/user/lib/*.c))
	@rm -f $@ && $(AR) rcs $@ $^

$(USER_PROGS): $(USER_OUT)/%: $(USER_CRT) $(USER_OUT)/%.o $(USER_LIB)
	$(call said,LINK,$@)
	$(Q)$(CC) $(USER_LDFLAGS) -o $@ $^

-include $(wildcard $(USER_OUT)/*.d $(USER_OUT)/lib/*.d)
