/*
 * A camera: delivers frames by DMA into buffers of the guest, with an interrupt for each.
 *
 *     camera DIRECTORY INSTANCE-ID
 *
 * serves one camera on <DIRECTORY>/<INSTANCE-ID>.sock until SIGINT or SIGTERM. What it sees is a
 * test picture that a driver can compute for itself: colour bars, a box that moves, and the frame's
 * number.
 *
 * Registers of BAR 0, 4 bytes each where nothing else is said, little-endian, in accesses of 4 or 8 bytes:
 *
 *   0x000  RO    "CAMR"
 *   0x004  RO    1, the version of this list
 *   0x008  RW    control: bit 0, frames are taken
 *   0x00c  RW1C  status: bit 0, a frame was delivered; bit 1, one was dropped; bit 2, an error
 *   0x010  RO    error: why the last setting was refused or frames are no longer taken: 0 none, 1 period,
 *                2 ring size, 3 ring address, 4 ring memory, 5 buffer memory, 6 ring in use
 *   0x014  RW    period: microseconds between frames, 1000 to 10000000
 *   0x018  RO    width in pixels
 *   0x01c  RO    height in pixels
 *   0x020  RO    bytes from one line to the next
 *   0x024  RO    "XR24": a pixel is 0x00RRGGBB, little-endian
 *   0x028  RO    bytes of a frame
 *   0x02c  RW    ring size: descriptors in the ring, a power of two, 2 to 256
 *   0x030  RW    8 bytes: DMA address of the ring, a multiple of 64
 *   0x038  RW    posted: free-running count of the buffers the driver has offered
 *   0x03c  RO    completed: free-running count of those that hold a frame
 *   0x040  RO    sequence: number of the next frame, from 0 when control is set
 *   0x044  RO    dropped: frames for which there was no buffer
 *   0x800        MSI-X table, 1 vector; 0xc00 its pending bits
 *
 * A descriptor of the ring has 32 bytes. The driver writes the address of a buffer, then advances `posted`;
 * the camera fills the buffer, writes the rest of the descriptor, advances `completed` and interrupts:
 *
 *   0x00   8 bytes: DMA address of the buffer
 *   0x08   8 bytes: time of the frame, nanoseconds on the camera's clock
 *   0x10   number of the frame
 *   0x14   bytes written
 *   0x18   checksum of these bytes: FNV-1a of 32 bits
 *   0x1c   0
 *
 * Buffer n is the one in descriptor n % ring size. A write to control from 0 to 1 sets all counts to 0, also
 * `posted`. Ring size and address cannot be changed while frames are taken.
 *
 * In this file, in order: the picture, the state, MSI-X, frames, register accesses, the thread, config
 * space, the ten callbacks, main.
 */
#define _POSIX_C_SOURCE 200809L

#include <openhdv.h>

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

/* ---- The picture. ---- */

#define WIDTH 320u
#define HEIGHT 240u
#define STRIDE (WIDTH * 4)
#define FRAME_BYTES (STRIDE * HEIGHT)

#define BARS 8u
#define BOX 32u         /* side of the box */
#define NUMBER_BITS 32u /* the number: a row of cells, white for ones, black for zeroes, lowest first */
#define NUMBER_CELL 8u  /* side of a cell */

static uint32_t pixel(uint32_t x, uint32_t y, uint32_t number)
{
    static const uint32_t bars[BARS] = {0xbfbfbf, 0xbfbf00, 0x00bfbf, 0x00bf00,
                                        0xbf00bf, 0xbf0000, 0x0000bf, 0x000000};
    if (y < NUMBER_CELL && x < NUMBER_BITS * NUMBER_CELL) {
        return (number >> x / NUMBER_CELL & 1) != 0 ? 0xffffff : 0x000000;
    }
    uint32_t colour = bars[x * BARS / WIDTH];
    /* The products wrap, which is all the same to a test picture. */
    uint32_t left = number * 4 % (WIDTH - BOX);
    uint32_t top = number * 3 % (HEIGHT - BOX);
    if (x >= left && x < left + BOX && y >= top && y < top + BOX) {
        colour ^= 0xffffff;
    }
    return colour;
}

static void put_u32(BYTE *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        bytes[i] = (BYTE)(value >> 8 * i);
    }
}

static uint32_t get_u32(const BYTE *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void draw(BYTE *frame, uint32_t number)
{
    for (uint32_t y = 0; y < HEIGHT; y++) {
        for (uint32_t x = 0; x < WIDTH; x++) {
            put_u32(frame + y * STRIDE + x * 4, pixel(x, y, number));
        }
    }
}

static uint32_t checksum(const BYTE *bytes, size_t count)
{
    uint32_t hash = 0x811c9dc5;
    for (size_t i = 0; i < count; i++) {
        hash = (hash ^ bytes[i]) * 0x01000193;
    }
    return hash;
}

/* ---- State. ---- */

#define BAR0_SIZE 0x1000u

#define IDENTIFICATION 0x000
#define VERSION 0x004
#define CONTROL 0x008
#define STATUS 0x00c
#define ERROR 0x010
#define PERIOD 0x014
#define FRAME_WIDTH 0x018
#define FRAME_HEIGHT 0x01c
#define FRAME_STRIDE 0x020
#define FRAME_FORMAT 0x024
#define FRAME_SIZE 0x028
#define RING_SIZE 0x02c
#define RING_ADDRESS 0x030
#define POSTED 0x038
#define COMPLETED 0x03c
#define SEQUENCE 0x040
#define DROPPED 0x044
#define MSIX_TABLE 0x800
#define MSIX_PENDING 0xc00

#define CONTROL_ENABLE (1u << 0)

#define STATUS_FRAME (1u << 0)
#define STATUS_DROPPED (1u << 1)
#define STATUS_ERROR (1u << 2)

#define ERROR_NONE 0u
#define ERROR_PERIOD 1u
#define ERROR_RING_SIZE 2u
#define ERROR_RING_ADDRESS 3u
#define ERROR_RING_MEMORY 4u
#define ERROR_BUFFER_MEMORY 5u
#define ERROR_RING_IN_USE 6u

#define PERIOD_MIN 1000u
#define PERIOD_MAX 10000000u
#define RING_SIZE_MAX 256u
#define RING_ALIGNMENT 64u
#define DESCRIPTOR_BYTES 32u

#define EXPRESS 0x40
#define EXPRESS_DEVICE_CONTROL (EXPRESS + 0x08)
#define MSIX 0x7c
#define CONFIG_END 0x88

/* What a function level reset takes back. */
struct registers {
    uint32_t control;
    uint32_t status;
    uint32_t error;
    uint32_t period;
    uint32_t ring_size;
    uint64_t ring_address;
    uint32_t posted;
    uint32_t completed;
    uint32_t sequence;
    uint32_t dropped;

    uint32_t msix_entry[4]; /* address, upper address, data, vector control */
    bool msix_pending;
};

struct camera {
    HDV_DEVICE device;

    /* Guards what follows: callbacks and the thread share it. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct registers registers;
    uint32_t config[CONFIG_END / 4];
    uint64_t origin; /* zero of the camera's clock */
    uint64_t next;   /* when the next frame is due */
    bool started;    /* virtual processors run */
    bool quit;

    pthread_t thread;
    bool thread_exists;
    BYTE frame[FRAME_BYTES]; /* the thread's alone */
};

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static bool filming(const struct camera *camera)
{
    return camera->started && (camera->registers.control & CONTROL_ENABLE) != 0;
}

static void fail(struct registers *r, uint32_t reason)
{
    r->error = reason;
    r->status |= STATUS_ERROR;
}

/* ---- MSI-X. The host writes a message of its own into the table; we deliver what stands there. ---- */

#define MSIX_CONTROL_ENABLE (1u << 31)
#define MSIX_CONTROL_MASK_ALL (1u << 30)

static void interrupt(struct camera *camera)
{
    struct registers *r = &camera->registers;
    uint32_t control = camera->config[MSIX / 4];
    if ((control & MSIX_CONTROL_ENABLE) == 0) {
        return;
    }
    if ((control & MSIX_CONTROL_MASK_ALL) != 0 || (r->msix_entry[3] & 1) != 0) {
        r->msix_pending = true;
        return;
    }
    r->msix_pending = false;
    /* A failure is the interrupt of a virtual machine that is about to go. */
    HdvDeliverGuestInterrupt(camera->device, (uint64_t)r->msix_entry[1] << 32 | r->msix_entry[0],
                             r->msix_entry[2]);
}

/* After a mask or the control word has changed. */
static void interrupt_if_pending(struct camera *camera)
{
    if (camera->registers.msix_pending) {
        interrupt(camera);
    }
}

/* ---- Frames. ---- */

/* Puts the frame into the next buffer; the reason if that cannot be done. */
static uint32_t deliver(struct camera *camera, uint64_t time)
{
    struct registers *r = &camera->registers;
    uint64_t descriptor =
        r->ring_address + (uint64_t)(r->completed & (r->ring_size - 1)) * DESCRIPTOR_BYTES;
    BYTE bytes[DESCRIPTOR_BYTES] = {0};
    if (FAILED(HdvReadGuestMemory(camera->device, descriptor, 8, bytes))) {
        return ERROR_RING_MEMORY;
    }
    uint64_t buffer = (uint64_t)get_u32(bytes + 4) << 32 | get_u32(bytes);
    if (FAILED(HdvWriteGuestMemory(camera->device, buffer, FRAME_BYTES, camera->frame))) {
        return ERROR_BUFFER_MEMORY;
    }
    put_u32(bytes + 0x08, (uint32_t)(time - camera->origin));
    put_u32(bytes + 0x0c, (uint32_t)((time - camera->origin) >> 32));
    put_u32(bytes + 0x10, r->sequence);
    put_u32(bytes + 0x14, FRAME_BYTES);
    put_u32(bytes + 0x18, checksum(camera->frame, FRAME_BYTES));
    if (FAILED(HdvWriteGuestMemory(camera->device, descriptor + 8, DESCRIPTOR_BYTES - 8, bytes + 8))) {
        return ERROR_RING_MEMORY;
    }
    return ERROR_NONE;
}

/* A frame is due, and drawn. */
static void take_frame(struct camera *camera, uint64_t time)
{
    struct registers *r = &camera->registers;
    if (r->completed == r->posted) {
        r->dropped++;
        r->sequence++;
        r->status |= STATUS_DROPPED;
        return;
    }
    uint32_t reason = deliver(camera, time);
    if (reason != ERROR_NONE) {
        /* Where one buffer is wrong the next will be. */
        r->control &= ~CONTROL_ENABLE;
        fail(r, reason);
        return;
    }
    r->completed++;
    r->sequence++;
    r->status |= STATUS_FRAME;
    interrupt(camera);
}

/* ---- Register accesses, in aligned dwords. ---- */

static uint32_t read_register(const struct camera *camera, uint64_t offset)
{
    const struct registers *r = &camera->registers;
    if (offset >= MSIX_TABLE && offset < MSIX_TABLE + sizeof r->msix_entry) {
        return r->msix_entry[(offset - MSIX_TABLE) / 4];
    }
    switch (offset) {
    case IDENTIFICATION:
        return 0x524d4143; /* "CAMR" */
    case VERSION:
        return 1;
    case CONTROL:
        return r->control;
    case STATUS:
        return r->status;
    case ERROR:
        return r->error;
    case PERIOD:
        return r->period;
    case FRAME_WIDTH:
        return WIDTH;
    case FRAME_HEIGHT:
        return HEIGHT;
    case FRAME_STRIDE:
        return STRIDE;
    case FRAME_FORMAT:
        return 0x34325258; /* "XR24" */
    case FRAME_SIZE:
        return FRAME_BYTES;
    case RING_SIZE:
        return r->ring_size;
    case RING_ADDRESS:
        return (uint32_t)r->ring_address;
    case RING_ADDRESS + 4:
        return (uint32_t)(r->ring_address >> 32);
    case POSTED:
        return r->posted;
    case COMPLETED:
        return r->completed;
    case SEQUENCE:
        return r->sequence;
    case DROPPED:
        return r->dropped;
    case MSIX_PENDING:
        return r->msix_pending;
    default:
        return 0;
    }
}

/* Each of these returns why a setting is refused, or ERROR_NONE. A refusal changes nothing. */

static uint32_t set_control(struct camera *camera, uint32_t control)
{
    struct registers *r = &camera->registers;
    control &= CONTROL_ENABLE;
    if ((control & ~r->control) != 0) {
        /* The ring must be guest memory, all of it: an aperture can only be there if it is. */
        void *mapped = NULL;
        if (FAILED(HdvCreateGuestMemoryAperture(camera->device, r->ring_address,
                                                r->ring_size * DESCRIPTOR_BYTES, FALSE, &mapped))) {
            return ERROR_RING_MEMORY;
        }
        HdvDestroyGuestMemoryAperture(camera->device, mapped);
        r->posted = 0;
        r->completed = 0;
        r->sequence = 0;
        r->dropped = 0;
        camera->next = now();
    }
    r->control = control;
    return ERROR_NONE;
}

static uint32_t set_period(struct camera *camera, uint32_t period)
{
    if (period < PERIOD_MIN || period > PERIOD_MAX) {
        return ERROR_PERIOD;
    }
    uint64_t next = now() + (uint64_t)period * 1000;
    if (camera->next > next) {
        camera->next = next; /* a shorter period counts from now on */
    }
    camera->registers.period = period;
    return ERROR_NONE;
}

static uint32_t set_ring_size(struct registers *r, uint32_t size)
{
    if ((r->control & CONTROL_ENABLE) != 0) {
        return ERROR_RING_IN_USE;
    }
    if (size < 2 || size > RING_SIZE_MAX || (size & (size - 1)) != 0) {
        return ERROR_RING_SIZE;
    }
    r->ring_size = size;
    return ERROR_NONE;
}

static uint32_t set_ring_address(struct registers *r, uint64_t address)
{
    if ((r->control & CONTROL_ENABLE) != 0) {
        return ERROR_RING_IN_USE;
    }
    if (address % RING_ALIGNMENT != 0) {
        return ERROR_RING_ADDRESS;
    }
    r->ring_address = address;
    return ERROR_NONE;
}

static void write_register(struct camera *camera, uint64_t offset, uint32_t value)
{
    struct registers *r = &camera->registers;
    uint32_t refusal = ERROR_NONE;
    if (offset >= MSIX_TABLE && offset < MSIX_TABLE + sizeof r->msix_entry) {
        r->msix_entry[(offset - MSIX_TABLE) / 4] = value;
        interrupt_if_pending(camera);
        return;
    }
    switch (offset) {
    case CONTROL:
        refusal = set_control(camera, value);
        break;
    case STATUS:
        r->status &= ~value;
        break;
    case PERIOD:
        refusal = set_period(camera, value);
        break;
    case RING_SIZE:
        refusal = set_ring_size(r, value);
        break;
    case RING_ADDRESS:
        refusal = set_ring_address(r, (r->ring_address & ~(uint64_t)UINT32_MAX) | value);
        break;
    case RING_ADDRESS + 4:
        refusal = set_ring_address(r, (r->ring_address & UINT32_MAX) | (uint64_t)value << 32);
        break;
    case POSTED:
        r->posted = value;
        break;
    default:
        break;
    }
    if (refusal != ERROR_NONE) {
        fail(r, refusal);
    }
}

/* ---- The thread. ---- */

static void *run(void *context)
{
    struct camera *camera = (struct camera *)context;
    pthread_mutex_lock(&camera->lock);
    while (!camera->quit) {
        uint64_t time = now();
        if (!filming(camera)) {
            pthread_cond_wait(&camera->changed, &camera->lock);
            continue;
        }
        if (time < camera->next) {
            struct timespec until;
            until.tv_sec = (time_t)(camera->next / 1000000000u);
            until.tv_nsec = (long)(camera->next % 1000000000u);
            pthread_cond_timedwait(&camera->changed, &camera->lock, &until);
            continue;
        }
        /* Drawing takes a while; a register access need not wait for it. */
        uint32_t number = camera->registers.sequence;
        pthread_mutex_unlock(&camera->lock);
        draw(camera->frame, number);
        pthread_mutex_lock(&camera->lock);
        if (!filming(camera) || number != camera->registers.sequence) {
            continue; /* stopped, or stopped and started, meanwhile */
        }
        take_frame(camera, time);
        /* What the camera was too late for is not made up for. */
        uint64_t period = (uint64_t)camera->registers.period * 1000;
        camera->next = time - camera->next < period ? camera->next + period : time + period;
    }
    pthread_mutex_unlock(&camera->lock);
    return NULL;
}

/* ---- Config space. The host answers for the header; capabilities are ours. ---- */

struct config_dword {
    uint32_t offset;
    uint32_t reset;
    uint32_t writable;
};

static const struct config_dword config_space[] = {
    {0x04, 1u << 20, 0},                              /* status: there is a capability list */
    {0x34, EXPRESS, 0},                               /* where it begins */
    {EXPRESS, 0x00020010 | MSIX << 8, 0},             /* PCI Express version 2, an endpoint */
    {EXPRESS + 0x04, 0x10008021, 0},                  /* function level reset, 256 bytes */
    {EXPRESS_DEVICE_CONTROL, 0x00002810, 0x000079ff}, /* device control and status */
    {EXPRESS + 0x0c, 0x00400011, 0},                  /* link: 2.5 GT/s, one lane */
    {EXPRESS + 0x10, 0x10110000, 0x000002cb},         /* link control and status */
    {EXPRESS + 0x24, 0x00000010, 0},                  /* completion time-outs can be disabled */
    {EXPRESS + 0x28, 0x00000000, 0x00000010},         /* ... and are */
    {EXPRESS + 0x2c, 0x00000002, 0},                  /* link capabilities 2 */
    {EXPRESS + 0x30, 0x00000001, 0},                  /* link control 2 */
    {MSIX, 0x00000011, MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL}, /* one vector */
    {MSIX + 0x04, MSIX_TABLE, 0},                                    /* in BAR 0 */
    {MSIX + 0x08, MSIX_PENDING, 0},                                  /* in BAR 0 */
};

#define CONFIG_DWORDS (sizeof config_space / sizeof config_space[0])
#define EXPRESS_FUNCTION_LEVEL_RESET (1u << 15)

static void write_config(struct camera *camera, uint32_t offset, uint32_t value)
{
    for (size_t i = 0; i < CONFIG_DWORDS; i++) {
        const struct config_dword *dword = &config_space[i];
        if (dword->offset == offset) {
            uint32_t *held = &camera->config[offset / 4];
            *held = (*held & ~dword->writable) | (value & dword->writable);
        }
    }
}

static void reset(struct camera *camera)
{
    struct registers *r = &camera->registers;
    memset(r, 0, sizeof *r);
    r->period = 33333;
    r->ring_size = 4;
    r->msix_entry[3] = 1; /* masked */
    /* A function level reset leaves the control of the link alone. */
    uint32_t link = camera->config[(EXPRESS + 0x10) / 4];
    for (size_t i = 0; i < CONFIG_DWORDS; i++) {
        camera->config[config_space[i].offset / 4] = config_space[i].reset;
    }
    camera->config[(EXPRESS + 0x10) / 4] |= link;
}

/* ---- The callbacks. ---- */

static HRESULT CALLBACK Initialize(void *context)
{
    struct camera *camera = (struct camera *)context;
    reset(camera);
    if (pthread_create(&camera->thread, NULL, run, camera) != 0) {
        return E_OUTOFMEMORY;
    }
    camera->thread_exists = true;
    return S_OK;
}

static void CALLBACK Teardown(void *context)
{
    struct camera *camera = (struct camera *)context;
    if (!camera->thread_exists) {
        return; /* never powered on */
    }
    pthread_mutex_lock(&camera->lock);
    camera->quit = true;
    pthread_cond_signal(&camera->changed);
    pthread_mutex_unlock(&camera->lock);
    pthread_join(camera->thread, NULL);
}

static HRESULT CALLBACK SetConfiguration(void *context, UINT32 count, const PCWSTR *values)
{
    (void)context;
    (void)count;
    (void)values;
    return S_OK;
}

static HRESULT CALLBACK GetDetails(void *context, HDV_PCI_PNP_ID *id, UINT32 count, UINT32 *bars)
{
    (void)context;
    memset(id, 0, sizeof *id);
    id->VendorID = 0x4f48;
    id->DeviceID = 0x0102;
    id->RevisionID = 1;
    id->BaseClass = 0x04; /* multimedia */
    id->SubClass = 0x80;  /* other */
    id->SubVendorID = id->VendorID;
    id->SubSystemID = id->DeviceID;
    memset(bars, 0, count * sizeof *bars);
    bars[0] = ~(BAR0_SIZE - 1) | 0x4; /* 64 bits wide, so BAR 1 is its upper half */
    bars[1] = UINT32_MAX;
    return S_OK;
}

static HRESULT CALLBACK Start(void *context)
{
    struct camera *camera = (struct camera *)context;
    pthread_mutex_lock(&camera->lock);
    camera->started = true;
    camera->next = now();
    pthread_cond_signal(&camera->changed);
    pthread_mutex_unlock(&camera->lock);
    return S_OK;
}

/* Once this returns no frame is taken and no memory written: the thread does so under the lock. */
static void CALLBACK Stop(void *context)
{
    struct camera *camera = (struct camera *)context;
    pthread_mutex_lock(&camera->lock);
    camera->started = false;
    pthread_mutex_unlock(&camera->lock);
}

static HRESULT CALLBACK ReadConfigSpace(void *context, UINT32 offset, UINT32 *value)
{
    struct camera *camera = (struct camera *)context;
    pthread_mutex_lock(&camera->lock);
    *value = offset < CONFIG_END ? camera->config[offset / 4] : 0;
    pthread_mutex_unlock(&camera->lock);
    return S_OK;
}

static HRESULT CALLBACK WriteConfigSpace(void *context, UINT32 offset, UINT32 value)
{
    struct camera *camera = (struct camera *)context;
    pthread_mutex_lock(&camera->lock);
    if (offset == EXPRESS_DEVICE_CONTROL && (value & EXPRESS_FUNCTION_LEVEL_RESET) != 0) {
        reset(camera);
    } else if (offset == 0x04 && !camera->started) {
        /* The table has no callback for a reset of the whole machine: it shows as a write to the command
         * register while virtual processors stand still, which no guest can make. */
        reset(camera);
    } else {
        write_config(camera, offset, value);
        interrupt_if_pending(camera);
    }
    pthread_mutex_unlock(&camera->lock);
    return S_OK;
}

static HRESULT CALLBACK ReadInterceptedMemory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset,
                                              UINT64 length, BYTE *value)
{
    struct camera *camera = (struct camera *)context;
    (void)bar; /* there is one */
    BYTE both[8];
    pthread_mutex_lock(&camera->lock);
    put_u32(both, read_register(camera, offset & ~(UINT64)7));
    put_u32(both + 4, read_register(camera, (offset & ~(UINT64)7) + 4));
    pthread_mutex_unlock(&camera->lock);
    memcpy(value, both + offset % 8, length);
    return S_OK;
}

static HRESULT CALLBACK WriteInterceptedMemory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset,
                                               UINT64 length, const BYTE *value)
{
    struct camera *camera = (struct camera *)context;
    (void)bar;
    if (length < 4) {
        return S_OK; /* registers are whole dwords; narrower writes have no effect */
    }
    pthread_mutex_lock(&camera->lock);
    for (UINT64 i = 0; i < length; i += 4) {
        write_register(camera, offset + i, get_u32(value + i));
    }
    pthread_cond_signal(&camera->changed);
    pthread_mutex_unlock(&camera->lock);
    return S_OK;
}

/* ---- The program. ---- */

/* {0f4b5a0e-62f4-4a8d-9d5c-6b0b3f1c0102}: which emulator this is. */
static const GUID class_id = {
    0x0f4b5a0e, 0x62f4, 0x4a8d, {0x9d, 0x5c, 0x6b, 0x0b, 0x3f, 0x1c, 0x01, 0x02}};

static int failed(const char *what, HRESULT hr)
{
    char text[512];
    OpenHdvGetLastErrorText(text, sizeof text);
    fprintf(stderr, "camera: %s: 0x%08x: %s\n", what, (unsigned)hr, text);
    return 1;
}

int main(int argc, char **argv)
{
    static struct camera camera;
    HDV_PCI_DEVICE_INTERFACE callbacks;
    HCS_SYSTEM system = NULL;
    HDV_HOST host = NULL;
    GUID instance_id;
    char instance[OPENHDV_GUID_TEXT_SIZE];

    if (argc != 3) {
        fprintf(stderr, "usage: camera DIRECTORY INSTANCE-ID\n");
        return 2;
    }

    /* Before there is any thread, so that every one inherits it and sigwait gets the signals. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&camera.lock, NULL);
    pthread_cond_init(&camera.changed, &monotonic);
    camera.origin = now();

    callbacks.Version = HdvPciDeviceInterfaceVersion1;
    callbacks.Initialize = Initialize;
    callbacks.Teardown = Teardown;
    callbacks.SetConfiguration = SetConfiguration;
    callbacks.GetDetails = GetDetails;
    callbacks.Start = Start;
    callbacks.Stop = Stop;
    callbacks.ReadConfigSpace = ReadConfigSpace;
    callbacks.WriteConfigSpace = WriteConfigSpace;
    callbacks.ReadInterceptedMemory = ReadInterceptedMemory;
    callbacks.WriteInterceptedMemory = WriteInterceptedMemory;

    HRESULT hr = OpenHdvParseGuid(argv[2], &instance_id);
    if (FAILED(hr)) {
        return failed(argv[2], hr);
    }
    hr = OpenHdvOpenSocketSystem(argv[1], &system);
    if (FAILED(hr)) {
        return failed(argv[1], hr);
    }
    hr = HdvInitializeDeviceHost(system, &host);
    if (FAILED(hr)) {
        HcsCloseComputeSystem(system);
        return failed("HdvInitializeDeviceHost", hr);
    }
    hr = HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &class_id, &instance_id, &callbacks, &camera,
                                 &camera.device);
    if (SUCCEEDED(hr)) {
        OpenHdvFormatGuid(&instance_id, instance);
        printf("ready %s/%s.sock\n", argv[1], instance);
        fflush(stdout);
        int signal;
        sigwait(&signals, &signal);
    }

    int status = SUCCEEDED(hr) ? 0 : failed("HdvCreateDeviceInstance", hr);
    hr = HdvTeardownDeviceHost(host);
    if (FAILED(hr)) {
        status = failed("HdvTeardownDeviceHost", hr);
    }
    HcsCloseComputeSystem(system);
    return status;
}
