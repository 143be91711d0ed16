/*
 * Device 5: reads and writes guest memory where the guest says, through the two calls and through apertures.
 */
#define _GNU_SOURCE
#include "lab.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct aperture {
    void *bytes;
    UINT32 length;
};

struct state {
    UINT64 address;
    UINT32 length, seed, slot, sum;
    struct aperture apertures[LAB_DMA_SLOTS];
    UINT32 buffer[LAB_DMA_BYTES_MAX / 4];
};

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    const struct state *state = device->state;
    switch (offset) {
    case LAB_DMA_ADDRESS:
        return (UINT32)state->address;
    case LAB_DMA_ADDRESS + 4:
        return (UINT32)(state->address >> 32);
    case LAB_DMA_LENGTH:
        return state->length;
    case LAB_DMA_SEED:
        return state->seed;
    case LAB_DMA_SLOT:
        return state->slot;
    case LAB_DMA_SUM:
        return state->sum;
    default:
        return 0;
    }
}

static HRESULT create(struct lab_device *device, struct aperture *aperture, BOOL write_protected)
{
    const struct state *state = device->state;
    void *bytes = NULL;
    HRESULT result;
    /* One that is there already is forgotten, not destroyed, as some devices do; the library releases it. */
    result = HdvCreateGuestMemoryAperture(device->handle, state->address, state->length, write_protected, &bytes);
    if (SUCCEEDED(result)) {
        aperture->bytes = bytes;
        aperture->length = state->length;
    }
    return result;
}

/* Asks the kernel, which does not mind if the answer is no. */
static HRESULT is_writeable(const struct aperture *aperture)
{
    int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    ssize_t count;
    int error;
    if (zeros < 0)
        return E_FAIL;
    count = read(zeros, aperture->bytes, 1);
    error = errno;
    close(zeros);
    if (count == 1)
        return S_OK;
    return error == EFAULT ? E_ACCESSDENIED : E_FAIL;
}

static HRESULT obey(struct lab_device *device, UINT32 command)
{
    struct state *state = device->state;
    struct aperture *aperture = &state->apertures[state->slot % LAB_DMA_SLOTS];
    HRESULT result;

    if (state->length > LAB_DMA_BYTES_MAX)
        return E_INVALIDARG;
    switch (command) {
    case LAB_DMA_COMMAND_READ:
        result = HdvReadGuestMemory(device->handle, state->address, state->length, (BYTE *)state->buffer);
        if (SUCCEEDED(result))
            state->sum = lab_sum(state->buffer, state->length / 4);
        return result;
    case LAB_DMA_COMMAND_WRITE:
        lab_fill(state->buffer, state->length / 4, state->seed);
        return HdvWriteGuestMemory(device->handle, state->address, state->length, (const BYTE *)state->buffer);
    case LAB_DMA_COMMAND_APERTURE:
        return create(device, aperture, FALSE);
    case LAB_DMA_COMMAND_PROTECTED:
        return create(device, aperture, TRUE);
    case LAB_DMA_COMMAND_DESTROY:
        result = HdvDestroyGuestMemoryAperture(device->handle,
                                               aperture->bytes != NULL ? aperture->bytes : (void *)state->buffer);
        if (SUCCEEDED(result))
            aperture->bytes = NULL;
        return result;
    case LAB_DMA_COMMAND_LOOK:
        if (aperture->bytes == NULL)
            return E_HANDLE;
        state->sum = lab_sum(aperture->bytes, aperture->length / 4);
        return S_OK;
    case LAB_DMA_COMMAND_FILL:
        if (aperture->bytes == NULL)
            return E_HANDLE;
        lab_fill(aperture->bytes, aperture->length / 4, state->seed);
        return S_OK;
    case LAB_DMA_COMMAND_WRITEABLE:
        return aperture->bytes == NULL ? E_HANDLE : is_writeable(aperture);
    case LAB_DMA_COMMAND_NULL:
        return HdvReadGuestMemory(device->handle, state->address, state->length, NULL);
    default:
        return E_NOTIMPL;
    }
}

static void write_register(struct lab_device *device, UINT64 offset, UINT32 value)
{
    struct state *state = device->state;
    switch (offset) {
    case LAB_DMA_ADDRESS:
        state->address = (state->address & 0xffffffff00000000u) | value;
        break;
    case LAB_DMA_ADDRESS + 4:
        state->address = (state->address & 0xffffffffu) | (UINT64)value << 32;
        break;
    case LAB_DMA_LENGTH:
        state->length = value;
        break;
    case LAB_DMA_SEED:
        state->seed = value;
        break;
    case LAB_DMA_SLOT:
        state->slot = value;
        break;
    case LAB_DMA_COMMAND:
        device->result = obey(device, value);
        break;
    default:
        break;
    }
}

const struct lab_behaviour lab_dma = {
    .name = "lab-dma",
    .probed_bars = {0xfffff000, 0, 0, 0, 0, 0},
    .state_bytes = sizeof(struct state),
    .read_register = read_register,
    .write_register = write_register,
};
