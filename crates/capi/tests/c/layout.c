/*
 * Sizes, offsets and values of everything that the vendor's headers declare.
 */
#include <stddef.h>

#include <pcivirt.h>

#include "check.h"

#ifdef __cplusplus
#define ASSERT(condition) static_assert(condition, #condition)
#else
#define ASSERT(condition) _Static_assert(condition, #condition)
#endif

ASSERT(sizeof(INT8) == 1 && sizeof(UINT8) == 1 && sizeof(BYTE) == 1 && sizeof(BOOLEAN) == 1);
ASSERT(sizeof(INT16) == 2 && sizeof(UINT16) == 2 && sizeof(WORD) == 2 && sizeof(USHORT) == 2);
ASSERT(sizeof(INT32) == 4 && sizeof(UINT32) == 4 && sizeof(DWORD) == 4 && sizeof(ULONG) == 4);
ASSERT(sizeof(LONG) == 4 && sizeof(BOOL) == 4 && sizeof(HRESULT) == 4 && sizeof(INT) == 4);
ASSERT(sizeof(INT64) == 8 && sizeof(UINT64) == 8 && sizeof(ULONGLONG) == 8);
ASSERT(sizeof(WCHAR) == 2 && sizeof(u"x") == 4);
ASSERT(sizeof(HANDLE) == sizeof(void*) && sizeof(PVOID) == sizeof(void*));
ASSERT(sizeof(HCS_SYSTEM) == sizeof(void*) && sizeof(HCS_OPERATION) == sizeof(void*));
ASSERT(sizeof(HDV_HOST) == sizeof(void*) && sizeof(HDV_DEVICE) == sizeof(void*));

ASSERT(sizeof(GUID) == 16);
ASSERT(offsetof(GUID, Data1) == 0 && offsetof(GUID, Data2) == 4);
ASSERT(offsetof(GUID, Data3) == 6 && offsetof(GUID, Data4) == 8);

ASSERT(sizeof(HDV_DEVICE_TYPE) == 4 && HdvDeviceTypeUndefined == 0 && HdvDeviceTypePCI == 1);
ASSERT(sizeof(HDV_PCI_INTERFACE_VERSION) == 4);
ASSERT(HdvPciDeviceInterfaceVersionInvalid == 0 && HdvPciDeviceInterfaceVersion1 == 1);
ASSERT(sizeof(HDV_DEVICE_HOST_FLAGS) == 4);
ASSERT(HdvDeviceHostFlagNone == 0 && HdvDeviceHostFlagInitializeComSecurity == 1);
ASSERT(sizeof(HDV_PCI_BAR_SELECTOR) == 4 && HDV_PCI_BAR_COUNT == 6);
ASSERT(HDV_PCI_BAR0 == 0 && HDV_PCI_BAR1 == 1 && HDV_PCI_BAR2 == 2);
ASSERT(HDV_PCI_BAR3 == 3 && HDV_PCI_BAR4 == 4 && HDV_PCI_BAR5 == 5);
ASSERT(sizeof(HDV_MMIO_MAPPING_FLAGS) == 4);
ASSERT(HdvMmioMappingFlagNone == 0 && HdvMmioMappingFlagWriteable == 1);
ASSERT(HdvMmioMappingFlagExecutable == 2);
ASSERT((UINT32)OPENHDV_MMIO_MAPPING_FLAG_NEVER_OFFERED == 0x80000000u);
ASSERT(sizeof(HDV_DOORBELL_FLAGS) == 4);
ASSERT(HDV_DOORBELL_FLAG_TRIGGER_SIZE_ANY == 0 && HDV_DOORBELL_FLAG_TRIGGER_SIZE_BYTE == 1);
ASSERT(HDV_DOORBELL_FLAG_TRIGGER_SIZE_WORD == 2 && HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD == 3);
ASSERT(HDV_DOORBELL_FLAG_TRIGGER_SIZE_QWORD == 4);
ASSERT((UINT32)HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE == 0x80000000u);

ASSERT(sizeof(HDV_PCI_PNP_ID) == 12);
ASSERT(offsetof(HDV_PCI_PNP_ID, VendorID) == 0 && offsetof(HDV_PCI_PNP_ID, DeviceID) == 2);
ASSERT(offsetof(HDV_PCI_PNP_ID, RevisionID) == 4 && offsetof(HDV_PCI_PNP_ID, ProgIf) == 5);
ASSERT(offsetof(HDV_PCI_PNP_ID, SubClass) == 6 && offsetof(HDV_PCI_PNP_ID, BaseClass) == 7);
ASSERT(offsetof(HDV_PCI_PNP_ID, SubVendorID) == 8 && offsetof(HDV_PCI_PNP_ID, SubSystemID) == 10);

#define CALLBACK_AT(member, index)                                                               \
    ASSERT(offsetof(HDV_PCI_DEVICE_INTERFACE, member) == (1 + (index)) * sizeof(void*))

ASSERT(sizeof(HDV_PCI_DEVICE_INTERFACE) == 11 * sizeof(void*));
ASSERT(offsetof(HDV_PCI_DEVICE_INTERFACE, Version) == 0);
CALLBACK_AT(Initialize, 0);
CALLBACK_AT(Teardown, 1);
CALLBACK_AT(SetConfiguration, 2);
CALLBACK_AT(GetDetails, 3);
CALLBACK_AT(Start, 4);
CALLBACK_AT(Stop, 5);
CALLBACK_AT(ReadConfigSpace, 6);
CALLBACK_AT(WriteConfigSpace, 7);
CALLBACK_AT(ReadInterceptedMemory, 8);
CALLBACK_AT(WriteInterceptedMemory, 9);

#define ROUTINE_AT(member, offset) ASSERT(offsetof(PCI_VIRTUALIZATION_INTERFACE, member) == (offset))

ASSERT(sizeof(NTSTATUS) == 4 && (NTSTATUS)-1 < 0);
ASSERT(sizeof(INTERFACE) == 0x20 && sizeof(PCI_VIRTUALIZATION_INTERFACE) == 0x50);
ASSERT(offsetof(INTERFACE, Size) == 0 && offsetof(INTERFACE, Version) == 2);
ASSERT(offsetof(INTERFACE, Context) == 8 && offsetof(INTERFACE, InterfaceReference) == 0x10);
ASSERT(offsetof(INTERFACE, InterfaceDereference) == 0x18);
ROUTINE_AT(Size, 0);
ROUTINE_AT(Version, 2);
ROUTINE_AT(Context, 8);
ROUTINE_AT(InterfaceReference, 0x10);
ROUTINE_AT(InterfaceDereference, 0x18);
ROUTINE_AT(SetVirtualFunctionData, 0x20);
ROUTINE_AT(GetVirtualFunctionData, 0x28);
ROUTINE_AT(GetLocation, 0x30);
ROUTINE_AT(GetResources, 0x38);
ROUTINE_AT(EnableVirtualization, 0x40);
ROUTINE_AT(GetVirtualFunctionProbedBars, 0x48);
ASSERT(sizeof(*(PINTERFACE)0) == sizeof(INTERFACE));
ASSERT(sizeof(*(PPCI_VIRTUALIZATION_INTERFACE)0) == sizeof(PCI_VIRTUALIZATION_INTERFACE));
ASSERT(OPENHDV_PCI_VIRTUALIZATION_INTERFACE_VERSION == 1);

#define MEMBER_AT(member, offset) ASSERT(offsetof(OPENHDV_PHYSICAL_FUNCTION, member) == (offset))

ASSERT(sizeof(OPENHDV_PHYSICAL_FUNCTION_VERSION) == 4);
ASSERT(OpenHdvPhysicalFunctionVersionInvalid == 0 && OpenHdvPhysicalFunctionVersion1 == 1);
ASSERT(sizeof(OPENHDV_PHYSICAL_FUNCTION) == 56);
ASSERT(sizeof(*(POPENHDV_PHYSICAL_FUNCTION)0) == sizeof(OPENHDV_PHYSICAL_FUNCTION));
MEMBER_AT(Version, 0);
MEMBER_AT(SupportedPageSizes, 4);
MEMBER_AT(ProbedBars, 8);
MEMBER_AT(Segment, 32);
MEMBER_AT(TotalVFs, 36);
MEMBER_AT(VirtualFunctionDeviceID, 38);
MEMBER_AT(Device, 40);
MEMBER_AT(Function, 41);
MEMBER_AT(SecondaryBus, 42);
MEMBER_AT(SubordinateBus, 43);
MEMBER_AT(AriForwarding, 44);
MEMBER_AT(GuestControlsSriov, 45);
MEMBER_AT(Reserved, 46);
MEMBER_AT(SupplyVirtualFunction, 48);

ASSERT(NT_SUCCESS(STATUS_SUCCESS) && !NT_SUCCESS(STATUS_UNSUCCESSFUL));
ASSERT((UINT32)STATUS_UNSUCCESSFUL == 0xC0000001 && (UINT32)STATUS_INVALID_HANDLE == 0xC0000008);
ASSERT((UINT32)STATUS_INVALID_PARAMETER == 0xC000000D && (UINT32)STATUS_ACCESS_DENIED == 0xC0000022);
ASSERT((UINT32)STATUS_BUFFER_TOO_SMALL == 0xC0000023 && (UINT32)STATUS_NOT_SUPPORTED == 0xC00000BB);
ASSERT((UINT32)STATUS_INVALID_DEVICE_STATE == 0xC0000184);
ASSERT((UINT32)STATUS_POSSIBLE_DEADLOCK == 0xC0000194);

ASSERT(S_OK == 0);
ASSERT((UINT32)E_NOINTERFACE == 0x80004002 && (UINT32)E_POINTER == 0x80004003);
ASSERT((UINT32)E_FAIL == 0x80004005 && (UINT32)E_INVALIDARG == 0x80070057);
ASSERT((UINT32)E_HANDLE == 0x80070006 && (UINT32)E_OUTOFMEMORY == 0x8007000E);
ASSERT((UINT32)E_ACCESSDENIED == 0x80070005);
ASSERT((UINT32)WIN32(INVALID_ADDRESS) == 0x800701E7 && (UINT32)WIN32(BUSY) == 0x800700AA);
ASSERT((UINT32)WIN32(ALREADY_EXISTS) == 0x800700B7 && (UINT32)WIN32(NOT_FOUND) == 0x80070490);
ASSERT((UINT32)WIN32(POSSIBLE_DEADLOCK) == 0x8007046B && (UINT32)WIN32(RETRY) == 0x800704D5);
ASSERT((UINT32)WIN32(NOT_READY) == 0x80070015);
ASSERT((UINT32)HCS_E_SYSTEM_NOT_FOUND == 0x8037010E);
ASSERT((UINT32)HCS_E_INVALID_STATE == 0x80370105);
ASSERT(SUCCEEDED(S_OK) && SUCCEEDED(S_FALSE) && FAILED(E_FAIL) && !FAILED(S_OK));
ASSERT(HRESULT_FROM_WIN32(ERROR_SUCCESS) == S_OK && HRESULT_FROM_WIN32(E_FAIL) == E_FAIL);

/* As the library's own functions are declared. */
static HRESULT(WINAPI* const initialize_host)(HCS_SYSTEM, HDV_HOST*) = HdvInitializeDeviceHost;

/* As the vendor's pages write the routines' types out. */
static PCI_VIRTUALIZATION_INTERFACE routines;
typedef ULONG (*data_routine)(PVOID, USHORT, PVOID, ULONG, ULONG);
typedef NTSTATUS (*location_routine)(PVOID, USHORT, PUINT16, PUINT8, PUINT8);
typedef VOID (*resources_routine)(PVOID, PUINT8);
typedef NTSTATUS (*enable_routine)(PVOID, UINT16, BOOLEAN, BOOLEAN, BOOLEAN);
typedef NTSTATUS (*probed_bars_routine)(PVOID, PULONG);

CHECK(interface_ids_are_the_vendors)
{
    const GUID unknown = { 0, 0, 0, { 0xc0, 0, 0, 0, 0, 0, 0, 0x46 } };
    char text[OPENHDV_GUID_TEXT_SIZE];
    EXPECT(memcmp(&unknown, &IID_IUnknown, sizeof unknown) == 0);
    EXPECT_RESULT(OpenHdvFormatGuid(&IID_IUnknown, text), S_OK);
    EXPECT(strcmp(text, "00000000-0000-0000-c000-000000000046") == 0);
    EXPECT_RESULT(OpenHdvFormatGuid(&IID_IVmDeviceHost, text), S_OK);
    EXPECT(strcmp(text, "78523d62-d919-47ca-9cd7-08139172d685") == 0);
    EXPECT_RESULT(OpenHdvFormatGuid(&IID_IVmDeviceHostSupport, text), S_OK);
    EXPECT(strcmp(text, "e31aa49b-0914-465e-b145-1b9ba13efb10") == 0);
    EXPECT_RESULT(OpenHdvFormatGuid(&GUID_PCI_VIRTUALIZATION_INTERFACE, text), S_OK);
    EXPECT(strcmp(text, "64897b47-3a4a-4d75-bc74-89dd6c078293") == 0);
}

CHECK(wide_characters_are_utf16)
{
#if defined(__SIZEOF_WCHAR_T__) && __SIZEOF_WCHAR_T__ == 2
    PCWSTR text = L"\u00e4\U0001f600";
#else
    PCWSTR text = u"\u00e4\U0001f600";
#endif
    EXPECT(text[0] == 0xe4 && text[1] == 0xd83d && text[2] == 0xde00 && text[3] == 0);
}

CHECK(functions_have_the_vendors_types)
{
    data_routine set = routines.SetVirtualFunctionData;
    data_routine get = routines.GetVirtualFunctionData;
    location_routine locate = routines.GetLocation;
    resources_routine resources = routines.GetResources;
    enable_routine enable = routines.EnableVirtualization;
    probed_bars_routine probed_bars = routines.GetVirtualFunctionProbedBars;
    EXPECT(initialize_host != NULL);
    EXPECT(set == NULL && get == NULL && locate == NULL && resources == NULL);
    EXPECT(enable == NULL && probed_bars == NULL);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(interface_ids_are_the_vendors);
    RUN(wide_characters_are_utf16);
    RUN(functions_have_the_vendors_types);
    FINISH();
}
