# make linux-images  build/linux/: Debian's kernel, and images around it to boot
#
# Stock Linux guests: what they boot from (scripts/linux-image), and the tests.
LINUX_DIR    := $(BUILD)/linux
LINUX_IMAGES := $(addprefix $(LINUX_DIR)/,vmlinuz vmlinux initrd.gz root.img boot.img)

.PHONY: linux-images
linux-images: $(LINUX_IMAGES)

# Scripts that make an image, and files that go into it.
LINUX_MAKERS := scripts/linux-image scripts/lib/debian.sh

$(LINUX_DIR)/vmlinuz: $(LINUX_MAKERS)
	scripts/linux-image kernel $@

$(LINUX_DIR)/vmlinux: $(LINUX_MAKERS) $(LINUX_DIR)/vmlinuz
	scripts/linux-image vmlinux $@

$(LINUX_DIR)/initrd.gz: $(LINUX_MAKERS) scripts/lib/initrd.sh tests/linux/initrd-init \
		$(wildcard tests/linux/jobs/*)
	scripts/linux-image initrd $@

$(LINUX_DIR)/root.img: $(LINUX_MAKERS) tests/linux/root-init
	scripts/linux-image root $@

$(LINUX_DIR)/boot.img: $(LINUX_MAKERS) $(addprefix $(LINUX_DIR)/,vmlinuz initrd.gz root.img)
	scripts/linux-image boot $@

# --- the tests: what they run on is an emulated host, or one with EPT or NPT -------
# What is not one of these goes into a guest.
LINUX_TEST_OBJS := $(patsubst %.c,$(OUT)/%.o,$(filter-out %/is_dax.c %/vsock_peer.c,$(wildcard tests/linux/*.c))) \
	$(addprefix $(OUT)/tests/kvm/,fs_image.o runner.o host.o stats.o control_rig.o told.o) \
	$(OUT)/tests/guest/user/lib/sha256.o

$(OUT)/tests/test_linux: $(LINUX_TEST_OBJS) $(CHECK_OBJS) | $(LINUX_IMAGES)
	$(call link,$(LDFLAGS) $(STATIC),$(CHECK_LIBS) -ljansson -lutil)

NESTED_TESTS += $(OUT)/tests/test_linux
# make soak's and, without what takes minutes there (multiply), make test's.
PARTS_test_linux      := counts boot net devices platform console snapshot copies multiply
PARTS_6.12_test_linux := $(filter-out multiply,$(PARTS_test_linux))
PARTS_6.1_test_linux  := counts
NESTED_FILES += $(LINUX_IMAGES) $(addprefix /usr/share/qemu/,qboot.rom linuxboot_dma.bin) \
	/usr/share/seabios/bios-microvm.bin $(shell command -v passt)
# On a machine that can run them itself, there too.
ifneq ($(shell grep -qwE 'npt|ept' /proc/cpuinfo && echo yes),)
KVM_TEST_PROGRAMS += $(OUT)/tests/test_linux
endif

# Goes into the root file system, and into the initrd.
$(LINUX_DIR)/is-dax: tests/linux/is_dax.c
$(LINUX_DIR)/vsock-peer: tests/linux/vsock_peer.c
$(LINUX_DIR)/is-dax $(LINUX_DIR)/vsock-peer:
	@mkdir -p $(@D)
	$(call said,LINK,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -static -o $@ $<

$(LINUX_DIR)/root.img: $(LINUX_DIR)/is-dax
$(LINUX_DIR)/initrd.gz: $(LINUX_DIR)/vsock-peer
