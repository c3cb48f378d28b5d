# make check-model   the protocols of faults, reclaim and fork, every interleaving, with spin

MODEL_DIR := $(BUILD)/check/model
# With each of the words behind -- a property must fail, or the model says nothing.
MODEL_BREAKS = $(patsubst %,BREAK_%,$(1))

.PHONY: check-model
check-model:
	@scripts/check-model tests/model/fault.pml $(MODEL_DIR) "" RECLAIM -- \
		RECLAIM+BREAK_SPURIOUS $(call MODEL_BREAKS,TRANSIT ORDER WAKE LOCK)
	@scripts/check-model tests/model/swap.pml $(MODEL_DIR) "" -- \
		$(call MODEL_BREAKS,RING COMMIT PLACE READS WAKE)
	@scripts/check-model tests/model/drop.pml $(MODEL_DIR) "" -- \
		$(call MODEL_BREAKS,LISTED LOOK ORDER SECTION FROZEN HELD)
	@scripts/check-model tests/model/fork.pml $(MODEL_DIR) "" -- \
		$(call MODEL_BREAKS,OUT DRAIN REGISTER PROTECT FD FREEZE)
