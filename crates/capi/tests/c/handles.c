/*
 * Handles that are null, of another kind, foreign, or stale: E_HANDLE from every function, whatever else it
 * is given.
 */
#include "device.h"

static HCS_SYSTEM live_system;
static HDV_HOST live_host;
static struct device live_device;
static HDV_HOST stale_host;
static HDV_DEVICE stale_device;

static void make_handles(void)
{
    struct device gone;
    live_system = open_system();
    live_host = open_host();
    device_reset(&live_device);
    EXPECT_RESULT(device_create(live_host, &live_device), S_OK);
    stale_host = open_host();
    device_reset(&gone);
    EXPECT_RESULT(device_create(stale_host, &gone), S_OK);
    stale_device = gone.handle;
    EXPECT_RESULT(HdvTeardownDeviceHost(stale_host), S_OK);
    EXPECT(gone.calls[CALL_TEARDOWN] == 1);
}

/* What is none of a kind: of another kind, of nobody, of one that was. */
#define FOREIGN(stale, other)                                                                    \
    {                                                                                            \
        NULL, (stale), (other), (void*)&live_device, (void*)(intptr_t)-1, (void*)(intptr_t)1,    \
            (void*)((uintptr_t)(stale) ^ (uintptr_t)1 << 52),                                    \
            (void*)((uintptr_t)(stale) | 0xffffffff)                                             \
    }

#define EACH(handle, list) for (size_t i = 0; i < sizeof(list) / sizeof *(list) && ((handle) = (list)[i], 1); i++)

static const GUID some_instance = { 1, 2, 3, { 4, 5, 6, 7, 8, 9, 10, 11 } };

static HCS_SYSTEM closed_system(void)
{
    HCS_SYSTEM closed = open_system();
    HcsCloseComputeSystem(closed);
    return closed;
}

CHECK(hdv_initialize_device_host_bad_system)
{
    void* list[] = FOREIGN(closed_system(), live_host);
    void* handle;
    EACH(handle, list)
    {
        HDV_HOST host = live_host;
        EXPECT_RESULT(HdvInitializeDeviceHost(handle, &host), E_HANDLE);
        EXPECT(host == NULL);
    }
}

CHECK(hdv_initialize_device_host_ex_bad_system)
{
    void* list[] = FOREIGN(closed_system(), live_device.handle);
    void* handle;
    EACH(handle, list)
    {
        HDV_HOST host = live_host;
        EXPECT_RESULT(HdvInitializeDeviceHostEx(handle, HdvDeviceHostFlagNone, &host), E_HANDLE);
        EXPECT(host == NULL);
    }
}

CHECK(hdv_proxy_device_host_bad_system)
{
    void* list[] = FOREIGN(closed_system(), live_host);
    void* handle;
    EACH(handle, list)
    {
        UINT64 section = 1;
        EXPECT_RESULT(HdvProxyDeviceHost(handle, NULL, 1, &section), E_HANDLE);
        EXPECT(section == 0);
    }
}

CHECK(open_hdv_set_configuration_bad_system)
{
    void* list[] = FOREIGN(closed_system(), live_host);
    void* handle;
    EACH(handle, list)
    {
        EXPECT_RESULT(OpenHdvSetConfiguration(handle, &some_instance, 0, NULL), E_HANDLE);
    }
}

CHECK(hcs_close_compute_system_bad_system)
{
    void* list[] = FOREIGN(closed_system(), live_host);
    void* handle;
    HDV_HOST host = NULL;
    EACH(handle, list)
    {
        HcsCloseComputeSystem(handle);
    }
    /* What was live is. */
    EXPECT_RESULT(HdvInitializeDeviceHost(live_system, &host), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hdv_teardown_device_host_bad_host)
{
    void* list[] = FOREIGN(stale_host, live_device.handle);
    void* handle;
    EACH(handle, list)
    {
        EXPECT_RESULT(HdvTeardownDeviceHost(handle), E_HANDLE);
    }
}

CHECK(hdv_create_device_instance_bad_host)
{
    void* list[] = FOREIGN(stale_host, live_system);
    void* handle;
    EACH(handle, list)
    {
        struct device device;
        device_reset(&device);
        device.handle = live_device.handle;
        EXPECT_RESULT(device_create(handle, &device), E_HANDLE);
        EXPECT(device.handle == NULL);
        EXPECT(device.order[0] == 0);
    }
}

/* The functions of a device, with everything else right. */
#define BAD_DEVICE(name, call)                                                                   \
    CHECK(name##_bad_device)                                                                     \
    {                                                                                            \
        void* list[] = FOREIGN(stale_device, live_host);                                         \
        void* handle;                                                                            \
        HANDLE event = NULL;                                                                     \
        HANDLE section = NULL;                                                                   \
        BYTE bytes[16] = { 0 };                                                                  \
        void* mapped = NULL;                                                                     \
        EXPECT_RESULT(OpenHdvCreateEvent(&event), S_OK);                                         \
        EXPECT_RESULT(OpenHdvCreateSection(4096, &section), S_OK);                               \
        EACH(handle, list)                                                                       \
        {                                                                                        \
            EXPECT_RESULT(call, E_HANDLE);                                                       \
        }                                                                                        \
        EXPECT(bytes[0] == 0 && mapped == NULL);                                                 \
        EXPECT_RESULT(OpenHdvCloseHandle(event), S_OK);                                          \
        EXPECT_RESULT(OpenHdvCloseHandle(section), S_OK);                                        \
    }

BAD_DEVICE(hdv_read_guest_memory, HdvReadGuestMemory(handle, 0, sizeof bytes, bytes))
BAD_DEVICE(hdv_write_guest_memory, HdvWriteGuestMemory(handle, 0, sizeof bytes, bytes))
BAD_DEVICE(hdv_create_guest_memory_aperture,
           HdvCreateGuestMemoryAperture(handle, 0, 4096, FALSE, &mapped))
BAD_DEVICE(hdv_destroy_guest_memory_aperture, HdvDestroyGuestMemoryAperture(handle, bytes))
BAD_DEVICE(hdv_deliver_guest_interrupt, HdvDeliverGuestInterrupt(handle, 0xfee00000, 1))
BAD_DEVICE(hdv_register_doorbell, HdvRegisterDoorbell(handle, HDV_PCI_BAR0, 0, 0, 0, event))
BAD_DEVICE(hdv_unregister_doorbell, HdvUnregisterDoorbell(handle, HDV_PCI_BAR0, 0, 0, 0))
BAD_DEVICE(hdv_register_doorbell_page, HdvRegisterDoorbellPage(handle, HDV_PCI_BAR0, 0, event))
BAD_DEVICE(hdv_unregister_doorbell_page, HdvUnregisterDoorbellPage(handle, HDV_PCI_BAR0, 0))
BAD_DEVICE(hdv_create_section_backed_mmio_range,
           HdvCreateSectionBackedMmioRange(handle, HDV_PCI_BAR0, 0, 1, HdvMmioMappingFlagNone,
                                           section, 0))
BAD_DEVICE(hdv_destroy_section_backed_mmio_range,
           HdvDestroySectionBackedMmioRange(handle, HDV_PCI_BAR0, 0))

/* A HANDLE that is not an open descriptor, or not of the kind. */
#define CLOSED_HANDLES { NULL, INVALID_HANDLE_VALUE, (HANDLE)(intptr_t)1000000, (HANDLE)&live_device, (HANDLE)(intptr_t)-2 }

CHECK(hdv_register_doorbell_bad_event)
{
    HANDLE list[] = CLOSED_HANDLES;
    HANDLE handle;
    HANDLE section = NULL;
    EACH(handle, list)
    {
        EXPECT_RESULT(HdvRegisterDoorbell(live_device.handle, HDV_PCI_BAR0, 0, 0, 0, handle),
                      E_HANDLE);
    }
    EXPECT_RESULT(OpenHdvCreateSection(4096, &section), S_OK);
    EXPECT_RESULT(HdvRegisterDoorbell(live_device.handle, HDV_PCI_BAR0, 0, 0, 0, section), E_HANDLE);
    EXPECT_RESULT(OpenHdvCloseHandle(section), S_OK);
}

CHECK(hdv_register_doorbell_page_bad_event)
{
    HANDLE list[] = CLOSED_HANDLES;
    HANDLE handle;
    EACH(handle, list)
    {
        EXPECT_RESULT(HdvRegisterDoorbellPage(live_device.handle, HDV_PCI_BAR0, 0, handle),
                      E_HANDLE);
    }
}

CHECK(hdv_create_section_backed_mmio_range_bad_section)
{
    HANDLE list[] = CLOSED_HANDLES;
    HANDLE handle;
    EACH(handle, list)
    {
        EXPECT_RESULT(HdvCreateSectionBackedMmioRange(live_device.handle, HDV_PCI_BAR0, 0, 1,
                                                      HdvMmioMappingFlagNone, handle, 0),
                      E_HANDLE);
    }
}

CHECK(open_hdv_close_handle_bad_handle)
{
    HANDLE list[] = CLOSED_HANDLES;
    HANDLE handle;
    HANDLE event = NULL;
    EACH(handle, list)
    {
        EXPECT_RESULT(OpenHdvCloseHandle(handle), E_HANDLE);
    }
    EXPECT_RESULT(OpenHdvCreateEvent(&event), S_OK);
    EXPECT_RESULT(OpenHdvCloseHandle(event), S_OK);
    EXPECT_RESULT(OpenHdvCloseHandle(event), E_HANDLE);
}

/* Random handles with the right beginning: none of them is one, and none may end the process. */
CHECK(handles_at_random)
{
    uint64_t random = 0x9e3779b97f4a7c15u;
    for (int i = 0; i < 200000; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        uintptr_t mask = ((uintptr_t)1 << (8 + random % 48)) - 1;
        uintptr_t bits = (uintptr_t)(random >> 8) & mask;
        uintptr_t device = ((uintptr_t)live_device.handle & ~mask) | bits;
        uintptr_t host = ((uintptr_t)live_host & ~mask) | bits;
        if ((void*)device != live_device.handle) {
            EXPECT_RESULT(HdvDeliverGuestInterrupt((void*)device, 0, 0), E_HANDLE);
        }
        if ((void*)host != live_host) {
            EXPECT_RESULT(HdvTeardownDeviceHost((void*)host), E_HANDLE);
        }
        if (check_failed) {
            return;
        }
    }
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(make_handles);
    RUN(hdv_initialize_device_host_bad_system);
    RUN(hdv_initialize_device_host_ex_bad_system);
    RUN(hdv_proxy_device_host_bad_system);
    RUN(open_hdv_set_configuration_bad_system);
    RUN(hcs_close_compute_system_bad_system);
    RUN(hdv_teardown_device_host_bad_host);
    RUN(hdv_create_device_instance_bad_host);
    RUN(hdv_read_guest_memory_bad_device);
    RUN(hdv_write_guest_memory_bad_device);
    RUN(hdv_create_guest_memory_aperture_bad_device);
    RUN(hdv_destroy_guest_memory_aperture_bad_device);
    RUN(hdv_deliver_guest_interrupt_bad_device);
    RUN(hdv_register_doorbell_bad_device);
    RUN(hdv_unregister_doorbell_bad_device);
    RUN(hdv_register_doorbell_page_bad_device);
    RUN(hdv_unregister_doorbell_page_bad_device);
    RUN(hdv_create_section_backed_mmio_range_bad_device);
    RUN(hdv_destroy_section_backed_mmio_range_bad_device);
    RUN(hdv_register_doorbell_bad_event);
    RUN(hdv_register_doorbell_page_bad_event);
    RUN(hdv_create_section_backed_mmio_range_bad_section);
    RUN(open_hdv_close_handle_bad_handle);
    RUN(handles_at_random);
    /* All of that has done nothing to the living. */
    EXPECT_RESULT(HdvTeardownDeviceHost(live_host), S_OK);
    EXPECT(live_device.calls[CALL_TEARDOWN] == 1);
    HcsCloseComputeSystem(live_system);
    return check_any_failed || check_failed;
}
