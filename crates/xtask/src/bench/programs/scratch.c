/* The device that is measured, in C: plain memory in a BAR, so that the time of an access is the library's. Serves
 * it on <DIRECTORY>/<INSTANCE-ID>.sock, on one processor, until SIGTERM. */
#define _GNU_SOURCE
#include <openhdv.h>

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define MEMORY_BYTES 2048

struct scratch {
    BYTE memory[MEMORY_BYTES];
};

static HRESULT CALLBACK succeed(void *context)
{
    (void)context;
    return S_OK;
}

static void CALLBACK nothing(void *context)
{
    (void)context;
}

static HRESULT CALLBACK set_configuration(void *context, UINT32 count, const PCWSTR *values)
{
    (void)context;
    (void)count;
    (void)values;
    return S_OK;
}

static HRESULT CALLBACK get_details(void *context, HDV_PCI_PNP_ID *id, UINT32 count, UINT32 *bars)
{
    (void)context;
    memset(id, 0, sizeof *id);
    id->VendorID = 0x4f48;
    id->DeviceID = 0x7ffe;
    id->BaseClass = 0xff;
    memset(bars, 0, count * sizeof *bars);
    bars[0] = 0xfffff004; /* 4 KiB, 64 bits wide */
    bars[1] = 0xffffffff;
    return S_OK;
}

static HRESULT CALLBACK read_config(void *context, UINT32 offset, UINT32 *value)
{
    (void)context;
    (void)offset;
    *value = 0;
    return S_OK;
}

static HRESULT CALLBACK write_config(void *context, UINT32 offset, UINT32 value)
{
    (void)context;
    (void)offset;
    (void)value;
    return S_OK;
}

static HRESULT CALLBACK read_memory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length,
                                    BYTE *value)
{
    const struct scratch *scratch = (const struct scratch *)context;

    (void)bar;
    if (offset > MEMORY_BYTES - length)
        return E_INVALIDARG;
    memcpy(value, scratch->memory + offset, length);
    return S_OK;
}

static HRESULT CALLBACK write_memory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length,
                                     const BYTE *value)
{
    struct scratch *scratch = (struct scratch *)context;

    (void)bar;
    if (offset > MEMORY_BYTES - length)
        return E_INVALIDARG;
    memcpy(scratch->memory + offset, value, length);
    return S_OK;
}

int main(int argc, char **argv)
{
    static struct scratch scratch;
    const HDV_PCI_DEVICE_INTERFACE device = {
        HdvPciDeviceInterfaceVersion1, succeed,      nothing,     set_configuration, get_details, succeed,
        nothing,                       read_config,  write_config, read_memory,      write_memory,
    };
    const GUID class_id = { 0x0d0d0000, 0x1111, 0x4222, { 0x83, 0x33, 0, 0, 0, 0, 0, 1 } };
    GUID instance_id;
    HCS_SYSTEM system;
    HDV_HOST host;
    HDV_DEVICE handle;
    sigset_t signals;
    cpu_set_t processors;
    int caught;

    if (argc != 4) {
        fprintf(stderr, "usage: scratch DIRECTORY INSTANCE-ID PROCESSOR\n");
        return 2;
    }
    CPU_ZERO(&processors);
    CPU_SET(atoi(argv[3]), &processors);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    /* Before any thread is there: they inherit both. */
    if (sched_setaffinity(0, sizeof processors, &processors) != 0 ||
        sigprocmask(SIG_BLOCK, &signals, NULL) != 0) {
        perror("scratch");
        return 1;
    }
    if (FAILED(OpenHdvParseGuid(argv[2], &instance_id)) ||
        FAILED(OpenHdvOpenSocketSystem(argv[1], &system)) ||
        FAILED(HdvInitializeDeviceHost(system, &host)) ||
        FAILED(HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &class_id, &instance_id, &device, &scratch,
                                       &handle))) {
        char text[512];
        OpenHdvGetLastErrorText(text, sizeof text);
        fprintf(stderr, "scratch: %s\n", text);
        return 1;
    }
    printf("ready %s/%s.sock\n", argv[1], argv[2]);
    fflush(stdout);
    sigwait(&signals, &caught);
    HdvTeardownDeviceHost(host);
    HcsCloseComputeSystem(system);
    return 0;
}
