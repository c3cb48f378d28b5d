# make check-model   the fault protocol, every interleaving of it, with spin

MODEL_DIR  := $(BUILD)/check/model
MODEL      := tests/model/fault.pml
# With each of these a property must fail, or the model says nothing.
MODEL_BREAKS := RECLAIM+BREAK_SPURIOUS BREAK_TRANSIT BREAK_ORDER BREAK_WAKE BREAK_LOCK

.PHONY: check-model
check-model:
	@scripts/check-model $(MODEL) $(MODEL_DIR) "" RECLAIM -- $(MODEL_BREAKS)
