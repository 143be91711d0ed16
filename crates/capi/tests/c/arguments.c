/*
 * Pointers that are null and values that make no sense; and what cannot be had before a virtual machine is
 * there.
 */
#include "device.h"

static HCS_SYSTEM compute_system;
static HDV_HOST host;
static struct device device;
static HANDLE event;
static HANDLE section;
static const GUID some_guid = { 9, 9, 9, { 9, 9, 9, 9, 9, 9, 9, 9 } };

/* An address that is none of the library's. */
static void* bytes_of_nobody(void)
{
    static BYTE bytes[1];
    return bytes;
}

static void make_device(void)
{
    compute_system = open_system();
    host = open_host();
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_RESULT(OpenHdvCreateEvent(&event), S_OK);
    EXPECT_RESULT(OpenHdvCreateSection(2 * 4096, &section), S_OK);
}

CHECK(hdv_initialize_device_host_null_out)
{
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, NULL), E_POINTER);
}

CHECK(hdv_initialize_device_host_ex_null_out)
{
    EXPECT_RESULT(HdvInitializeDeviceHostEx(compute_system, HdvDeviceHostFlagNone, NULL),
                  E_POINTER);
}

CHECK(hdv_initialize_device_host_ex_bad_flags)
{
    HDV_HOST other = host;
    EXPECT_RESULT(HdvInitializeDeviceHostEx(compute_system, (HDV_DEVICE_HOST_FLAGS)2, &other),
                  E_INVALIDARG);
    EXPECT(other == NULL);
}

static HRESULT create(HDV_DEVICE_TYPE type, const GUID* class_id, const GUID* instance_id,
                      const void* table)
{
    struct device refused;
    HRESULT result;
    device_reset(&refused);
    refused.handle = device.handle;
    result = HdvCreateDeviceInstance(host, type, class_id, instance_id, table, &refused,
                                     &refused.handle);
    EXPECT(refused.handle == NULL);
    EXPECT(refused.order[0] == 0);
    return result;
}

CHECK(hdv_create_device_instance_bad_type)
{
    EXPECT_RESULT(create(HdvDeviceTypeUndefined, &some_guid, &some_guid, &device_interface),
                  E_INVALIDARG);
    EXPECT_RESULT(create((HDV_DEVICE_TYPE)2, &some_guid, &some_guid, &device_interface),
                  E_INVALIDARG);
}

CHECK(hdv_create_device_instance_bad_version)
{
    HDV_PCI_DEVICE_INTERFACE interface = device_interface;
    interface.Version = HdvPciDeviceInterfaceVersionInvalid;
    EXPECT_RESULT(create(HdvDeviceTypePCI, &some_guid, &some_guid, &interface), E_INVALIDARG);
    interface.Version = (HDV_PCI_INTERFACE_VERSION)2;
    EXPECT_RESULT(create(HdvDeviceTypePCI, &some_guid, &some_guid, &interface), E_INVALIDARG);
}

CHECK(hdv_create_device_instance_null_pointers)
{
    EXPECT_RESULT(create(HdvDeviceTypePCI, NULL, &some_guid, &device_interface), E_POINTER);
    EXPECT_RESULT(create(HdvDeviceTypePCI, &some_guid, NULL, &device_interface), E_POINTER);
    EXPECT_RESULT(create(HdvDeviceTypePCI, &some_guid, &some_guid, NULL), E_POINTER);
    EXPECT_RESULT(HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &some_guid, &some_guid,
                                          &device_interface, NULL, NULL),
                  E_POINTER);
}

CHECK(hdv_create_device_instance_null_callback)
{
    for (size_t i = 0; i < CALLS; i++) {
        HDV_PCI_DEVICE_INTERFACE interface = device_interface;
        memset((char*)&interface + (1 + i) * sizeof(void*), 0, sizeof(void*));
        EXPECT_RESULT(create(HdvDeviceTypePCI, &some_guid, &some_guid, &interface), E_POINTER);
    }
}

CHECK(hdv_read_guest_memory_bad_arguments)
{
    BYTE bytes[4];
    EXPECT_RESULT(HdvReadGuestMemory(device.handle, 0, 4, NULL), E_POINTER);
    EXPECT_RESULT(HdvReadGuestMemory(device.handle, 0, 0, bytes), E_INVALIDARG);
    EXPECT_RESULT(HdvReadGuestMemory(device.handle, UINT64_MAX - 2, 4, bytes), E_INVALIDARG);
}

CHECK(hdv_read_guest_memory_no_client)
{
    BYTE bytes[4];
    EXPECT_RESULT(HdvReadGuestMemory(device.handle, 0, 4, bytes), WIN32(NOT_READY));
}

CHECK(hdv_write_guest_memory_bad_arguments)
{
    BYTE bytes[4] = { 0 };
    EXPECT_RESULT(HdvWriteGuestMemory(device.handle, 0, 4, NULL), E_POINTER);
    EXPECT_RESULT(HdvWriteGuestMemory(device.handle, 0, 0, bytes), E_INVALIDARG);
    EXPECT_RESULT(HdvWriteGuestMemory(device.handle, UINT64_MAX - 2, 4, bytes), E_INVALIDARG);
}

CHECK(hdv_write_guest_memory_no_client)
{
    BYTE bytes[4] = { 0 };
    EXPECT_RESULT(HdvWriteGuestMemory(device.handle, 0, 4, bytes), WIN32(NOT_READY));
}

CHECK(hdv_create_guest_memory_aperture_bad_arguments)
{
    void* mapped = bytes_of_nobody();
    EXPECT_RESULT(HdvCreateGuestMemoryAperture(device.handle, 0, 4096, FALSE, NULL), E_POINTER);
    EXPECT_RESULT(HdvCreateGuestMemoryAperture(device.handle, 0, 0, FALSE, &mapped), E_INVALIDARG);
    EXPECT(mapped == NULL);
    EXPECT_RESULT(HdvCreateGuestMemoryAperture(device.handle, UINT64_MAX, 2, TRUE, &mapped),
                  E_INVALIDARG);
}

CHECK(hdv_create_guest_memory_aperture_no_client)
{
    void* mapped = bytes_of_nobody();
    EXPECT_RESULT(HdvCreateGuestMemoryAperture(device.handle, 0, 4096, FALSE, &mapped),
                  WIN32(NOT_READY));
    EXPECT(mapped == NULL);
}

CHECK(hdv_destroy_guest_memory_aperture_null)
{
    EXPECT_RESULT(HdvDestroyGuestMemoryAperture(device.handle, NULL), E_POINTER);
}

CHECK(hdv_destroy_guest_memory_aperture_not_found)
{
    EXPECT_RESULT(HdvDestroyGuestMemoryAperture(device.handle, bytes_of_nobody()),
                  WIN32(NOT_FOUND));
}

CHECK(hdv_deliver_guest_interrupt_no_client)
{
    EXPECT_RESULT(HdvDeliverGuestInterrupt(device.handle, 0xfee00000, 1), WIN32(NOT_READY));
}

CHECK(hdv_register_doorbell_bad_arguments)
{
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, (HDV_PCI_BAR_SELECTOR)6, 0, 0, 0, event),
                  E_INVALIDARG);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, (HDV_PCI_BAR_SELECTOR)-1, 0, 0, 0, event),
                  E_INVALIDARG);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 0, 5, event), E_INVALIDARG);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 0, 0x40000000, event),
                  E_INVALIDARG);
    /* Outside the BAR. */
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0x1000, 0, 0, event),
                  E_INVALIDARG);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, UINT64_MAX, 0,
                                      HDV_DOORBELL_FLAG_TRIGGER_SIZE_QWORD, event),
                  E_INVALIDARG);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR1, 0, 0, 0, event), E_INVALIDARG);
}

CHECK(hdv_register_doorbell_high_flags_are_ignored)
{
    UINT64 any = 0xffffffff00000000u | HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD;
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 8, 1, any, event), S_OK);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 8, 1,
                                        HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD),
                  S_OK);
    /* As C sign-extends them. */
    any = (UINT64)(INT64)HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE;
    EXPECT(any == 0xffffffff80000000u);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 8, 1, any, event), S_OK);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 8, 2, 0x80000000u), S_OK);
}

CHECK(hdv_register_doorbell_already_exists)
{
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 0, event), S_OK);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 0, event),
                  WIN32(ALREADY_EXISTS));
    /* Another value, another size: another doorbell. */
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 8, 0, event), S_OK);
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 3, event), S_OK);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 3), S_OK);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 8, 0), S_OK);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 0), S_OK);
}

CHECK(hdv_unregister_doorbell_bad_arguments)
{
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, (HDV_PCI_BAR_SELECTOR)6, 0, 0, 0),
                  E_INVALIDARG);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 0, 6), E_INVALIDARG);
}

CHECK(hdv_unregister_doorbell_not_found)
{
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 0), WIN32(NOT_FOUND));
    EXPECT_RESULT(HdvRegisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 0, event), S_OK);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 6, 0), WIN32(NOT_FOUND));
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 1), WIN32(NOT_FOUND));
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 4, 7, 0), WIN32(NOT_FOUND));
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 0), S_OK);
    EXPECT_RESULT(HdvUnregisterDoorbell(device.handle, HDV_PCI_BAR0, 0, 7, 0), WIN32(NOT_FOUND));
}

CHECK(hdv_register_doorbell_page_bad_arguments)
{
    EXPECT_RESULT(HdvRegisterDoorbellPage(device.handle, (HDV_PCI_BAR_SELECTOR)6, 0, event),
                  E_INVALIDARG);
    EXPECT_RESULT(HdvRegisterDoorbellPage(device.handle, HDV_PCI_BAR0, 1, event), E_INVALIDARG);
    EXPECT_RESULT(HdvRegisterDoorbellPage(device.handle, HDV_PCI_BAR0, UINT64_MAX, event),
                  E_INVALIDARG);
}

CHECK(hdv_register_doorbell_page_already_exists)
{
    EXPECT_RESULT(HdvRegisterDoorbellPage(device.handle, HDV_PCI_BAR0, 0, event), S_OK);
    EXPECT_RESULT(HdvRegisterDoorbellPage(device.handle, HDV_PCI_BAR0, 0, event),
                  WIN32(ALREADY_EXISTS));
    EXPECT_RESULT(HdvUnregisterDoorbellPage(device.handle, HDV_PCI_BAR0, 0), S_OK);
}

CHECK(hdv_unregister_doorbell_page_bad_arguments)
{
    EXPECT_RESULT(HdvUnregisterDoorbellPage(device.handle, (HDV_PCI_BAR_SELECTOR)7, 0),
                  E_INVALIDARG);
}

CHECK(hdv_unregister_doorbell_page_not_found)
{
    EXPECT_RESULT(HdvUnregisterDoorbellPage(device.handle, HDV_PCI_BAR0, 0), WIN32(NOT_FOUND));
}

static HRESULT map(int bar, UINT64 offset, UINT64 length, UINT32 flags, UINT64 in_section)
{
    return HdvCreateSectionBackedMmioRange(device.handle, (HDV_PCI_BAR_SELECTOR)bar, offset, length,
                                           (HDV_MMIO_MAPPING_FLAGS)flags, section, in_section);
}

CHECK(hdv_create_section_backed_mmio_range_bad_arguments)
{
    EXPECT_RESULT(map(6, 0, 1, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(-1, 0, 1, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(1, 0, 1, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(0, 0, 0, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(0, 0, 2, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(0, 1, 1, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(0, 0, 1, 4, 0), E_INVALIDARG);
    EXPECT_RESULT(map(0, UINT64_MAX, 1, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(0, 0, UINT64_MAX, 0, 0), E_INVALIDARG);
    EXPECT_RESULT(map(0, 0, 1, 0, UINT64_MAX), E_INVALIDARG);
}

CHECK(hdv_create_section_backed_mmio_range_section_too_short)
{
    EXPECT(FAILED(map(0, 0, 1, 0, 2)));
}

CHECK(hdv_create_section_backed_mmio_range_already_exists)
{
    EXPECT_RESULT(map(0, 0, 1, HdvMmioMappingFlagWriteable, 0), S_OK);
    /* The same again changes nothing. */
    EXPECT_RESULT(map(0, 0, 1, HdvMmioMappingFlagWriteable, 0), S_OK);
    EXPECT_RESULT(map(0, 0, 1, HdvMmioMappingFlagWriteable, 1), WIN32(ALREADY_EXISTS));
    EXPECT_RESULT(map(0, 0, 1, HdvMmioMappingFlagNone, 0), WIN32(ALREADY_EXISTS));
    EXPECT_RESULT(HdvDestroySectionBackedMmioRange(device.handle, HDV_PCI_BAR0, 0), S_OK);
}

CHECK(hdv_create_section_backed_mmio_range_all_flags)
{
    EXPECT_RESULT(map(0, 0, 1,
                      (UINT32)(HdvMmioMappingFlagWriteable | HdvMmioMappingFlagExecutable
                               | OPENHDV_MMIO_MAPPING_FLAG_NEVER_OFFERED),
                      1),
                  S_OK);
    EXPECT_RESULT(HdvDestroySectionBackedMmioRange(device.handle, HDV_PCI_BAR0, 0), S_OK);
}

CHECK(hdv_destroy_section_backed_mmio_range_bad_arguments)
{
    EXPECT_RESULT(HdvDestroySectionBackedMmioRange(device.handle, (HDV_PCI_BAR_SELECTOR)6, 0),
                  E_INVALIDARG);
    EXPECT_RESULT(HdvDestroySectionBackedMmioRange(device.handle, HDV_PCI_BAR0, UINT64_MAX),
                  E_INVALIDARG);
}

CHECK(hdv_destroy_section_backed_mmio_range_not_found)
{
    EXPECT_RESULT(HdvDestroySectionBackedMmioRange(device.handle, HDV_PCI_BAR0, 0),
                  WIN32(NOT_FOUND));
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(make_device);
    RUN(hdv_initialize_device_host_null_out);
    RUN(hdv_initialize_device_host_ex_null_out);
    RUN(hdv_initialize_device_host_ex_bad_flags);
    RUN(hdv_create_device_instance_bad_type);
    RUN(hdv_create_device_instance_bad_version);
    RUN(hdv_create_device_instance_null_pointers);
    RUN(hdv_create_device_instance_null_callback);
    RUN(hdv_read_guest_memory_bad_arguments);
    RUN(hdv_read_guest_memory_no_client);
    RUN(hdv_write_guest_memory_bad_arguments);
    RUN(hdv_write_guest_memory_no_client);
    RUN(hdv_create_guest_memory_aperture_bad_arguments);
    RUN(hdv_create_guest_memory_aperture_no_client);
    RUN(hdv_destroy_guest_memory_aperture_null);
    RUN(hdv_destroy_guest_memory_aperture_not_found);
    RUN(hdv_deliver_guest_interrupt_no_client);
    RUN(hdv_register_doorbell_bad_arguments);
    RUN(hdv_register_doorbell_high_flags_are_ignored);
    RUN(hdv_register_doorbell_already_exists);
    RUN(hdv_unregister_doorbell_bad_arguments);
    RUN(hdv_unregister_doorbell_not_found);
    RUN(hdv_register_doorbell_page_bad_arguments);
    RUN(hdv_register_doorbell_page_already_exists);
    RUN(hdv_unregister_doorbell_page_bad_arguments);
    RUN(hdv_unregister_doorbell_page_not_found);
    RUN(hdv_create_section_backed_mmio_range_bad_arguments);
    RUN(hdv_create_section_backed_mmio_range_section_too_short);
    RUN(hdv_create_section_backed_mmio_range_already_exists);
    RUN(hdv_create_section_backed_mmio_range_all_flags);
    RUN(hdv_destroy_section_backed_mmio_range_bad_arguments);
    RUN(hdv_destroy_section_backed_mmio_range_not_found);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    HcsCloseComputeSystem(compute_system);
    EXPECT_RESULT(OpenHdvCloseHandle(event), S_OK);
    EXPECT_RESULT(OpenHdvCloseHandle(section), S_OK);
    return check_any_failed || check_failed;
}
