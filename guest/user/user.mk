# The guest's user programs: one guest/user/NAME.c each, with guest/user/NAME/*.c
# if there are any, linked statically with the small runtime in guest/user/lib.
# They follow Linux's ABI and run there too.

USER_OUT   := $(BUILD)/guest/user
USER_NAMES := $(sort $(basename $(notdir $(wildcard guest/user/*.c))))
USER_PROGS := $(addprefix $(USER_OUT)/,$(USER_NAMES))
USER_OBJ   := $(USER_OUT)/obj
USER_CRT   := $(USER_OBJ)/lib/crt0.o
USER_LIB   := $(USER_OUT)/libuser.a

# Baseline x86-64 without more: what the kernel saves at a switch (fxsave) covers it.
$(USER_OBJ)/%.o: guest/user/%.c
	$(call compile,$(FREESTANDING))

$(USER_OBJ)/%.o: guest/user/%.S
	$(call compile,$(FREESTANDING))

$(USER_LIB): $(patsubst guest/user/%.c,$(USER_OBJ)/%.o,$(wildcard guest/user/lib/*.c))
	$(archive)

$(USER_PROGS): $(USER_OUT)/%: $(USER_CRT) $(USER_OBJ)/%.o $(USER_LIB)
	$(call link,$(FREESTANDING_LD))

# A program's further files.
user_parts = $(patsubst guest/user/%.c,$(USER_OBJ)/%.o,$(wildcard guest/user/$(1)/*.c))
$(foreach p,$(USER_NAMES),$(eval $(USER_OUT)/$(p): $(call user_parts,$(p))))

-include $(wildcard $(USER_OBJ)/*.d $(USER_OBJ)/*/*.d)
