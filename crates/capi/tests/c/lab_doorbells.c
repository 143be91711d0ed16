/*
 * Device 3: doorbells of each size and value rule, several at one offset, and a doorbell page. It never sees a
 * write that one of them matches, only its event.
 */
#include "lab.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ANY_VALUE ((UINT32)HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE)
/* Widened with its sign, as it is where nobody takes care: only the low 32 bits count. */
#define ANY_VALUE_WIDENED ((UINT64)(INT64)(INT32)HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE)

/* As DOORBELLS of registers.rs has them, without the page. */
static const struct {
    UINT64 offset, value, flags;
} doorbells[LAB_DOORBELLS_COUNT - 1] = {
    {0x00, 0x5a, HDV_DOORBELL_FLAG_TRIGGER_SIZE_BYTE},
    {0x08, 0x1234, HDV_DOORBELL_FLAG_TRIGGER_SIZE_WORD},
    {0x10, 0xcafef00d, HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD},
    {0x18, 0x1122334455667788, HDV_DOORBELL_FLAG_TRIGGER_SIZE_QWORD},
    {0x20, 7, HDV_DOORBELL_FLAG_TRIGGER_SIZE_ANY},
    {0x28, 0, HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD | ANY_VALUE_WIDENED},
    {0x30, 0, HDV_DOORBELL_FLAG_TRIGGER_SIZE_ANY | ANY_VALUE},
    {0x38, 1, HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD},
    {0x38, 2, HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD},
    {0x38, 0, HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD | ANY_VALUE},
    {0x40, 0, HDV_DOORBELL_FLAG_TRIGGER_SIZE_BYTE | ANY_VALUE},
    {0x48, 0, HDV_DOORBELL_FLAG_TRIGGER_SIZE_WORD | ANY_VALUE_WIDENED},
    {0x50, 0, HDV_DOORBELL_FLAG_TRIGGER_SIZE_QWORD | ANY_VALUE},
};

struct state {
    int made;
    int events[LAB_DOORBELLS_COUNT];
    UINT32 signals[LAB_DOORBELLS_COUNT];
    HRESULT setup;
    UINT32 intercepts, reads, last_offset, last_length;
    UINT64 last_value;
};

static HRESULT place(struct lab_device *device, UINT32 which)
{
    const struct state *state = device->state;
    if (which >= LAB_DOORBELLS_COUNT)
        return E_NOTIMPL;
    if (which == LAB_DOORBELLS_COUNT - 1)
        return HdvRegisterDoorbellPage(device->handle, HDV_PCI_BAR2, LAB_DOORBELLS_PAGE,
                                       lab_handle(state->events[which]));
    return HdvRegisterDoorbell(device->handle, HDV_PCI_BAR2, doorbells[which].offset, doorbells[which].value,
                               doorbells[which].flags, lab_handle(state->events[which]));
}

static HRESULT take(struct lab_device *device, UINT32 which)
{
    if (which >= LAB_DOORBELLS_COUNT)
        return E_NOTIMPL;
    if (which == LAB_DOORBELLS_COUNT - 1)
        return HdvUnregisterDoorbellPage(device->handle, HDV_PCI_BAR2, LAB_DOORBELLS_PAGE);
    return HdvUnregisterDoorbell(device->handle, HDV_PCI_BAR2, doorbells[which].offset,
                                 doorbells[which].value, doorbells[which].flags);
}

static HRESULT start(struct lab_device *device)
{
    struct state *state = device->state;
    /* They stay across resets and clients. */
    if (state->made)
        return state->setup;
    state->made = 1;
    for (UINT32 which = 0; which < LAB_DOORBELLS_COUNT; which++) {
        HRESULT result;
        state->events[which] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        result = state->events[which] < 0 ? E_OUTOFMEMORY : place(device, which);
        if (FAILED(result))
            state->setup = result;
    }
    return S_OK;
}

static void teardown(struct lab_device *device)
{
    struct state *state = device->state;
    for (UINT32 which = 0; state->made && which < LAB_DOORBELLS_COUNT; which++)
        close(state->events[which]);
}

static UINT32 signals(struct state *state, UINT32 which)
{
    uint64_t count;
    /* Not only the device may signal the event: whoever was given it writes a count of its own. */
    if (state->made && read(state->events[which], &count, sizeof count) == (ssize_t)sizeof count)
        state->signals[which] += (UINT32)count;
    return state->signals[which];
}

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    struct state *state = device->state;
    if (offset >= LAB_DOORBELLS_SIGNALS && offset < LAB_DOORBELLS_SIGNALS + 4 * LAB_DOORBELLS_COUNT)
        return signals(state, (UINT32)(offset - LAB_DOORBELLS_SIGNALS) / 4);
    switch (offset) {
    case LAB_DOORBELLS_INTERCEPTS:
        return state->intercepts;
    case LAB_DOORBELLS_LAST_OFFSET:
        return state->last_offset;
    case LAB_DOORBELLS_LAST_LENGTH:
        return state->last_length;
    case LAB_DOORBELLS_SETUP:
        return (UINT32)state->setup;
    case LAB_DOORBELLS_LAST_VALUE:
        return (UINT32)state->last_value;
    case LAB_DOORBELLS_LAST_VALUE + 4:
        return (UINT32)(state->last_value >> 32);
    case LAB_DOORBELLS_READS:
        return state->reads;
    default:
        return 0;
    }
}

static void write_register(struct lab_device *device, UINT64 offset, UINT32 value)
{
    if (offset == LAB_DOORBELLS_REGISTER)
        device->result = place(device, value);
    else if (offset == LAB_DOORBELLS_UNREGISTER)
        device->result = take(device, value);
}

static HRESULT read_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 *value)
{
    struct state *state = device->state;
    (void)bar;
    (void)offset;
    (void)length;
    state->reads++;
    *value = 0x0d00be110d00be11;
    return S_OK;
}

static HRESULT write_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 value)
{
    struct state *state = device->state;
    (void)bar;
    state->intercepts++;
    state->last_offset = (UINT32)offset;
    state->last_length = (UINT32)length;
    state->last_value = value;
    return S_OK;
}

const struct lab_behaviour lab_doorbells = {
    .name = "lab-doorbells",
    .probed_bars = {0xfffff000, 0, ~(UINT32)(LAB_DOORBELLS_BAR2_BYTES - 1), 0, 0, 0},
    .state_bytes = sizeof(struct state),
    .start = start,
    .teardown = teardown,
    .read_register = read_register,
    .write_register = write_register,
    .read = read_bar,
    .write = write_bar,
};
