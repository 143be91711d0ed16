/*
 * The lab's program: `lab DIRECTORY` serves its eight devices, on two device hosts, on sockets in the
 * directory until SIGINT or SIGTERM. Here is what the devices have in common; what each does is in its own
 * file.
 *
 * Prints "device NAME INSTANCE-ID SOCKET" for each and then "ready". Ends with 0 if every call succeeded and
 * every device was torn down exactly once.
 */
#define _GNU_SOURCE
#include "lab.h"

#include <openhdv.h>

#include <computecore.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const struct lab_behaviour *const behaviours[LAB_DEVICES] = {
    [LAB_ZEROS] = &lab_zeros,     [LAB_SECTIONS] = &lab_sections, [LAB_LATE] = &lab_late,
    [LAB_DOORBELLS] = &lab_doorbells, [LAB_RESET] = &lab_reset,   [LAB_DMA] = &lab_dma,
    [LAB_FAILING] = &lab_failing, [LAB_DOOMED] = &lab_doomed,
};

/* Which calls came out of order, for LAB_STATE. */
enum disorder {
    INITIALIZED_AGAIN = 1,
    STARTED_BEFORE_INITIALIZED = 2,
    STARTED_AGAIN = 4,
    STOPPED_UNSTARTED = 8,
    TORN_DOWN_STARTED = 16,
    READ_UNSTARTED = 32,
    CALLED_AFTER_TEARDOWN = 64,
};

HANDLE lab_handle(int descriptor)
{
    return OPENHDV_HANDLE_FROM_DESCRIPTOR(descriptor);
}

HRESULT lab_memory_make(struct lab_memory *memory, size_t pages)
{
    memory->length = pages * LAB_PAGE;
    memory->file = memfd_create("openhdv-lab", MFD_CLOEXEC);
    if (memory->file < 0 || ftruncate(memory->file, (off_t)memory->length) != 0)
        return E_OUTOFMEMORY;
    memory->bytes = mmap(NULL, memory->length, PROT_READ | PROT_WRITE, MAP_SHARED, memory->file, 0);
    if (memory->bytes == MAP_FAILED) {
        memory->bytes = NULL;
        return E_OUTOFMEMORY;
    }
    return S_OK;
}

void lab_memory_free(struct lab_memory *memory)
{
    if (memory->bytes != NULL) {
        munmap(memory->bytes, memory->length);
        memory->bytes = NULL;
    }
    if (memory->file > 0) {
        close(memory->file);
        memory->file = -1;
    }
}

UINT32 lab_pattern(UINT32 seed, UINT32 index)
{
    return (seed + 1) * 0x01000193u ^ (index + 1) * 0x9e3779b1u;
}

void lab_fill(volatile UINT32 *words, size_t count, UINT32 seed)
{
    for (size_t index = 0; index < count; index++)
        words[index] = lab_pattern(seed, (UINT32)index);
}

UINT32 lab_sum(const volatile UINT32 *words, size_t count)
{
    UINT32 sum = 0;
    for (size_t index = 0; index < count; index++)
        sum = ((sum << 5 | sum >> 27) ^ words[index]) * 0x9e3779b1u;
    return sum;
}

static struct lab_device *enter(void *context)
{
    struct lab_device *device = context;
    if (__atomic_fetch_add(&device->inside, 1, __ATOMIC_SEQ_CST) != 0)
        device->overlaps++;
    if (device->teardowns != 0)
        device->disorder |= CALLED_AFTER_TEARDOWN;
    return device;
}

static void leave(struct lab_device *device)
{
    __atomic_fetch_sub(&device->inside, 1, __ATOMIC_SEQ_CST);
}

static HRESULT CALLBACK initialize(void *context)
{
    struct lab_device *device = enter(context);
    if (device->initialized)
        device->disorder |= INITIALIZED_AGAIN;
    device->initialized = 1;
    leave(device);
    return S_OK;
}

static void CALLBACK teardown(void *context)
{
    struct lab_device *device = enter(context);
    if (device->started)
        device->disorder |= TORN_DOWN_STARTED;
    if (device->behaviour->teardown != NULL)
        device->behaviour->teardown(device);
    device->teardowns++;
    leave(device);
}

static HRESULT CALLBACK set_configuration(void *context, UINT32 count, const PCWSTR *values)
{
    struct lab_device *device = enter(context);
    (void)values;
    leave(device);
    return count == 0 ? S_OK : E_INVALIDARG;
}

static HRESULT CALLBACK get_details(void *context, HDV_PCI_PNP_ID *id, UINT32 count, UINT32 *probed_bars)
{
    struct lab_device *device = enter(context);
    memset(id, 0, sizeof *id);
    id->VendorID = LAB_VENDOR_ID;
    id->DeviceID = (UINT16)(LAB_DEVICE_ID + device->index);
    id->BaseClass = LAB_CLASS >> 16;
    id->SubVendorID = LAB_VENDOR_ID;
    id->SubSystemID = (UINT16)device->index;
    for (UINT32 bar = 0; bar < count && bar < HDV_PCI_BAR_COUNT; bar++)
        probed_bars[bar] = device->behaviour->probed_bars[bar];
    leave(device);
    return S_OK;
}

static HRESULT CALLBACK start(void *context)
{
    struct lab_device *device = enter(context);
    HRESULT result = S_OK;
    if (!device->initialized)
        device->disorder |= STARTED_BEFORE_INITIALIZED;
    if (device->started)
        device->disorder |= STARTED_AGAIN;
    device->started = 1;
    device->starts++;
    if (device->behaviour->start != NULL)
        result = device->behaviour->start(device);
    leave(device);
    return result;
}

static void CALLBACK stop(void *context)
{
    struct lab_device *device = enter(context);
    if (!device->started)
        device->disorder |= STOPPED_UNSTARTED;
    device->started = 0;
    device->stops++;
    leave(device);
}

static HRESULT CALLBACK read_config(void *context, UINT32 offset, UINT32 *value)
{
    struct lab_device *device = enter(context);
    HRESULT result = S_OK;
    device->config_reads++;
    *value = 0;
    if (device->behaviour->read_config != NULL)
        result = device->behaviour->read_config(device, offset, value);
    leave(device);
    return result;
}

static HRESULT CALLBACK write_config(void *context, UINT32 offset, UINT32 value)
{
    struct lab_device *device = enter(context);
    HRESULT result = S_OK;
    device->config_writes++;
    if (device->behaviour->write_config != NULL)
        result = device->behaviour->write_config(device, offset, value);
    leave(device);
    return result;
}

static UINT32 read_register(struct lab_device *device, UINT64 offset)
{
    switch (offset) {
    case LAB_MAGIC:
        return LAB_MAGIC_VALUE;
    case LAB_INDEX:
        return device->index;
    case LAB_RESULT:
        return (UINT32)device->result;
    case LAB_STARTS:
        return device->starts;
    case LAB_STOPS:
        return device->stops;
    case LAB_CONFIG_READS:
        return device->config_reads;
    case LAB_CONFIG_WRITES:
        return device->config_writes;
    case LAB_OVERLAPS:
        return device->overlaps;
    case LAB_SCRATCH:
        return (UINT32)device->scratch;
    case LAB_SCRATCH + 4:
        return (UINT32)(device->scratch >> 32);
    case LAB_STATE:
        return device->disorder;
    default:
        if (device->behaviour->read_register != NULL)
            return device->behaviour->read_register(device, offset);
        return 0;
    }
}

static void write_register(struct lab_device *device, UINT64 offset, UINT32 value)
{
    switch (offset) {
    case LAB_SCRATCH:
        device->scratch = (device->scratch & 0xffffffff00000000u) | value;
        break;
    case LAB_SCRATCH + 4:
        device->scratch = (device->scratch & 0xffffffffu) | (UINT64)value << 32;
        break;
    default:
        if (device->behaviour->write_register != NULL)
            device->behaviour->write_register(device, offset, value);
        break;
    }
}

static int is_register(const struct lab_device *device, HDV_PCI_BAR_SELECTOR bar, UINT64 offset)
{
    UINT64 end = device->behaviour->registers_end;
    return bar == HDV_PCI_BAR0 && offset < (end != 0 ? end : LAB_PAGE);
}

static HRESULT CALLBACK read_memory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length,
                                    BYTE *bytes)
{
    struct lab_device *device = enter(context);
    HRESULT result = S_OK;
    UINT64 value = 0;
    if (!device->started)
        device->disorder |= READ_UNSTARTED;
    if (is_register(device, bar, offset)) {
        UINT64 aligned = offset & ~(UINT64)3;
        value = read_register(device, aligned);
        if (length == 8)
            value |= (UINT64)read_register(device, aligned + 4) << 32;
        value >>= 8 * (offset - aligned);
    } else if (device->behaviour->read != NULL) {
        result = device->behaviour->read(device, (UINT32)bar, offset, length, &value);
    }
    memcpy(bytes, &value, (size_t)length);
    leave(device);
    return result;
}

static HRESULT CALLBACK write_memory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length,
                                     const BYTE *bytes)
{
    struct lab_device *device = enter(context);
    HRESULT result = S_OK;
    UINT64 value = 0;
    memcpy(&value, bytes, (size_t)length);
    /* Also without Start: the host writes to the MSI-X table when the guest has left. */
    if (!is_register(device, bar, offset)) {
        if (device->behaviour->write != NULL)
            result = device->behaviour->write(device, (UINT32)bar, offset, length, value);
    } else if (length >= 4) {
        write_register(device, offset, (UINT32)value);
        if (length == 8)
            write_register(device, offset + 4, (UINT32)(value >> 32));
    }
    leave(device);
    return result;
}

static int failures;

static HRESULT checked(const char *what, HRESULT result)
{
    if (FAILED(result)) {
        char text[512];
        OpenHdvGetLastErrorText(text, sizeof text);
        fprintf(stderr, "lab: %s: 0x%08x: %s\n", what, (unsigned)result, text);
        failures++;
    }
    return result;
}

/* One request at most is under way: the host is gone afterwards. */
static struct {
    pthread_t thread;
    int begun;
    HDV_HOST host;
    HRESULT result;
} doom;

static void *tear_down(void *nothing)
{
    doom.result = HdvTeardownDeviceHost(doom.host);
    return nothing;
}

void lab_doom(HDV_HOST host)
{
    if (doom.begun)
        return;
    doom.host = host;
    doom.begun = pthread_create(&doom.thread, NULL, tear_down, NULL) == 0;
}

static GUID instance_id(UINT32 index)
{
    GUID id = {LAB_VENDOR_ID << 16 | (LAB_DEVICE_ID + index), 0, 0x4000, {0x80, 0, 0, 0, 0, 0, 0, 0}};
    return id;
}

static HRESULT create(struct lab_device *device, UINT32 index, HDV_HOST host, const char *directory)
{
    static const GUID class_id = {0x4f48c1a5, 0, 0x4000, {0x80, 0, 0, 0, 0, 0, 0, 1}};
    /* On the stack: the library copies the table. */
    HDV_PCI_DEVICE_INTERFACE callbacks = {
        .Version = HdvPciDeviceInterfaceVersion1,
        .Initialize = initialize,
        .Teardown = teardown,
        .SetConfiguration = set_configuration,
        .GetDetails = get_details,
        .Start = start,
        .Stop = stop,
        .ReadConfigSpace = read_config,
        .WriteConfigSpace = write_config,
        .ReadInterceptedMemory = read_memory,
        .WriteInterceptedMemory = write_memory,
    };
    GUID id = instance_id(index);
    char text[OPENHDV_GUID_TEXT_SIZE];
    HRESULT result;

    device->behaviour = behaviours[index];
    device->index = index;
    device->host = host;
    device->state = calloc(1, device->behaviour->state_bytes + 1);
    if (device->state == NULL)
        return E_OUTOFMEMORY;
    result = HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &class_id, &id, &callbacks, device,
                                     &device->handle);
    memset(&callbacks, 0, sizeof callbacks);
    if (SUCCEEDED(result) && SUCCEEDED(result = OpenHdvFormatGuid(&id, text)))
        printf("device %s %s %s/%s.sock\n", device->behaviour->name, text, directory, text);
    return result;
}

int main(int count, char **arguments)
{
    static struct lab_device devices[LAB_DEVICES];
    HCS_SYSTEM system = NULL;
    HDV_HOST host = NULL, doomed_host = NULL;
    sigset_t signals;
    int received;

    if (count != 2) {
        fprintf(stderr, "usage: lab DIRECTORY\n");
        return 2;
    }
    /* Before the library makes threads, so that they inherit it. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    if (FAILED(checked("OpenHdvOpenSocketSystem", OpenHdvOpenSocketSystem(arguments[1], &system))) ||
        FAILED(checked("HdvInitializeDeviceHost", HdvInitializeDeviceHost(system, &host))) ||
        FAILED(checked("HdvInitializeDeviceHost, another", HdvInitializeDeviceHost(system, &doomed_host))))
        return 1;
    for (UINT32 index = 0; index < LAB_DEVICES; index++)
        checked(behaviours[index]->name,
                create(&devices[index], index, index == LAB_DOOMED ? doomed_host : host, arguments[1]));
    if (failures == 0) {
        printf("ready\n");
        fflush(stdout);
        sigwait(&signals, &received);
    }

    if (doom.begun) {
        pthread_join(doom.thread, NULL);
        checked("HdvTeardownDeviceHost, as the guest wished", doom.result);
        if (HdvTeardownDeviceHost(doomed_host) != E_HANDLE) {
            fprintf(stderr, "lab: a host that was torn down is still one\n");
            failures++;
        }
    } else {
        checked("HdvTeardownDeviceHost, another", HdvTeardownDeviceHost(doomed_host));
    }
    checked("HdvTeardownDeviceHost", HdvTeardownDeviceHost(host));
    HcsCloseComputeSystem(system);
    for (UINT32 index = 0; index < LAB_DEVICES; index++) {
        struct lab_device *device = &devices[index];
        if (device->handle != NULL && (device->teardowns != 1 || device->disorder != 0 || device->overlaps != 0)) {
            fprintf(stderr, "lab: %s: Teardown %u times, out of order %#x, overlapping %u times\n",
                    device->behaviour->name, (unsigned)device->teardowns, (unsigned)device->disorder,
                    (unsigned)device->overlaps);
            failures++;
        }
        free(device->state);
    }
    return failures == 0 ? 0 : 1;
}
