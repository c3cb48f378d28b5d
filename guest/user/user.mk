# The guest's user programs: one guest/user/NAME.c each, with guest/user/NAME/*.c
# if there are any, linked statically with the small runtime in guest/user/lib.
# They follow Linux's ABI and run there too.

USER_OUT   := $(BUILD)/guest/user
USER_NAMES := $(sort $(basename $(notdir $(wildcard guest/user/*.c))))
USER_PROGS := $(addprefix $(USER_OUT)/,$(USER_NAMES))
USER_OBJ   := $(USER_OUT)/obj
USER_CRT   := $(USER_OBJ)/lib/crt0.o
USER_LIB   := $(USER_OUT)/libuser.a

# Baseline x86-64: what the guest's kernel saves at a switch (fxsave) covers it.
USER_CFLAGS := -std=gnu17 -O2 -g $(WARN) -I. -march=x86-64 -ffreestanding -fno-pie \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables \
	-fno-strict-aliasing -fno-tree-loop-distribute-patterns
# max-page-size: segments at their pages, so that faults bring in the file's own pages.
USER_LDFLAGS := -nostdlib -static -no-pie -Wl,-z,max-page-size=4096 -Wl,--build-id=none \
	-Wl,-z,noexecstack

$(USER_OBJ)/%.o: guest/user/%.c
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) $(USER_CFLAGS) -MMD -MP -c -o $@ $<

$(USER_OBJ)/%.o: guest/user/%.S
	@mkdir -p $(@D)
	$(call said,CC,$<)
	$(Q)$(CC) -I. -c -o $@ $<

$(USER_LIB): $(patsubst guest/user/%.c,$(USER_OBJ)/%.o,$(wildcard guest/user/lib/*.c))
	@rm -f $@ && $(AR) rcs $@ $^

$(USER_PROGS): $(USER_OUT)/%: $(USER_CRT) $(USER_OBJ)/%.o $(USER_LIB)
	$(call said,LINK,$@)
	$(Q)$(CC) $(USER_LDFLAGS) -o $@ $(filter %.o,$^) $(USER_LIB)

# A program's further files.
user_parts = $(patsubst guest/user/%.c,$(USER_OBJ)/%.o,$(wildcard guest/user/$(1)/*.c))
$(foreach p,$(USER_NAMES),$(eval $(USER_OUT)/$(p): $(call user_parts,$(p))))

-include $(wildcard $(USER_OBJ)/*.d $(USER_OBJ)/*/*.d)
