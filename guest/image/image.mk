# Disk images: ext2, made without privileges, the same to the last bit for the
# same inputs. Each holds the user programs and, as /data/corpus, a large real
# file of the build machine: the C compiler proper for the disk, the link-time
# optimizer for the persistent memory, so that the two cannot be confused.

DISK_CORPUS := $(shell $(CC) -print-prog-name=cc1)
PMEM_CORPUS := $(shell $(CC) -print-prog-name=lto1)
IMAGE_MIB   ?= 64

$(GUEST_DISK): guest/image/mkimage guest/image/image.mk $(USER_PROGS) $(DISK_CORPUS)
	$(call said,IMAGE,$@)
	$(Q)guest/image/mkimage $@ disk f0a1f0a1-0000-4000-8000-000000000001 $(IMAGE_MIB) \
		$(DISK_CORPUS) $(USER_PROGS)

$(GUEST_PMEM): guest/image/mkimage guest/image/image.mk $(USER_PROGS) $(PMEM_CORPUS)
	$(call said,IMAGE,$@)
	$(Q)guest/image/mkimage $@ pmem f0a1f0a1-0000-4000-8000-000000000002 $(IMAGE_MIB) \
		$(PMEM_CORPUS) $(USER_PROGS)
