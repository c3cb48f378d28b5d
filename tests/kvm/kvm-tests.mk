# Tests that run build/foal on /dev/kvm: one program, and the guests it boots.
KVM_GUEST_DIR  := $(OUT)/tests/guests
KVM_GUESTS     := $(patsubst tests/kvm/guests/%.c,$(KVM_GUEST_DIR)/%.elf,$(wildcard tests/kvm/guests/*.c))
KVM_GUEST_LIB  := $(patsubst tests/kvm/guests/lib/%,$(KVM_GUEST_DIR)/lib/%.o,$(wildcard tests/kvm/guests/lib/*.[cS]))
KVM_TEST_OBJS  := $(patsubst %.c,$(OUT)/%.o,$(wildcard tests/kvm/*.c)) $(OUT)/tests/guest/user/lib/sha256.o
KVM_GUEST_LDS  := tests/kvm/guests/lib/guest.lds
# As the guest kernel: a host may emulate ring 0, and has no vector registers there.
KVM_GUEST_FLAGS := $(FREESTANDING) -g0 -mgeneral-regs-only -mno-red-zone

$(KVM_GUEST_DIR)/lib/%.o: tests/kvm/guests/lib/%
	$(call compile,$(KVM_GUEST_FLAGS))

$(KVM_GUEST_DIR)/%.o: tests/kvm/guests/%.c
	$(call compile,$(KVM_GUEST_FLAGS))

$(KVM_GUEST_DIR)/%.elf: $(KVM_GUEST_DIR)/%.o $(KVM_GUEST_LIB) $(KVM_GUEST_LDS)
	$(call link,$(FREESTANDING_LD) -T $(KVM_GUEST_LDS))

# Static, so that it runs as it is on the emulated host. The guests are no
# prerequisite of the link, but of whoever runs it. Of ept/ the reader of fault logs alone.
$(OUT)/tests/test_kvm: $(KVM_TEST_OBJS) $(CHECK_OBJS) $(OUT)/libept.a | $(KVM_GUESTS) $(KVM_DIFF)
	$(call link,$(LDFLAGS) $(STATIC),$(CHECK_LIBS) -ljansson -lutil)

-include $(KVM_GUESTS:.elf=.d) $(KVM_GUEST_LIB:.o=.d)

KVM_TEST_PROGRAMS += $(OUT)/tests/test_kvm
NESTED_TESTS      += $(OUT)/tests/test_kvm
# What guests, their processors and the host's memory have to do with. The rest (files, sockets,
# clients, words) is the same on any host with KVM.
PARTS_6.12_test_kvm := runs cases files firmware cpus platform led huge poison hung memory_limit \
	trouble pause confined guest_kernel guest_threads guest_oracle guest_time main_job snapshot snapshot_diff fork clone clone_huge reset \
	bench_exits reconcile rip_samples trace_kvm
# What faults, and what foal tells of the host.
PARTS_6.1_test_kvm := cases huge poison memory_limit doctor main_job reconcile trace_kvm
NESTED_FILES      += $(OUT)/foal $(KVM_GUESTS) $(GUEST_KERNEL) $(GUEST_DISK) $(GUEST_PMEM) \
	docs/exit-statuses.md $(KVM_DIFF) $(OUT)/guest/user/run \
	$(foreach tool,debugfs e2fsck mke2fs,$(shell PATH=$$PATH:/usr/sbin:/sbin command -v $(tool)))
