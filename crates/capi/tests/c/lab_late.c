/*
 * Device 2: watches the command register, as devices for HDV do, and has its section only while the guest has
 * Memory Space enabled, so later than a VMM asks what it may map.
 */
#include "lab.h"

#define WORDS ((size_t)LAB_LATE_PAGES * (LAB_PAGE / 4))

#define COMMAND 0x04
#define COMMAND_MEMORY_SPACE 0x2u

struct state {
    struct lab_memory memory;
    UINT32 command, created, destroyed, intercepts;
    HRESULT create_result, destroy_result;
};

static HRESULT create(struct lab_device *device, UINT64 page, UINT64 pages, int writeable)
{
    const struct state *state = device->state;
    return HdvCreateSectionBackedMmioRange(device->handle, HDV_PCI_BAR2, page, pages,
                                           writeable ? HdvMmioMappingFlagWriteable : HdvMmioMappingFlagNone,
                                           lab_handle(state->memory.file), 0);
}

static HRESULT destroy(struct lab_device *device)
{
    return HdvDestroySectionBackedMmioRange(device->handle, HDV_PCI_BAR2, LAB_LATE_PAGE);
}

static HRESULT start(struct lab_device *device)
{
    struct state *state = device->state;
    return state->memory.bytes != NULL ? S_OK : lab_memory_make(&state->memory, LAB_LATE_PAGES);
}

static void teardown(struct lab_device *device)
{
    struct state *state = device->state;
    lab_memory_free(&state->memory);
}

static HRESULT read_config(struct lab_device *device, UINT32 offset, UINT32 *value)
{
    const struct state *state = device->state;
    if (offset == COMMAND)
        *value = state->command;
    return S_OK;
}

static HRESULT write_config(struct lab_device *device, UINT32 offset, UINT32 value)
{
    struct state *state = device->state;
    UINT32 changed;
    if (offset != COMMAND)
        return S_OK;
    value &= 0xffff;
    changed = state->command ^ value;
    state->command = value;
    if ((changed & COMMAND_MEMORY_SPACE) == 0)
        return S_OK;
    if ((value & COMMAND_MEMORY_SPACE) != 0) {
        state->created++;
        state->create_result = create(device, LAB_LATE_PAGE, LAB_LATE_PAGES, 1);
    } else {
        state->destroyed++;
        state->destroy_result = destroy(device);
    }
    return S_OK;
}

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    const struct state *state = device->state;
    switch (offset) {
    case LAB_LATE_CREATED:
        return state->created;
    case LAB_LATE_DESTROYED:
        return state->destroyed;
    case LAB_LATE_CREATE_RESULT:
        return (UINT32)state->create_result;
    case LAB_LATE_DESTROY_RESULT:
        return (UINT32)state->destroy_result;
    case LAB_LATE_SUM:
        return lab_sum(state->memory.bytes, WORDS);
    case LAB_LATE_INTERCEPTS:
        return state->intercepts;
    default:
        return 0;
    }
}

static HRESULT obey(struct lab_device *device, UINT32 command)
{
    switch (command) {
    case LAB_LATE_COMMAND_CREATE:
        return create(device, LAB_LATE_PAGE, LAB_LATE_PAGES, 1);
    case LAB_LATE_COMMAND_OVERLAP:
        return create(device, LAB_LATE_PAGE, 1, 1);
    case LAB_LATE_COMMAND_FLAGS:
        return create(device, LAB_LATE_PAGE, LAB_LATE_PAGES, 0);
    case LAB_LATE_COMMAND_DESTROY:
        return destroy(device);
    default:
        return E_NOTIMPL;
    }
}

static void write_register(struct lab_device *device, UINT64 offset, UINT32 value)
{
    struct state *state = device->state;
    if (offset == LAB_LATE_COMMAND)
        device->result = obey(device, value);
    else if (offset == LAB_LATE_FILL)
        lab_fill(state->memory.bytes, WORDS, value);
}

static void seen(struct lab_device *device, UINT64 offset)
{
    struct state *state = device->state;
    if (offset / LAB_PAGE < LAB_LATE_PAGE + LAB_LATE_PAGES)
        state->intercepts++;
}

static HRESULT read_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 *value)
{
    (void)bar;
    (void)length;
    seen(device, offset);
    *value = 0;
    return S_OK;
}

static HRESULT write_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 value)
{
    (void)bar;
    (void)length;
    (void)value;
    seen(device, offset);
    return S_OK;
}

const struct lab_behaviour lab_late = {
    .name = "lab-late",
    .probed_bars = {0xfffff000, 0, ~(UINT32)(LAB_LATE_BAR2_BYTES - 1), 0, 0, 0},
    .state_bytes = sizeof(struct state),
    .start = start,
    .teardown = teardown,
    .read_config = read_config,
    .write_config = write_config,
    .read_register = read_register,
    .write_register = write_register,
    .read = read_bar,
    .write = write_bar,
};
