/*
 * Device 1: a BAR with sections of three files, one of them not writeable, and pages without any. The
 * sections are there before a VMM asks what it may map.
 */
#include "lab.h"

#define WORDS(pages) ((size_t)(pages) * (LAB_PAGE / 4))

struct state {
    struct lab_memory a, b, c;
    HRESULT setup;
    int made;
    UINT32 intercepts, hole_reads, hole_writes;
    UINT64 hole_value;
};

static UINT32 *words_of_b(const struct state *state)
{
    /* Its section begins with the second page of its file. */
    return (UINT32 *)state->b.bytes + WORDS(1);
}

static HRESULT create(struct lab_device *device, UINT64 page, UINT64 pages, int writeable,
                      const struct lab_memory *memory, UINT64 page_of_file)
{
    return HdvCreateSectionBackedMmioRange(device->handle, HDV_PCI_BAR2, page, pages,
                                           writeable ? HdvMmioMappingFlagWriteable : HdvMmioMappingFlagNone,
                                           lab_handle(memory->file), page_of_file);
}

static HRESULT setup(struct lab_device *device)
{
    struct state *state = device->state;
    HRESULT result;
    if (!state->made) {
        state->made = 1;
        if (FAILED(result = lab_memory_make(&state->a, LAB_SECTIONS_A_PAGES)) ||
            FAILED(result = lab_memory_make(&state->b, LAB_SECTIONS_B_PAGES + 1)) ||
            FAILED(result = lab_memory_make(&state->c, LAB_SECTIONS_C_PAGES)))
            return result;
    }
    if (FAILED(result = create(device, LAB_SECTIONS_A_PAGE, LAB_SECTIONS_A_PAGES, 1, &state->a, 0)) ||
        FAILED(result = create(device, LAB_SECTIONS_B_PAGE, LAB_SECTIONS_B_PAGES, 1, &state->b, 1)) ||
        FAILED(result = create(device, LAB_SECTIONS_C_PAGE, LAB_SECTIONS_C_PAGES, 0, &state->c, 0)))
        return result;
    return S_OK;
}

static HRESULT start(struct lab_device *device)
{
    /* Also at a second start: exactly the same sections again are no error. */
    struct state *state = device->state;
    return state->setup = setup(device);
}

static void teardown(struct lab_device *device)
{
    struct state *state = device->state;
    lab_memory_free(&state->a);
    lab_memory_free(&state->b);
    lab_memory_free(&state->c);
}

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    const struct state *state = device->state;
    switch (offset) {
    case LAB_SECTIONS_SUM_A:
        return lab_sum(state->a.bytes, WORDS(LAB_SECTIONS_A_PAGES));
    case LAB_SECTIONS_SUM_B:
        return lab_sum(words_of_b(state), WORDS(LAB_SECTIONS_B_PAGES));
    case LAB_SECTIONS_SUM_C:
        return lab_sum(state->c.bytes, WORDS(LAB_SECTIONS_C_PAGES));
    case LAB_SECTIONS_SETUP:
        return (UINT32)state->setup;
    case LAB_SECTIONS_INTERCEPTS:
        return state->intercepts;
    case LAB_SECTIONS_HOLE_READS:
        return state->hole_reads;
    case LAB_SECTIONS_HOLE_WRITES:
        return state->hole_writes;
    case LAB_SECTIONS_HOLE_VALUE:
        return (UINT32)state->hole_value;
    case LAB_SECTIONS_HOLE_VALUE + 4:
        return (UINT32)(state->hole_value >> 32);
    default:
        return 0;
    }
}

static HRESULT refused(struct lab_device *device, UINT32 which)
{
    struct state *state = device->state;
    switch (which) {
    case LAB_SECTIONS_REFUSE_OUTSIDE:
        return create(device, LAB_SECTIONS_BAR2_BYTES / LAB_PAGE - 1, 2, 1, &state->a, 0);
    case LAB_SECTIONS_REFUSE_EMPTY:
        return create(device, LAB_SECTIONS_HOLE_PAGE, 0, 1, &state->a, 0);
    case LAB_SECTIONS_REFUSE_OVERLAP:
        return create(device, LAB_SECTIONS_A_PAGE + 1, 1, 1, &state->b, 0);
    case LAB_SECTIONS_REFUSE_IDENTICAL:
        return create(device, LAB_SECTIONS_A_PAGE, LAB_SECTIONS_A_PAGES, 1, &state->a, 0);
    case LAB_SECTIONS_REFUSE_MISSING:
        return HdvDestroySectionBackedMmioRange(device->handle, HDV_PCI_BAR2, LAB_SECTIONS_HOLE_PAGE);
    default:
        return E_NOTIMPL;
    }
}

static void write_register(struct lab_device *device, UINT64 offset, UINT32 value)
{
    struct state *state = device->state;
    if (offset == LAB_SECTIONS_FILL) {
        switch (value & 0xff) {
        case 0:
            lab_fill(state->a.bytes, WORDS(LAB_SECTIONS_A_PAGES), value >> 8);
            break;
        case 1:
            lab_fill(words_of_b(state), WORDS(LAB_SECTIONS_B_PAGES), value >> 8);
            break;
        case 2:
            lab_fill(state->c.bytes, WORDS(LAB_SECTIONS_C_PAGES), value >> 8);
            break;
        default:
            break;
        }
    } else if (offset == LAB_SECTIONS_REFUSE) {
        device->result = refused(device, value);
    }
}

static int is_hole(UINT64 offset)
{
    UINT64 page = offset / LAB_PAGE;
    return page == LAB_SECTIONS_HOLE_PAGE || page >= LAB_SECTIONS_C_PAGE + LAB_SECTIONS_C_PAGES;
}

static HRESULT read_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 *value)
{
    struct state *state = device->state;
    (void)bar;
    (void)length;
    if (!is_hole(offset))
        state->intercepts++;
    state->hole_reads++;
    *value = (UINT64)lab_pattern(2, (UINT32)offset) << 32 | lab_pattern(2, (UINT32)offset + 1);
    return S_OK;
}

static HRESULT write_bar(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 value)
{
    struct state *state = device->state;
    (void)bar;
    (void)length;
    if (!is_hole(offset))
        state->intercepts++;
    state->hole_writes++;
    state->hole_value = value;
    return S_OK;
}

const struct lab_behaviour lab_sections = {
    .name = "lab-sections",
    .probed_bars = {0xfffff000, 0, ~(UINT32)(LAB_SECTIONS_BAR2_BYTES - 1), 0, 0, 0},
    .state_bytes = sizeof(struct state),
    .start = start,
    .teardown = teardown,
    .read_register = read_register,
    .write_register = write_register,
    .read = read_bar,
    .write = write_bar,
};
