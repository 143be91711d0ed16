/*
 * The sensor, the tutorial device, in C: it samples a sine and delivers the values by register, by a ring
 * in guest memory and by interrupt.
 *
 *     sensor DIRECTORY INSTANCE-ID
 *
 * serves one sensor on <DIRECTORY>/<INSTANCE-ID>.sock until SIGINT or SIGTERM. What its registers
 * promise is told by the documentation of hdv_devices::sensor::registers, the same device in Rust: drivers
 * cannot tell one from the other.
 *
 * In this file, in order: the registers, the state, MSI-X, samples, register accesses, the sampler
 * thread, config space, the ten callbacks, main.
 */
#define _POSIX_C_SOURCE 200809L

#include <openhdv.h>

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

/* ---- Registers of BAR 0. ---- */

#define BAR0_SIZE 0x1000u

#define IDENTIFICATION 0x000
#define VERSION 0x004
#define CONTROL 0x008
#define STATUS 0x00c
#define ERROR 0x010
#define PERIOD 0x014
#define COALESCE 0x018
#define OVERFLOWS 0x01c
#define VALUE 0x020
#define SEQUENCE 0x024
#define TIMESTAMP 0x028 /* 8 bytes */
#define RING_ADDRESS 0x030 /* 8 bytes */
#define RING_SIZE 0x038
#define RING_HEAD 0x03c
#define THRESHOLD_LOW 0x040
#define THRESHOLD_HIGH 0x044
#define SCRATCH 0x048 /* 8 bytes */
#define MSIX_TABLE 0x800
#define MSIX_PENDING 0xc00

#define CONTROL_ENABLE (1u << 0)
#define CONTROL_RING (1u << 1)

#define STATUS_SAMPLES (1u << 0)
#define STATUS_HIGH (1u << 1)
#define STATUS_LOW (1u << 2)
#define STATUS_OVERFLOW (1u << 3)
#define STATUS_ERROR (1u << 4)

#define ERROR_NONE 0u
#define ERROR_PERIOD 1u
#define ERROR_COALESCE 2u
#define ERROR_RING_SIZE 3u
#define ERROR_RING_ALIGNMENT 4u
#define ERROR_RING_MEMORY 5u
#define ERROR_RING_IN_USE 6u

#define RING_ALIGNMENT 64u
#define RING_SIZE_MAX (1u << 20)
#define RING_HEADER_BYTES 128u
#define RING_HEADER_HEAD 0u
#define RING_HEADER_TAIL 64u
#define SAMPLE_BYTES 16u

#define VECTORS 3
#define VECTOR_SAMPLES 0
#define VECTOR_THRESHOLD 1
#define VECTOR_OVERFLOW 2

#define SINE_SAMPLES 1000u
#define SINE_AMPLITUDE 100000

/* ---- State. ---- */

/* Capabilities in config space, and where each one's registers are. */
#define POWER_MANAGEMENT 0x40
#define POWER_CONTROL (POWER_MANAGEMENT + 0x04)
#define EXPRESS 0x48
#define EXPRESS_DEVICE_CONTROL (EXPRESS + 0x08)
#define EXPRESS_LINK_CONTROL (EXPRESS + 0x10)
#define MSIX 0x84
#define CONFIG_END 0x90

/* What a function level reset takes back. */
struct registers {
    uint32_t control;
    uint32_t status;
    uint32_t error;
    uint32_t period;
    uint32_t coalesce;
    uint32_t overflows;
    int32_t value;
    uint32_t sequence;
    uint64_t timestamp;
    uint64_t ring_address;
    uint32_t ring_size;
    uint32_t ring_head;
    int32_t threshold_low;
    int32_t threshold_high;
    uint64_t scratch;

    uint32_t next_sequence;
    uint32_t coalesced; /* samples since the last interrupt for samples */
    bool above;         /* the latest value was above the high threshold */
    bool below;         /* ... below the low one */

    uint32_t msix_table[VECTORS][4]; /* address, upper address, data, vector control */
    uint32_t msix_pending;
};

struct sensor {
    HDV_DEVICE device;

    /* Guards what follows: callbacks and the sampler share it. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct registers registers;
    uint32_t config[CONFIG_END / 4];
    uint64_t origin; /* zero of the sensor's clock */
    uint64_t next;   /* when the next sample is due */
    bool started;    /* virtual processors run */
    bool quit;

    pthread_t sampler;
    bool sampler_exists;
};

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void reset_registers(struct sensor *sensor)
{
    struct registers *r = &sensor->registers;
    memset(r, 0, sizeof *r);
    r->period = 1000000;
    r->coalesce = 1;
    r->ring_size = 256;
    r->threshold_low = INT32_MIN;
    r->threshold_high = INT32_MAX;
    for (int vector = 0; vector < VECTORS; vector++) {
        r->msix_table[vector][3] = 1; /* masked */
    }
}

static bool sampling(const struct sensor *sensor)
{
    return sensor->started && (sensor->registers.control & CONTROL_ENABLE) != 0;
}

/* ---- MSI-X. The host writes messages of its own into the table; we deliver what stands there. ---- */

#define MSIX_CONTROL_ENABLE (1u << 31)
#define MSIX_CONTROL_MASK_ALL (1u << 30)

static void signal_vector(struct sensor *sensor, int vector)
{
    struct registers *r = &sensor->registers;
    const uint32_t *entry = r->msix_table[vector];
    uint32_t control = sensor->config[MSIX / 4];
    if ((control & MSIX_CONTROL_ENABLE) == 0) {
        return;
    }
    if ((control & MSIX_CONTROL_MASK_ALL) != 0 || (entry[3] & 1) != 0) {
        r->msix_pending |= 1u << vector;
        return;
    }
    r->msix_pending &= ~(1u << vector);
    /* A failure is the interrupt of a virtual machine that is about to go. */
    HdvDeliverGuestInterrupt(sensor->device, (uint64_t)entry[1] << 32 | entry[0], entry[2]);
}

/* After a mask or the control word has changed. */
static void signal_pending(struct sensor *sensor)
{
    for (int vector = 0; vector < VECTORS; vector++) {
        if ((sensor->registers.msix_pending & 1u << vector) != 0) {
            signal_vector(sensor, vector);
        }
    }
}

/* ---- Samples. ---- */

/* Bhaskara's approximation, in integers, so that drivers can compute the same. */
static int32_t sine_value(uint32_t sequence)
{
    const int64_t half = SINE_SAMPLES / 2;
    int64_t phase = sequence % SINE_SAMPLES;
    int64_t x = phase % half;
    int64_t product = x * (half - x);
    int64_t magnitude = 16 * (int64_t)SINE_AMPLITUDE * product / (5 * half * half - 4 * product);
    return (int32_t)(phase < half ? magnitude : -magnitude);
}

static void fail(struct registers *r, uint32_t reason)
{
    r->error = reason;
    r->status |= STATUS_ERROR;
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

static HRESULT write_index(struct sensor *sensor, uint32_t offset, uint32_t index)
{
    BYTE bytes[4];
    put_u32(bytes, index);
    return HdvWriteGuestMemory(sensor->device, sensor->registers.ring_address + offset, sizeof bytes,
                               bytes);
}

static HRESULT read_tail(struct sensor *sensor, uint32_t *tail)
{
    BYTE bytes[4] = {0};
    HRESULT hr = HdvReadGuestMemory(
        sensor->device, sensor->registers.ring_address + RING_HEADER_TAIL, sizeof bytes, bytes);
    *tail = get_u32(bytes);
    return hr;
}

/* Checks that the ring is guest memory, all of it, and empties it. */
static HRESULT clear_ring(struct sensor *sensor)
{
    const struct registers *r = &sensor->registers;
    void *mapped = NULL;
    /* An aperture there can only be where the whole range can be written. */
    HRESULT hr = HdvCreateGuestMemoryAperture(sensor->device, r->ring_address,
                                              RING_HEADER_BYTES + r->ring_size * SAMPLE_BYTES,
                                              FALSE, &mapped);
    if (FAILED(hr)) {
        return hr;
    }
    HdvDestroyGuestMemoryAperture(sensor->device, mapped);
    hr = write_index(sensor, RING_HEADER_HEAD, 0);
    if (SUCCEEDED(hr)) {
        hr = write_index(sensor, RING_HEADER_TAIL, 0);
    }
    return hr;
}

/* Writes the latest sample to the ring; *added is false when that is full. */
static HRESULT add_to_ring(struct sensor *sensor, uint32_t *tail, bool *added)
{
    struct registers *r = &sensor->registers;
    *added = false;
    if (r->ring_head - *tail >= r->ring_size) {
        HRESULT hr = read_tail(sensor, tail);
        if (FAILED(hr) || r->ring_head - *tail >= r->ring_size) {
            return hr;
        }
    }
    BYTE sample[SAMPLE_BYTES];
    put_u32(sample, (uint32_t)r->timestamp);
    put_u32(sample + 4, (uint32_t)(r->timestamp >> 32));
    put_u32(sample + 8, (uint32_t)r->value);
    put_u32(sample + 12, r->sequence);
    uint64_t slot = r->ring_head & (r->ring_size - 1);
    HRESULT hr = HdvWriteGuestMemory(sensor->device,
                                     r->ring_address + RING_HEADER_BYTES + slot * SAMPLE_BYTES,
                                     sizeof sample, sample);
    if (SUCCEEDED(hr)) {
        r->ring_head++;
        *added = true;
    }
    return hr;
}

/* The status bits that a value sets. */
static uint32_t compare(struct registers *r, int32_t value)
{
    bool above = value > r->threshold_high;
    bool below = value < r->threshold_low;
    uint32_t crossed = (above && !r->above ? STATUS_HIGH : 0) | (below && !r->below ? STATUS_LOW : 0);
    r->above = above;
    r->below = below;
    return crossed;
}

/* Takes the samples that are due, at most `most`. Interrupts come after all of them are visible. */
static void take_samples(struct sensor *sensor, uint64_t time, int most)
{
    struct registers *r = &sensor->registers;
    uint32_t raised = 0;
    uint32_t tail = 0;
    HRESULT hr = S_OK;
    if ((r->control & CONTROL_RING) != 0) {
        hr = read_tail(sensor, &tail);
    }
    for (; most > 0 && sensor->next <= time; most--) {
        r->sequence = r->next_sequence++;
        r->value = sine_value(r->sequence);
        r->timestamp = sensor->next - sensor->origin;
        sensor->next += (uint64_t)r->period * 1000;

        raised |= compare(r, r->value);
        bool added = true;
        if (SUCCEEDED(hr) && (r->control & CONTROL_RING) != 0) {
            hr = add_to_ring(sensor, &tail, &added);
        }
        if (added || FAILED(hr)) {
            r->coalesced += r->coalesced < UINT32_MAX;
        } else {
            r->overflows += r->overflows < UINT32_MAX;
            raised |= STATUS_OVERFLOW & ~r->status;
            r->status |= STATUS_OVERFLOW;
        }
    }
    if (SUCCEEDED(hr) && (r->control & CONTROL_RING) != 0) {
        /* The driver must not see the head before what is below it. */
        __atomic_thread_fence(__ATOMIC_RELEASE);
        hr = write_index(sensor, RING_HEADER_HEAD, r->ring_head);
    }
    if (FAILED(hr)) {
        /* The ring's memory is gone. */
        r->control &= ~CONTROL_RING;
        fail(r, ERROR_RING_MEMORY);
    }
    if (r->coalesced >= r->coalesce) {
        r->coalesced = 0;
        raised |= STATUS_SAMPLES;
    }
    r->status |= raised;
    if ((raised & STATUS_SAMPLES) != 0) {
        signal_vector(sensor, VECTOR_SAMPLES);
    }
    if ((raised & (STATUS_HIGH | STATUS_LOW)) != 0) {
        signal_vector(sensor, VECTOR_THRESHOLD);
    }
    if ((raised & STATUS_OVERFLOW) != 0) {
        signal_vector(sensor, VECTOR_OVERFLOW);
    }
}

/* ---- Register accesses, in aligned dwords. ---- */

static uint32_t read_register(const struct sensor *sensor, uint64_t offset)
{
    const struct registers *r = &sensor->registers;
    if (offset >= MSIX_TABLE && offset < MSIX_TABLE + sizeof r->msix_table) {
        return r->msix_table[(offset - MSIX_TABLE) / 16][offset / 4 % 4];
    }
    switch (offset) {
    case IDENTIFICATION:
        return 0x52534e53; /* "SNSR" */
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
    case COALESCE:
        return r->coalesce;
    case OVERFLOWS:
        return r->overflows;
    case VALUE:
        return (uint32_t)r->value;
    case SEQUENCE:
        return r->sequence;
    case TIMESTAMP:
        return (uint32_t)r->timestamp;
    case TIMESTAMP + 4:
        return (uint32_t)(r->timestamp >> 32);
    case RING_ADDRESS:
        return (uint32_t)r->ring_address;
    case RING_ADDRESS + 4:
        return (uint32_t)(r->ring_address >> 32);
    case RING_SIZE:
        return r->ring_size;
    case RING_HEAD:
        return r->ring_head;
    case THRESHOLD_LOW:
        return (uint32_t)r->threshold_low;
    case THRESHOLD_HIGH:
        return (uint32_t)r->threshold_high;
    case SCRATCH:
        return (uint32_t)r->scratch;
    case SCRATCH + 4:
        return (uint32_t)(r->scratch >> 32);
    case MSIX_PENDING:
        return r->msix_pending;
    default:
        return 0;
    }
}

/* Each of these returns why a setting is refused, or ERROR_NONE. A refusal changes nothing. */

static uint32_t set_control(struct sensor *sensor, uint32_t control)
{
    struct registers *r = &sensor->registers;
    control &= CONTROL_ENABLE | CONTROL_RING;
    uint32_t set = control & ~r->control;
    bool starts = (set & CONTROL_ENABLE) != 0;
    if ((control & CONTROL_RING) != 0 && set != 0) {
        if (FAILED(clear_ring(sensor))) {
            return ERROR_RING_MEMORY;
        }
        r->ring_head = 0;
        r->coalesced = 0;
    }
    if (starts) {
        r->next_sequence = 0;
        r->ring_head = 0;
        r->overflows = 0;
        r->coalesced = 0;
        r->above = false;
        r->below = false;
        sensor->next = now();
    }
    r->control = control;
    return ERROR_NONE;
}

static uint32_t set_period(struct sensor *sensor, uint32_t period)
{
    if (period == 0) {
        return ERROR_PERIOD;
    }
    uint64_t next = now() + (uint64_t)period * 1000;
    if (sensor->next > next) {
        sensor->next = next; /* a shorter period counts from now on */
    }
    sensor->registers.period = period;
    return ERROR_NONE;
}

static uint32_t set_coalesce(struct sensor *sensor, uint32_t coalesce)
{
    if (coalesce == 0) {
        return ERROR_COALESCE;
    }
    sensor->registers.coalesce = coalesce;
    return ERROR_NONE;
}

static uint32_t set_ring_size(struct sensor *sensor, uint32_t size)
{
    if ((sensor->registers.control & CONTROL_RING) != 0) {
        return ERROR_RING_IN_USE;
    }
    if (size < 2 || size > RING_SIZE_MAX || (size & (size - 1)) != 0) {
        return ERROR_RING_SIZE;
    }
    sensor->registers.ring_size = size;
    return ERROR_NONE;
}

static uint32_t set_ring_address(struct sensor *sensor, uint64_t address)
{
    if ((sensor->registers.control & CONTROL_RING) != 0) {
        return ERROR_RING_IN_USE;
    }
    if (address % RING_ALIGNMENT != 0) {
        return ERROR_RING_ALIGNMENT;
    }
    sensor->registers.ring_address = address;
    return ERROR_NONE;
}

/* `value` is what the register would hold; `written` the bits that are ones in the write itself. */
static void write_register(struct sensor *sensor, uint64_t offset, uint32_t value, uint32_t written)
{
    struct registers *r = &sensor->registers;
    uint32_t refusal = ERROR_NONE;
    if (offset >= MSIX_TABLE && offset < MSIX_TABLE + sizeof r->msix_table) {
        r->msix_table[(offset - MSIX_TABLE) / 16][offset / 4 % 4] = value;
        signal_pending(sensor);
        return;
    }
    switch (offset) {
    case CONTROL:
        refusal = set_control(sensor, value);
        break;
    case STATUS:
        r->status &= ~written;
        break;
    case PERIOD:
        refusal = set_period(sensor, value);
        break;
    case COALESCE:
        refusal = set_coalesce(sensor, value);
        break;
    case RING_ADDRESS:
        refusal = set_ring_address(sensor, (r->ring_address & ~(uint64_t)UINT32_MAX) | value);
        break;
    case RING_ADDRESS + 4:
        refusal = set_ring_address(sensor, (r->ring_address & UINT32_MAX) | (uint64_t)value << 32);
        break;
    case RING_SIZE:
        refusal = set_ring_size(sensor, value);
        break;
    case THRESHOLD_LOW:
        r->threshold_low = (int32_t)value;
        break;
    case THRESHOLD_HIGH:
        r->threshold_high = (int32_t)value;
        break;
    case SCRATCH:
        r->scratch = (r->scratch & ~(uint64_t)UINT32_MAX) | value;
        break;
    case SCRATCH + 4:
        r->scratch = (r->scratch & UINT32_MAX) | (uint64_t)value << 32;
        break;
    default:
        break;
    }
    if (refusal != ERROR_NONE) {
        fail(r, refusal);
    }
}

/* ---- The sampler. ---- */

/* Samples taken under one hold of the lock, so that a register access never waits long. */
#define BATCH 256
/* A sensor that fell behind this far, because its process was stopped, gives up what it missed. */
#define BEHIND 1000000000u

static void *run_sampler(void *context)
{
    struct sensor *sensor = (struct sensor *)context;
    pthread_mutex_lock(&sensor->lock);
    while (!sensor->quit) {
        uint64_t time = now();
        if (!sampling(sensor)) {
            pthread_cond_wait(&sensor->changed, &sensor->lock);
        } else if (time < sensor->next) {
            struct timespec until;
            until.tv_sec = (time_t)(sensor->next / 1000000000u);
            until.tv_nsec = (long)(sensor->next % 1000000000u);
            pthread_cond_timedwait(&sensor->changed, &sensor->lock, &until);
        } else {
            if (time - sensor->next > BEHIND) {
                sensor->next = time;
            }
            take_samples(sensor, time, BATCH);
            /* Let a register access have the lock. */
            pthread_mutex_unlock(&sensor->lock);
            sched_yield();
            pthread_mutex_lock(&sensor->lock);
        }
    }
    pthread_mutex_unlock(&sensor->lock);
    return NULL;
}

/* ---- Config space. The host answers for the header; capabilities are ours. ---- */

struct config_dword {
    uint32_t offset;
    uint32_t reset;
    uint32_t writable;
};

static const struct config_dword config_space[] = {
    {0x04, 1u << 20, 0},                                  /* status: there is a capability list */
    {0x34, POWER_MANAGEMENT, 0},                          /* where it begins */
    {POWER_MANAGEMENT, 0x00030001 | EXPRESS << 8, 0},     /* version 3: D0 and D3hot */
    {POWER_CONTROL, 0x00000008, 0x00000003},              /* no soft reset; power state */
    {EXPRESS, 0x00020010 | MSIX << 8, 0},                 /* version 2, an endpoint */
    {EXPRESS + 0x04, 0x10008021, 0},                      /* function level reset, 256 bytes */
    {EXPRESS_DEVICE_CONTROL, 0x00002810, 0x000079ff},     /* device control and status */
    {EXPRESS + 0x0c, 0x00400011, 0},                      /* link: 2.5 GT/s, one lane */
    {EXPRESS_LINK_CONTROL, 0x10110000, 0x000002cb},       /* link control and status */
    {EXPRESS + 0x24, 0x00000010, 0},                      /* completion time-outs can be disabled */
    {EXPRESS + 0x28, 0x00000000, 0x00000010},             /* ... and are */
    {EXPRESS + 0x2c, 0x00000002, 0},                      /* link capabilities 2 */
    {EXPRESS + 0x30, 0x00000001, 0},                      /* link control 2 */
    {MSIX, 0x00000011 | (VECTORS - 1) << 16,              /* as many vectors */
     MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL},
    {MSIX + 0x04, MSIX_TABLE, 0},   /* in BAR 0 */
    {MSIX + 0x08, MSIX_PENDING, 0}, /* in BAR 0 */
};

#define CONFIG_DWORDS (sizeof config_space / sizeof config_space[0])
#define EXPRESS_FUNCTION_LEVEL_RESET (1u << 15)

static void reset_config(struct sensor *sensor)
{
    /* A function level reset leaves the control of the link alone. */
    uint32_t link = sensor->config[EXPRESS_LINK_CONTROL / 4];
    for (size_t i = 0; i < CONFIG_DWORDS; i++) {
        sensor->config[config_space[i].offset / 4] = config_space[i].reset;
    }
    sensor->config[EXPRESS_LINK_CONTROL / 4] |= link;
}

static void write_config(struct sensor *sensor, uint32_t offset, uint32_t value)
{
    for (size_t i = 0; i < CONFIG_DWORDS; i++) {
        const struct config_dword *dword = &config_space[i];
        if (dword->offset == offset) {
            uint32_t *held = &sensor->config[offset / 4];
            *held = (*held & ~dword->writable) | (value & dword->writable);
        }
    }
}

static void reset(struct sensor *sensor)
{
    reset_registers(sensor);
    reset_config(sensor);
}

/* ---- The callbacks. ---- */

static HRESULT CALLBACK Initialize(void *context)
{
    struct sensor *sensor = (struct sensor *)context;
    reset(sensor);
    if (pthread_create(&sensor->sampler, NULL, run_sampler, sensor) != 0) {
        return E_OUTOFMEMORY;
    }
    sensor->sampler_exists = true;
    return S_OK;
}

static void CALLBACK Teardown(void *context)
{
    struct sensor *sensor = (struct sensor *)context;
    if (!sensor->sampler_exists) {
        return; /* never powered on */
    }
    pthread_mutex_lock(&sensor->lock);
    sensor->quit = true;
    pthread_cond_signal(&sensor->changed);
    pthread_mutex_unlock(&sensor->lock);
    pthread_join(sensor->sampler, NULL);
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
    id->DeviceID = 0x0001;
    id->RevisionID = 1;
    id->BaseClass = 0x11; /* signal processing */
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
    struct sensor *sensor = (struct sensor *)context;
    pthread_mutex_lock(&sensor->lock);
    sensor->started = true;
    sensor->next = now();
    pthread_cond_signal(&sensor->changed);
    pthread_mutex_unlock(&sensor->lock);
    return S_OK;
}

/* Once this returns no sample is taken and no memory written: the sampler does so under the lock. */
static void CALLBACK Stop(void *context)
{
    struct sensor *sensor = (struct sensor *)context;
    pthread_mutex_lock(&sensor->lock);
    sensor->started = false;
    pthread_mutex_unlock(&sensor->lock);
}

static HRESULT CALLBACK ReadConfigSpace(void *context, UINT32 offset, UINT32 *value)
{
    struct sensor *sensor = (struct sensor *)context;
    pthread_mutex_lock(&sensor->lock);
    *value = offset < CONFIG_END ? sensor->config[offset / 4] : 0;
    pthread_mutex_unlock(&sensor->lock);
    return S_OK;
}

static HRESULT CALLBACK WriteConfigSpace(void *context, UINT32 offset, UINT32 value)
{
    struct sensor *sensor = (struct sensor *)context;
    pthread_mutex_lock(&sensor->lock);
    if (offset == EXPRESS_DEVICE_CONTROL && (value & EXPRESS_FUNCTION_LEVEL_RESET) != 0) {
        reset(sensor);
    } else if (offset == 0x04 && !sensor->started) {
        /* The table has no callback for a reset of the whole machine: it shows as a write to the command
         * register while virtual processors stand still, which no guest can make. */
        reset(sensor);
    } else {
        write_config(sensor, offset, value);
        signal_pending(sensor);
    }
    pthread_mutex_unlock(&sensor->lock);
    return S_OK;
}

static HRESULT CALLBACK ReadInterceptedMemory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset,
                                              UINT64 length, BYTE *value)
{
    struct sensor *sensor = (struct sensor *)context;
    (void)bar; /* there is one */
    BYTE both[8];
    pthread_mutex_lock(&sensor->lock);
    put_u32(both, read_register(sensor, offset & ~(UINT64)7));
    put_u32(both + 4, read_register(sensor, (offset & ~(UINT64)7) + 4));
    pthread_mutex_unlock(&sensor->lock);
    memcpy(value, both + offset % 8, length);
    return S_OK;
}

static HRESULT CALLBACK WriteInterceptedMemory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset,
                                               UINT64 length, const BYTE *value)
{
    struct sensor *sensor = (struct sensor *)context;
    (void)bar;
    pthread_mutex_lock(&sensor->lock);
    /* A narrow write changes the bytes it names and no others of their dword. */
    for (UINT64 dword = offset & ~(UINT64)3; dword < offset + length; dword += 4) {
        BYTE held[4], written[4] = {0};
        put_u32(held, read_register(sensor, dword));
        for (UINT64 i = 0; i < 4; i++) {
            if (dword + i >= offset && dword + i < offset + length) {
                held[i] = written[i] = value[dword + i - offset];
            }
        }
        write_register(sensor, dword, get_u32(held), get_u32(written));
    }
    pthread_cond_signal(&sensor->changed);
    pthread_mutex_unlock(&sensor->lock);
    return S_OK;
}

/* ---- The program. ---- */

/* {0f4b5a0e-62f4-4a8d-9d5c-6b0b3f1c0001}: which emulator this is. */
static const GUID class_id = {
    0x0f4b5a0e, 0x62f4, 0x4a8d, {0x9d, 0x5c, 0x6b, 0x0b, 0x3f, 0x1c, 0x00, 0x01}};

static int failed(const char *what, HRESULT hr)
{
    char text[512];
    OpenHdvGetLastErrorText(text, sizeof text);
    fprintf(stderr, "sensor: %s: 0x%08x: %s\n", what, (unsigned)hr, text);
    return 1;
}

int main(int argc, char **argv)
{
    static struct sensor sensor;
    HDV_PCI_DEVICE_INTERFACE callbacks;
    HCS_SYSTEM system = NULL;
    HDV_HOST host = NULL;
    GUID instance_id;
    char instance[OPENHDV_GUID_TEXT_SIZE];

    if (argc != 3) {
        fprintf(stderr, "usage: sensor DIRECTORY INSTANCE-ID\n");
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
    pthread_mutex_init(&sensor.lock, NULL);
    pthread_cond_init(&sensor.changed, &monotonic);
    sensor.origin = now();

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
    hr = HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &class_id, &instance_id, &callbacks, &sensor,
                                 &sensor.device);
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
