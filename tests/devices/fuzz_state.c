/*
 * State of a device from fuzz input: the first byte is its kind, a second whether its
 * threads run, the rest what stands in the records. With nothing more a
 * sound state is made, for the fuzzer to begin with.
 */
#include <stdlib.h>
#include <string.h>

#include "devices/state.h"
#include "tests/devices/state_rig.h"

#define HEADER	 24
#define CHECKSUM 16
#define ROOM	 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Also: the bytes of one that is sound, to be changed by the fuzzer's input. */
static size_t sound_state(struct bus *bus, uint8_t *bytes)
{
	uint8_t *saved;
	struct state s;
	size_t len;

	state_save(&s);
	if (!bus_state(bus, &s) || state_saved(&s, &saved, &len) || len > ROOM)
		abort();
	memcpy(bytes, saved, len);
	free(saved);
	return len;
}

/* Each three bytes of input: where, and what to put there. */
static void change(uint8_t *bytes, size_t len, const uint8_t *data, size_t size)
{
	for (size_t i = 0; i + 3 <= size; i += 3) {
		size_t at =
		    HEADER + (data[i] | (size_t)data[i + 1] << 8) % (len - HEADER - CHECKSUM);
		bytes[at] ^= data[i + 2];
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t bytes[ROOM];
	struct state_machine m;
	struct state s;
	size_t len;

	if (size < 2)
		return 0;
	state_machine_init(&m, data[0] % STATE_KINDS);
	len = sound_state(m.bus, bytes);
	if (len > HEADER + CHECKSUM)
		change(bytes, len, data + 2, size - 2);
	state_seal(bytes, len);
	if (data[1] & 1 && bus_start(m.bus))
		abort();
	if (state_load(&s, bytes, len) && bus_state(m.bus, &s) && state_loaded(&s))
		state_machine_use(&m);
	state_machine_fini(&m);
	return 0;
}
