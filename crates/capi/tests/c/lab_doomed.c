/*
 * Device 7: asks for the end of its host when the guest says so, and leaves a doorbell registered and an
 * event open for it. It also tries what is refused: the same from inside its callback.
 */
#include "lab.h"

#include <sys/eventfd.h>
#include <unistd.h>

struct state {
    int event;
};

static HRESULT start(struct lab_device *device)
{
    struct state *state = device->state;
    if (state->event != 0)
        return S_OK;
    state->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return HdvRegisterDoorbell(device->handle, HDV_PCI_BAR0, LAB_DOOMED_DOORBELL, 0,
                               HDV_DOORBELL_FLAG_TRIGGER_SIZE_ANY | HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE,
                               lab_handle(state->event));
}

static void teardown(struct lab_device *device)
{
    struct state *state = device->state;
    if (state->event > 0)
        close(state->event);
}

static void write_register(struct lab_device *device, UINT64 offset, UINT32 value)
{
    if (offset == LAB_DOOMED_INSIDE)
        device->result = HdvTeardownDeviceHost(device->host);
    else if (offset == LAB_DOOMED_DOOM && value == LAB_DOOMED_DOOM_VALUE)
        lab_doom(device->host);
}

const struct lab_behaviour lab_doomed = {
    .name = "lab-doomed",
    .probed_bars = {0xfffff000, 0, 0, 0, 0, 0},
    .state_bytes = sizeof(struct state),
    .start = start,
    .teardown = teardown,
    .write_register = write_register,
};
