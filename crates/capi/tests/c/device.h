/*
 * A device that notes how often each callback was called and fails where it is told to.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include "check.h"

enum { CALLS = 10, NO_HOOK = -1 };

/* In the order of the table. */
enum call {
    CALL_INITIALIZE,
    CALL_TEARDOWN,
    CALL_SET_CONFIGURATION,
    CALL_GET_DETAILS,
    CALL_START,
    CALL_STOP,
    CALL_READ_CONFIG,
    CALL_WRITE_CONFIG,
    CALL_READ_MEMORY,
    CALL_WRITE_MEMORY
};

struct device {
    unsigned calls[CALLS];
    /* The result of each callback that has one. */
    HRESULT results[CALLS];
    /* Called from inside this callback, unless null. */
    enum call hook_in;
    void (*hook)(struct device* device);
    /* For hooks. */
    HDV_HOST host;
    HDV_DEVICE handle;
    HRESULT hook_result;
    /* What SetConfiguration got; WCHARs that are ASCII, as such. */
    UINT32 value_count;
    char values[4][64];
    /* The order of the calls, one letter each. */
    char order[64];
    /* The same without accesses. */
    char life[64];
};

static inline HRESULT device_called(void* context, enum call call)
{
    struct device* device = (struct device*)context;
    size_t length = strlen(device->order);
    if (length + 1 < sizeof device->order) {
        device->order[length] = "ITCDSPrwRW"[call];
    }
    length = strlen(device->life);
    if (call < CALL_READ_CONFIG && length + 1 < sizeof device->life) {
        device->life[length] = "ITCDSP"[call];
    }
    device->calls[call]++;
    if (device->hook != NULL && device->hook_in == call) {
        device->hook(device);
    }
    return device->results[call];
}

static inline HRESULT CALLBACK device_initialize(void* context)
{
    return device_called(context, CALL_INITIALIZE);
}

static inline void CALLBACK device_teardown(void* context)
{
    (void)device_called(context, CALL_TEARDOWN);
}

static inline HRESULT CALLBACK device_set_configuration(void* context, UINT32 count,
                                                        const PCWSTR* values)
{
    struct device* device = (struct device*)context;
    device->value_count = count;
    for (UINT32 i = 0; i < count && i < 4; i++) {
        for (size_t at = 0; at < sizeof device->values[i]; at++) {
            device->values[i][at] = (char)values[i][at];
            if (values[i][at] == 0) {
                break;
            }
        }
    }
    return device_called(context, CALL_SET_CONFIGURATION);
}

static inline HRESULT CALLBACK device_get_details(void* context, HDV_PCI_PNP_ID* id, UINT32 count,
                                                  UINT32* bars)
{
    HDV_PCI_PNP_ID mine = { 0x4f48, 0x7f01, 1, 0, 0, 0xff, 0x4f48, 1 };
    *id = mine;
    EXPECT(count == HDV_PCI_BAR_COUNT);
    bars[0] = 0xfffff000;
    return device_called(context, CALL_GET_DETAILS);
}

static inline HRESULT CALLBACK device_start(void* context)
{
    return device_called(context, CALL_START);
}

static inline void CALLBACK device_stop(void* context)
{
    (void)device_called(context, CALL_STOP);
}

static inline HRESULT CALLBACK device_read_config(void* context, UINT32 offset, UINT32* value)
{
    (void)offset;
    *value = 0;
    return device_called(context, CALL_READ_CONFIG);
}

static inline HRESULT CALLBACK device_write_config(void* context, UINT32 offset, UINT32 value)
{
    (void)offset;
    (void)value;
    return device_called(context, CALL_WRITE_CONFIG);
}

static inline HRESULT CALLBACK device_read_memory(void* context, HDV_PCI_BAR_SELECTOR bar,
                                                  UINT64 offset, UINT64 length, BYTE* value)
{
    (void)bar;
    (void)offset;
    memset(value, 0, (size_t)length);
    return device_called(context, CALL_READ_MEMORY);
}

static inline HRESULT CALLBACK device_write_memory(void* context, HDV_PCI_BAR_SELECTOR bar,
                                                   UINT64 offset, UINT64 length, const BYTE* value)
{
    (void)bar;
    (void)offset;
    (void)length;
    (void)value;
    return device_called(context, CALL_WRITE_MEMORY);
}

static const HDV_PCI_DEVICE_INTERFACE device_interface = {
    HdvPciDeviceInterfaceVersion1, device_initialize,  device_teardown,     device_set_configuration,
    device_get_details,            device_start,       device_stop,         device_read_config,
    device_write_config,           device_read_memory, device_write_memory,
};

static const GUID device_class = { 0xc1a55000, 0x0000, 0x4000, { 0x80, 0, 0, 0, 0, 0, 0, 1 } };

static inline HRESULT device_create_as(HDV_HOST host, struct device* device, const GUID* instance)
{
    device->host = host;
    return HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &device_class, instance,
                                   &device_interface, device, &device->handle);
}

static inline HRESULT device_create(HDV_HOST host, struct device* device)
{
    GUID instance = next_instance();
    return device_create_as(host, device, &instance);
}

/* Nothing noted, no failure, no hook. */
static inline void device_reset(struct device* device)
{
    memset(device, 0, sizeof *device);
}

#endif
