# The guest's page allocator, compiled for the build machine: tests/test_guest_pages.

PAGES_TEST_OBJS := $(OUT)/tests/guest_pages/test_guest_pages.o \
	$(OUT)/tests/guest_pages/guest/mm/page_alloc.o

$(PAGES_TEST_OBJS) $(BUILD)/check/tests/guest_pages/%.tidy: CPPFLAGS += \
	-DDIRECT_MAP_BASE=0x200000000000UL -include tests/guest_mm/host_cpu.h

$(OUT)/tests/guest_pages/guest/%.o: guest/%.c
	$(call compile,$(CPPFLAGS) $(CFLAGS))

$(OUT)/tests/test_guest_pages: $(PAGES_TEST_OBJS) $(CHECK_OBJS)
	$(call link,$(LDFLAGS),$(CHECK_LIBS))

-include $(wildcard $(OUT)/tests/guest_pages/guest/*/*.d)

# A direct map where the thread sanitizer has its own.
ifneq ($(SAN),thread)
TEST_PROGRAMS += $(OUT)/tests/test_guest_pages
endif
