#include "devices/msix.h"

#include <linux/pci_regs.h>

#include "devices/state.h"

#define ENTRY_WORDS 4

void msix_init(struct msix *msix, unsigned nr)
{
	*msix = (struct msix){.nr = nr < MSIX_MAX ? nr : MSIX_MAX};
	for (unsigned i = 0; i < msix->nr; i++)
		msix->entry[i].word[3] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

static bool masked(const struct msix *msix, unsigned vector)
{
	return msix->masked || msix->entry[vector].word[3] & PCI_MSIX_ENTRY_CTRL_MASKBIT;
}

void msix_raise(struct msix *msix, const struct device_host *host, unsigned vector)
{
	if (vector >= msix->nr)
		return;
	if (masked(msix, vector)) {
		msix->pending |= 1u << vector;
		return;
	}
	const uint32_t *word = msix->entry[vector].word;
	host->send_msi(host->ctx, (uint64_t)word[1] << 32 | word[0], word[2]);
}

/* What waited and no longer has to. */
static void deliver(struct msix *msix, const struct device_host *host)
{
	for (unsigned i = 0; i < msix->nr && msix->enabled; i++) {
		if (msix->pending >> i & 1 && !masked(msix, i)) {
			msix->pending &= ~(1u << i);
			msix_raise(msix, host, i);
		}
	}
}

void msix_control(struct msix *msix, const struct device_host *host, uint16_t control)
{
	msix->enabled = control & PCI_MSIX_FLAGS_ENABLE;
	msix->masked = control & PCI_MSIX_FLAGS_MASKALL;
	deliver(msix, host);
}

/* The word at @offset of the table, or NULL. */
static const uint32_t *word_at(const struct msix *msix, uint32_t offset)
{
	uint32_t i = offset / 4;

	return i < msix->nr * ENTRY_WORDS ? &msix->entry[i / ENTRY_WORDS].word[i % ENTRY_WORDS]
					  : NULL;
}

/* How many words an access of @len bytes covers; narrower ones are no business of the table. */
static unsigned words_of(unsigned len)
{
	return len == 8 ? 2 : len == 4;
}

uint64_t msix_table_read(const struct msix *msix, uint32_t offset, unsigned len)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < words_of(len); i++) {
		const uint32_t *word = word_at(msix, offset + 4 * i);
		value |= (uint64_t)(word ? *word : 0) << (32 * i);
	}
	return value;
}

void msix_table_write(struct msix *msix, const struct device_host *host, uint32_t offset,
		      unsigned len, uint64_t value)
{
	for (unsigned i = 0; i < words_of(len); i++) {
		uint32_t *word = (uint32_t *)word_at(msix, offset + 4 * i);
		if (word)
			*word = (uint32_t)(value >> (32 * i));
	}
	deliver(msix, host);
}

void msix_state(struct msix *msix, struct state *s)
{
	state_u32(s, &msix->pending);
	state_check(s, msix->nr == MSIX_MAX || !(msix->pending >> msix->nr),
		    "interrupts are pending that the table does not have");
	for (unsigned i = 0; i < msix->nr; i++)
		for (unsigned j = 0; j < ENTRY_WORDS; j++)
			state_u32(s, &msix->entry[i].word[j]);
}

uint64_t msix_pending_read(const struct msix *msix, uint32_t offset, unsigned len)
{
	return offset == 0 && len >= 4 ? msix->pending : 0;
}
