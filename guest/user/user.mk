# The guest's user programs: one guest/user/NAME.c each, linked statically with
# the small runtime in guest/user/lib. They follow Linux's ABI and run there too.

USER_OUT   := $(BUILD)/guest/user
USER_NAMES := $(sort $(basename $(notdir $(wildcard guest/user/*.c))))
USER_PROGS := $(addprefix $(USER_OUT)/,$(USER_NAMES))
USER_CRT   := $(USER_OUT)/lib/crt0.o
USER_LIB   := $(USER_OUT)/libuser.a

# Baseline x86-64 without more: what the kernel saves at a switch (fxsave) covers it.
$(USER_OUT)/%.o: guest/user/%.c
	$(call compile,$(FREESTANDING))

$(USER_OUT)/%.o: guest/user/%.S
	$(call compile,$(FREESTANDING))

$(USER_LIB): $(patsubst guest/user/%.c,$(USER_OUT)/%.o,$(wildcard guest/user/lib/*.c))
	$(archive)

$(USER_PROGS): $(USER_OUT)/%: $(USER_CRT) $(USER_OUT)/%.o $(USER_LIB)
	$(call link,$(FREESTANDING_LD))

-include $(wildcard $(USER_OUT)/*.d $(USER_OUT)/lib/*.d)
