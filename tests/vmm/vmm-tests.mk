# vmm/ as far as it goes without a VM: what it reads, and what it promises in docs/.

VMM_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/vmm/*.c))
TEST_PROGRAMS += $(OUT)/tests/test_vmm

$(OUT)/tests/test_vmm: $(VMM_TEST_OBJS) $(LIBS)
	$(call link,$(LDFLAGS),$(CHECK_LIBS) -ljansson)
