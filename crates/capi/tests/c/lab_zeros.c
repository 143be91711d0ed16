/*
 * Device 0: its config space callbacks return only zeros, as those of many devices for HDV do. What it
 * declared is what the guest must find.
 */
#include "lab.h"

struct state {
    UINT32 reads, writes, bar, offset, length;
    UINT64 value;
};

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    const struct state *state = device->state;
    switch (offset) {
    case LAB_ZEROS_LAST_BAR:
        return state->bar;
    case LAB_ZEROS_LAST_OFFSET:
        return state->offset;
    case LAB_ZEROS_LAST_LENGTH:
        return state->length;
    case LAB_ZEROS_LAST_VALUE:
        return (UINT32)state->value;
    case LAB_ZEROS_LAST_VALUE + 4:
        return (UINT32)(state->value >> 32);
    case LAB_ZEROS_READS:
        return state->reads;
    case LAB_ZEROS_WRITES:
        return state->writes;
    default:
        return 0;
    }
}

static HRESULT read_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 *value)
{
    struct state *state = device->state;
    (void)length;
    state->reads++;
    *value = (UINT64)lab_pattern(bar, (UINT32)offset) << 32 | lab_pattern(bar, (UINT32)offset + 1);
    return S_OK;
}

static HRESULT write_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 value)
{
    struct state *state = device->state;
    state->writes++;
    state->bar = bar;
    state->offset = (UINT32)offset;
    state->length = (UINT32)length;
    state->value = value;
    return S_OK;
}

const struct lab_behaviour lab_zeros = {
    .name = "lab-zeros",
    /* 2 and 3 are the halves of one, 64 bits wide and prefetchable. */
    .probed_bars = {0xfffff000, 0, ~(UINT32)(LAB_ZEROS_BAR2_BYTES - 1) | 0xc, 0xffffffff,
                    ~(UINT32)(LAB_ZEROS_BAR4_BYTES - 1), 0},
    .state_bytes = sizeof(struct state),
    .read_register = read_register,
    .read = read_bar,
    .write = write_bar,
};
