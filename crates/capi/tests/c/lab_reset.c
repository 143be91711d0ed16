/*
 * Device 4: has MSI-X and a PCI Express capability with function level reset, keeps its MSI-X table itself,
 * clears it on reset, and delivers what stands in it.
 */
#include "lab.h"

#include <string.h>

#define EXPRESS 0x40
#define EXPRESS_CONTROL (EXPRESS + 0x08)
#define EXPRESS_CONTROL_RESET 0x8000u
#define MSIX 0x80
#define MSIX_CONTROL_BITS 0xc0000000u

#define TABLE_BYTES ((UINT64)16 * LAB_RESET_VECTORS)

/* A vector's entry: message address, its upper half, message data, vector control. */
struct entry {
    UINT32 words[4];
};

struct state {
    struct entry table[LAB_RESET_VECTORS];
    UINT32 resets, table_writes;
    UINT32 express_control, msix_control;
};

static void clear_table(struct state *state)
{
    memset(state->table, 0, sizeof state->table);
    for (int vector = 0; vector < LAB_RESET_VECTORS; vector++)
        state->table[vector].words[3] = 1; /* masked */
}

static HRESULT start(struct lab_device *device)
{
    struct state *state = device->state;
    if (device->starts == 1)
        clear_table(state);
    return S_OK;
}

static HRESULT read_config(struct lab_device *device, UINT32 offset, UINT32 *value)
{
    const struct state *state = device->state;
    switch (offset) {
    case 0x04:
        *value = 0x00100000; /* there are capabilities */
        break;
    case 0x34:
        *value = EXPRESS;
        break;
    case EXPRESS:
        *value = 0x00020010 | MSIX << 8; /* an endpoint, capability version 2 */
        break;
    case EXPRESS + 0x04:
        *value = 0x10008000; /* function level reset, role-based error reporting */
        break;
    case EXPRESS_CONTROL:
        *value = state->express_control;
        break;
    case EXPRESS + 0x0c:
        *value = 0x00000011; /* one lane at 2.5 GT/s */
        break;
    case EXPRESS + 0x10:
        *value = 0x00110000;
        break;
    case MSIX:
        *value = 0x11 | (UINT32)(LAB_RESET_VECTORS - 1) << 16 | state->msix_control;
        break;
    case MSIX + 4:
        *value = 2; /* the table, BAR 2 */
        break;
    case MSIX + 8:
        *value = LAB_RESET_PENDING | 2;
        break;
    default:
        break;
    }
    return S_OK;
}

static HRESULT write_config(struct lab_device *device, UINT32 offset, UINT32 value)
{
    struct state *state = device->state;
    if (offset == MSIX) {
        state->msix_control = value & MSIX_CONTROL_BITS;
    } else if (offset == EXPRESS_CONTROL) {
        if ((value & EXPRESS_CONTROL_RESET) != 0) {
            state->resets++;
            state->express_control = 0;
            state->msix_control = 0;
            clear_table(state);
        } else {
            state->express_control = value & 0x7fff;
        }
    }
    return S_OK;
}

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    const struct state *state = device->state;
    if (offset >= LAB_RESET_TABLE && offset < LAB_RESET_TABLE + TABLE_BYTES) {
        UINT64 word = (offset - LAB_RESET_TABLE) / 4;
        return state->table[word / 4].words[word % 4];
    }
    switch (offset) {
    case LAB_RESET_RESETS:
        return state->resets;
    case LAB_RESET_TABLE_WRITES:
        return state->table_writes;
    default:
        return 0;
    }
}

static HRESULT deliver(struct lab_device *device, UINT32 vector, UINT32 difference)
{
    const struct state *state = device->state;
    const struct entry *entry = &state->table[vector % LAB_RESET_VECTORS];
    return HdvDeliverGuestInterrupt(device->handle, (UINT64)entry->words[1] << 32 | entry->words[0],
                                    entry->words[2] ^ difference);
}

static void write_register(struct lab_device *device, UINT64 offset, UINT32 value)
{
    if (offset == LAB_RESET_TRIGGER)
        device->result = deliver(device, value, 0);
    else if (offset == LAB_RESET_UNKNOWN)
        device->result = deliver(device, 0, 0x5a5a5a5a);
}

static HRESULT read_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 *value)
{
    const struct state *state = device->state;
    (void)bar;
    *value = 0;
    if (offset + length <= TABLE_BYTES)
        memcpy(value, (const char *)state->table + offset, (size_t)length);
    return S_OK;
}

static HRESULT write_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 value)
{
    struct state *state = device->state;
    (void)bar;
    if (offset + length <= TABLE_BYTES) {
        state->table_writes++;
        memcpy((char *)state->table + offset, &value, (size_t)length);
    }
    return S_OK;
}

const struct lab_behaviour lab_reset = {
    .name = "lab-reset",
    .probed_bars = {0xfffff000, 0, ~(UINT32)(LAB_RESET_BAR2_BYTES - 1), 0, 0, 0},
    .state_bytes = sizeof(struct state),
    .start = start,
    .read_config = read_config,
    .write_config = write_config,
    .read_register = read_register,
    .write_register = write_register,
    .read = read_bar,
    .write = write_bar,
};
