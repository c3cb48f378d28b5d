# The guest's memory management, compiled for the build machine with the privileged instructions
# replaced: tests/test_guest_mm.

MM_TEST_SRCS := $(addprefix guest/mm/,memory.c file_fault.c filemap.c huge_memory.c huge_zero.c \
	hugetlb.c lru.c memory_failure.c numa.c readahead.c rmap.c swap.c swap_fault.c vmscan.c zap.c) \
	guest/arch/pgtable.c guest/arch/tlb.c
MM_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/guest_mm/*.c)) \
	$(MM_TEST_SRCS:%.c=$(OUT)/tests/guest_mm/%.o)

# For the compiler, and for the analysis of the tests.
$(MM_TEST_OBJS) $(BUILD)/check/tests/guest_mm/%.tidy: CPPFLAGS += \
	-DDIRECT_MAP_BASE=0x200000000000UL -include tests/guest_mm/host_cpu.h

$(OUT)/tests/guest_mm/guest/%.o: guest/%.c
	$(call compile,$(CPPFLAGS) $(CFLAGS))

$(OUT)/tests/test_guest_mm: $(MM_TEST_OBJS) $(CHECK_OBJS)
	$(call link,$(LDFLAGS),$(CHECK_LIBS))

-include $(wildcard $(OUT)/tests/guest_mm/guest/*/*.d)

# One thread, and a direct map where the thread sanitizer has its own.
ifneq ($(SAN),thread)
TEST_PROGRAMS += $(OUT)/tests/test_guest_mm
endif
