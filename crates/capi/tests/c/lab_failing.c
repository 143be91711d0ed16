/*
 * Device 6: callbacks that fail where the guest asks for it. It must read all ones there, its writes must be
 * dropped, and everything else must go on.
 */
#include "lab.h"

struct state {
    UINT32 reads, writes, config_reads, config_writes;
};

static int fails(UINT32 offset)
{
    return offset >= LAB_FAILING_CONFIG && offset < LAB_FAILING_CONFIG + LAB_FAILING_CONFIG_BYTES;
}

static HRESULT read_config(struct lab_device *device, UINT32 offset, UINT32 *value)
{
    struct state *state = device->state;
    if (!fails(offset))
        return S_OK;
    state->config_reads++;
    *value = 0x12345678; /* to no avail */
    return E_FAIL;
}

static HRESULT write_config(struct lab_device *device, UINT32 offset, UINT32 value)
{
    struct state *state = device->state;
    (void)value;
    if (!fails(offset))
        return S_OK;
    state->config_writes++;
    return E_OUTOFMEMORY;
}

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    const struct state *state = device->state;
    switch (offset) {
    case LAB_FAILING_READS:
        return state->reads;
    case LAB_FAILING_WRITES:
        return state->writes;
    case LAB_FAILING_CONFIG_READS:
        return state->config_reads;
    case LAB_FAILING_CONFIG_WRITES:
        return state->config_writes;
    default:
        return 0;
    }
}

static HRESULT read_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 *value)
{
    struct state *state = device->state;
    (void)bar;
    (void)offset;
    (void)length;
    state->reads++;
    *value = 0x1234567812345678; /* to no avail */
    return E_ACCESSDENIED;
}

static HRESULT write_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 value)
{
    struct state *state = device->state;
    (void)bar;
    (void)offset;
    (void)length;
    (void)value;
    state->writes++;
    return E_INVALIDARG;
}

const struct lab_behaviour lab_failing = {
    .name = "lab-failing",
    .probed_bars = {0xfffff000, 0, 0, 0, 0, 0},
    .state_bytes = sizeof(struct state),
    .read_config = read_config,
    .write_config = write_config,
    .read_register = read_register,
    .read = read_bar,
    .write = write_bar,
    .registers_end = LAB_FAILING_FROM,
};
