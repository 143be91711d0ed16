/*
 * Layouts and values of what sources written for Windows take for granted, beside what layout.c has: further
 * names of the integer types, pointers, result codes, helpers of <windows.h>.
 */
#include <stddef.h>
#include <string.h>

/* Where <windows.h> stands for a header that sources include first. */
#include <windows.h>

#include <openhdv.h>

#ifdef __cplusplus
#define ASSERT(condition) static_assert(condition, #condition)
#define IS_SIGNED(type) (static_cast<type>(-1) < static_cast<type>(1))
#else
#define ASSERT(condition) _Static_assert(condition, #condition)
#define IS_SIGNED(type) ((type)-1 < (type)1)
#endif

#define INTEGER(type, bytes, is_signed) ASSERT(sizeof(type) == (bytes) && IS_SIGNED(type) == (is_signed))
#define POINTER(type, target)                                                                    \
    ASSERT(sizeof(type) == sizeof(void*) && sizeof(*(type)0) == sizeof(target))
#define ADDRESS(type) ASSERT(sizeof(type) == sizeof(void*))

ASSERT(sizeof(CHAR) == 1);
INTEGER(UCHAR, 1, 0);
INTEGER(SHORT, 2, 1);
INTEGER(UINT, 4, 0);
INTEGER(LONG32, 4, 1);
INTEGER(ULONG32, 4, 0);
INTEGER(DWORD32, 4, 0);
INTEGER(LONG64, 8, 1);
INTEGER(ULONG64, 8, 0);
INTEGER(DWORD64, 8, 0);
INTEGER(LONGLONG, 8, 1);
INTEGER(SIZE_T, sizeof(void*), 0);
INTEGER(INT_PTR, sizeof(void*), 1);
INTEGER(UINT_PTR, sizeof(void*), 0);
INTEGER(LONG_PTR, sizeof(void*), 1);
INTEGER(ULONG_PTR, sizeof(void*), 0);
INTEGER(DWORD_PTR, sizeof(void*), 0);

ADDRESS(LPVOID);
ADDRESS(LPCVOID);
POINTER(PBYTE, BYTE);
POINTER(LPBYTE, BYTE);
POINTER(PUCHAR, UCHAR);
POINTER(PBOOL, BOOL);
POINTER(PUSHORT, USHORT);
POINTER(PWORD, WORD);
POINTER(PLONG, LONG);
POINTER(PULONG, ULONG);
POINTER(PDWORD, DWORD);
POINTER(LPDWORD, DWORD);
POINTER(PUINT8, UINT8);
POINTER(PUINT16, UINT16);
POINTER(PUINT32, UINT32);
POINTER(PUINT64, UINT64);
POINTER(PULONG64, ULONG64);
POINTER(PSIZE_T, SIZE_T);
POINTER(PSTR, CHAR);
POINTER(LPSTR, CHAR);
POINTER(PCSTR, CHAR);
POINTER(LPCSTR, CHAR);
POINTER(PWCHAR, WCHAR);
POINTER(PWSTR, WCHAR);
POINTER(LPWSTR, WCHAR);
POINTER(LPCWSTR, WCHAR);
POINTER(PHANDLE, HANDLE);
POINTER(LPGUID, GUID);
POINTER(LPCGUID, GUID);
POINTER(PHDV_HOST, HDV_HOST);
POINTER(PHDV_DEVICE, HDV_DEVICE);
POINTER(PHDV_PCI_PNP_ID, HDV_PCI_PNP_ID);
POINTER(PHDV_PCI_DEVICE_INTERFACE, HDV_PCI_DEVICE_INTERFACE);

ASSERT(sizeof(IID) == 16 && sizeof(CLSID) == 16);
ADDRESS(LPUNKNOWN);
#ifdef __cplusplus
/* Of a reference, sizeof gives what it refers to. */
ASSERT(sizeof(REFGUID) == 16 && sizeof(REFIID) == 16 && sizeof(REFCLSID) == 16);
/* A pointer to a table, as in C. */
ASSERT(sizeof(IUnknown) == sizeof(void*) && sizeof(IVmDeviceHost) == sizeof(void*));
ASSERT(sizeof(IVmDeviceHostSupport) == sizeof(void*));
#else
ADDRESS(REFGUID);
ADDRESS(REFIID);
ADDRESS(REFCLSID);
ADDRESS(IUnknown);
ADDRESS(IVmDeviceHost);
ADDRESS(IVmDeviceHostSupport);
ASSERT(sizeof(IUnknownVtbl) == 3 * sizeof(void*));
ASSERT(offsetof(IUnknownVtbl, QueryInterface) == 0);
ASSERT(offsetof(IUnknownVtbl, AddRef) == sizeof(void*));
ASSERT(offsetof(IUnknownVtbl, Release) == 2 * sizeof(void*));
ASSERT(sizeof(IVmDeviceHostVtbl) == 4 * sizeof(void*));
ASSERT(offsetof(IVmDeviceHostVtbl, GetDeviceInstance) == 3 * sizeof(void*));
ASSERT(sizeof(IVmDeviceHostSupportVtbl) == 4 * sizeof(void*));
ASSERT(offsetof(IVmDeviceHostSupportVtbl, RegisterDeviceHost) == 3 * sizeof(void*));
#endif

ASSERT(sizeof(OPENHDV_LOG_LEVEL) == 4 && sizeof(OPENHDV_LOG_CALLBACK) == sizeof(void*));
ASSERT(OpenHdvLogLevelOff == 0 && OpenHdvLogLevelError == 1 && OpenHdvLogLevelWarning == 2);
ASSERT(OpenHdvLogLevelInfo == 3 && OpenHdvLogLevelDebug == 4 && OpenHdvLogLevelTrace == 5);
ASSERT(OPENHDV_GUID_TEXT_SIZE == sizeof "00000000-0000-0000-c000-000000000046");

ASSERT(sizeof(HCS_EVENT) == 3 * sizeof(void*) && offsetof(HCS_EVENT, Type) == 0);
ASSERT(offsetof(HCS_EVENT, EventData) == sizeof(void*));
ASSERT(offsetof(HCS_EVENT, Operation) == 2 * sizeof(void*));
ASSERT(sizeof(HCS_PROCESS_INFORMATION) == 8 + 3 * sizeof(void*));
ASSERT(offsetof(HCS_PROCESS_INFORMATION, ProcessId) == 0 && offsetof(HCS_PROCESS_INFORMATION, Reserved) == 4);
ASSERT(offsetof(HCS_PROCESS_INFORMATION, StdInput) == 8);
ASSERT(offsetof(HCS_PROCESS_INFORMATION, StdOutput) == 8 + sizeof(void*));
ASSERT(offsetof(HCS_PROCESS_INFORMATION, StdError) == 8 + 2 * sizeof(void*));
ASSERT(sizeof(HCS_CREATE_OPTIONS_1) == 6 * sizeof(void*) && offsetof(HCS_CREATE_OPTIONS_1, Version) == 0);
ASSERT(offsetof(HCS_CREATE_OPTIONS_1, UserToken) == sizeof(void*));
ASSERT(offsetof(HCS_CREATE_OPTIONS_1, SecurityDescriptor) == 2 * sizeof(void*));
ASSERT(offsetof(HCS_CREATE_OPTIONS_1, CallbackOptions) == 3 * sizeof(void*));
ASSERT(offsetof(HCS_CREATE_OPTIONS_1, CallbackContext) == 4 * sizeof(void*));
ASSERT(offsetof(HCS_CREATE_OPTIONS_1, Callback) == 5 * sizeof(void*));
INTEGER(HCS_OPERATION_TYPE, 4, 1);
ASSERT(sizeof(HCS_EVENT_TYPE) == 4 && sizeof(HCS_EVENT_OPTIONS) == 4 && sizeof(HCS_RESOURCE_TYPE) == 4);
ASSERT(sizeof(HCS_OPERATION_OPTIONS) == 4 && sizeof(HCS_CREATE_OPTIONS) == 4);
ADDRESS(HCS_PROCESS);
ADDRESS(HLOCAL);
ADDRESS(SECURITY_DESCRIPTOR*);
ADDRESS(HCS_OPERATION_COMPLETION);
ADDRESS(HCS_EVENT_CALLBACK);
ASSERT(HCS_INVALID_OPERATION_ID == 0xffffffffffffffff && INFINITE == 0xffffffff);
ASSERT(GENERIC_ALL == 0x10000000 && ERROR_FILE_NOT_FOUND == 2);

ASSERT(FALSE == 0 && TRUE == 1 && FACILITY_WIN32 == 7);
ASSERT((UINT32)E_NOTIMPL == 0x80004001 && (UINT32)E_ABORT == 0x80004004);
ASSERT((UINT32)E_UNEXPECTED == 0x8000FFFF);
ASSERT(ERROR_ACCESS_DENIED == 5 && ERROR_INVALID_HANDLE == 6 && ERROR_NOT_ENOUGH_MEMORY == 8);
ASSERT(ERROR_OUTOFMEMORY == 14 && ERROR_NOT_SUPPORTED == 50 && ERROR_INVALID_PARAMETER == 87);
ASSERT(ERROR_INSUFFICIENT_BUFFER == 122 && ERROR_INVALID_STATE == 5023);
ASSERT(HRESULT_CODE(HRESULT_FROM_WIN32(ERROR_BUSY)) == ERROR_BUSY);
ASSERT(HRESULT_FROM_WIN32(ERROR_ACCESS_DENIED) == E_ACCESSDENIED);

/* Conventions and marks stand where their names say, and mean nothing. */
EXTERN_C_START
VOID WINAPI marked(_In_ CONST INT* first, _Out_opt_ INT* second);
INT APIENTRY called(void);
INT NTAPI called_too(void);
INT CALLBACK called_back(void);
INT STDAPICALLTYPE called_as_api(void);
INT STDMETHODCALLTYPE called_as_method(void);
EXTERN_C_END
EXTERN_C INT once(void);
STDAPI exported(void);
STDMETHODIMP implemented(void);
STDMETHODIMP_(ULONG) implemented_too(void);

STDMETHODIMP implemented(void)
{
    return E_NOTIMPL;
}

STDMETHODIMP_(ULONG) implemented_too(void)
{
    return 3;
}

struct DECLSPEC_NOVTABLE holder {
    int before;
    int field;
};

int main(void)
{
    const GUID unknown = IID_IUnknown;
    unsigned char bytes[4] = { 1, 2, 3, 4 };
    unsigned char copy[4] = { 0, 0, 0, 0 };
    struct holder holder = { 1, 2 };
    int failures = 0;

    UNREFERENCED_PARAMETER(holder);
    failures += ARRAYSIZE(bytes) != 4;
    failures += CONTAINING_RECORD(&holder.field, struct holder, field) != &holder;
    CopyMemory(copy, bytes, 4);
    failures += memcmp(copy, bytes, 4) != 0;
    MoveMemory(copy, copy + 1, 3);
    failures += copy[0] != 2 || copy[2] != 4;
    FillMemory(copy, 4, 7);
    failures += copy[0] != 7 || copy[3] != 7;
    ZeroMemory(copy, 4);
    failures += copy[0] != 0 || copy[3] != 0;
    RtlCopyMemory(copy, bytes, 4);
    failures += memcmp(copy, bytes, 4) != 0;
    RtlMoveMemory(copy, copy + 1, 3);
    failures += copy[0] != 2 || copy[2] != 4;
    RtlFillMemory(copy, 4, 7);
    failures += copy[0] != 7 || copy[3] != 7;
    RtlZeroMemory(copy, 4);
    failures += copy[0] != 0 || copy[3] != 0;
#ifdef __cplusplus
    failures += !IsEqualGUID(unknown, IID_IUnknown) || !IsEqualIID(unknown, IID_IUnknown);
    failures += IsEqualCLSID(unknown, IID_IVmDeviceHost) != 0;
#else
    failures += !IsEqualGUID(&unknown, &IID_IUnknown) || !IsEqualIID(&unknown, &IID_IUnknown);
    failures += IsEqualCLSID(&unknown, &IID_IVmDeviceHost) != 0;
#endif
    failures += INVALID_HANDLE_VALUE != OPENHDV_HANDLE_FROM_DESCRIPTOR(-1);
    failures += OPENHDV_DESCRIPTOR_FROM_HANDLE(OPENHDV_HANDLE_FROM_DESCRIPTOR(5)) != 5;
    failures += SUCCEEDED(implemented()) || implemented_too() != 3;
    return failures;
}
