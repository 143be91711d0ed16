/*
 * Host Device Virtualization (HDV): a program supplies an emulated PCI device, which is put into a
 * virtual machine.
 *
 * A device is a table of ten callbacks (HDV_PCI_DEVICE_INTERFACE) and a context pointer. Calls into
 * one device never overlap; calls into different devices run in parallel, on threads of the
 * library. A guest access waits for its callback, so callbacks should return soon.
 *
 * Every function may be called from any thread, and from inside callbacks unless it says otherwise.
 * A handle that is null, stale or of another kind gives E_HANDLE, a null pointer E_POINTER, a flag
 * or a BAR that does not exist E_INVALIDARG. ERROR_... in a comment stands for the result
 * HRESULT_FROM_WIN32(ERROR_...). The text of the last failure on this thread:
 * OpenHdvGetLastErrorText (openhdv.h).
 *
 * Callbacks return. A C++ exception out of one, or pthread_exit in one, ends the process with a message that names
 * the callback; longjmp out of one leaves its device locked for good, and must not be.
 *
 * The library's threads have the signal mask of the thread that made the device host. A child of fork
 * has none of them, and so none of its parent's device hosts: E_HANDLE. It can make its own.
 */
#ifndef OPENHDV_HYPERVDEVICEVIRTUALIZATION_H
#define OPENHDV_HYPERVDEVICEVIRTUALIZATION_H

#include "computedefs.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A device host: the part of this process that serves devices. */
typedef void* HDV_HOST;
typedef HDV_HOST* PHDV_HOST;

/* A device of a device host. */
typedef void* HDV_DEVICE;
typedef HDV_DEVICE* PHDV_DEVICE;

/* Kinds of device. */
typedef OPENHDV_ENUM(HDV_DEVICE_TYPE) {
    HdvDeviceTypeUndefined = 0,
    HdvDeviceTypePCI = 1
} HDV_DEVICE_TYPE;

/* How a device host is set up. */
typedef OPENHDV_ENUM(HDV_DEVICE_HOST_FLAGS) {
    HdvDeviceHostFlagNone = 0,
    /* Accepted; there is no COM security to initialize here. */
    HdvDeviceHostFlagInitializeComSecurity = 1
} HDV_DEVICE_HOST_FLAGS;

/* Versions of HDV_PCI_DEVICE_INTERFACE. */
typedef OPENHDV_ENUM(HDV_PCI_INTERFACE_VERSION) {
    HdvPciDeviceInterfaceVersionInvalid = 0,
    HdvPciDeviceInterfaceVersion1 = 1
} HDV_PCI_INTERFACE_VERSION;

/* The base address registers. */
typedef OPENHDV_ENUM(HDV_PCI_BAR_SELECTOR) {
    HDV_PCI_BAR0 = 0,
    HDV_PCI_BAR1 = 1,
    HDV_PCI_BAR2 = 2,
    HDV_PCI_BAR3 = 3,
    HDV_PCI_BAR4 = 4,
    HDV_PCI_BAR5 = 5
} HDV_PCI_BAR_SELECTOR;

#define HDV_PCI_BAR_COUNT 6

/* What a guest may do with a section-backed range. Without Writeable its writes are ignored. */
typedef OPENHDV_ENUM(HDV_MMIO_MAPPING_FLAGS) {
    HdvMmioMappingFlagNone = 0,
    HdvMmioMappingFlagWriteable = 1,
    HdvMmioMappingFlagExecutable = 2
} HDV_MMIO_MAPPING_FLAGS;

/* Which writes trigger a doorbell: the size, and any value if the last flag is set. The functions take 64
 * bits, of which the low 32 count. */
typedef OPENHDV_ENUM(HDV_DOORBELL_FLAGS) {
    HDV_DOORBELL_FLAG_TRIGGER_SIZE_ANY = 0,
    HDV_DOORBELL_FLAG_TRIGGER_SIZE_BYTE = 1,
    HDV_DOORBELL_FLAG_TRIGGER_SIZE_WORD = 2,
    HDV_DOORBELL_FLAG_TRIGGER_SIZE_DWORD = 3,
    HDV_DOORBELL_FLAG_TRIGGER_SIZE_QWORD = 4,
    HDV_DOORBELL_FLAG_TRIGGER_ANY_VALUE = (-2147483647 - 1) /* 0x80000000 */
} HDV_DOORBELL_FLAGS;

/* The identity that the guest sees. */
typedef struct HDV_PCI_PNP_ID {
    UINT16 VendorID;
    UINT16 DeviceID;
    UINT8 RevisionID;
    UINT8 ProgIf;
    UINT8 SubClass;
    UINT8 BaseClass;
    UINT16 SubVendorID;
    UINT16 SubSystemID;
} HDV_PCI_PNP_ID, *PHDV_PCI_PNP_ID;

/* ---- Callbacks. DeviceContext is what HdvCreateDeviceInstance was given. ---- */

/* The device is powered on; once, first. A failure ends the power-on: only Teardown follows. */
typedef HRESULT(CALLBACK* HDV_PCI_DEVICE_INITIALIZE)(_In_opt_ void* DeviceContext);

/* Last, exactly once for every device that was created, also if it was never powered on. The context may be
 * freed. */
typedef void(CALLBACK* HDV_PCI_DEVICE_TEARDOWN)(_In_opt_ void* DeviceContext);

/* The strings of the virtual machine's configuration; once, after Initialize, also when there are none. */
typedef HRESULT(CALLBACK* HDV_PCI_DEVICE_SET_CONFIGURATION)(
    _In_opt_ void* DeviceContext,
    _In_ UINT32 ConfigurationValueCount,
    _In_reads_(ConfigurationValueCount) const PCWSTR* ConfigurationValues);

/* Identity, and what each BAR register reads after all ones were written to it (0: no such BAR):
 * 0xfffff000 for 4 KiB with an address of 32 bits; 0xfffff00c, and 0xffffffff for the next register, for
 * 4 KiB that are 64-bit and prefetchable. Sizes are powers of two from 16 bytes on; no I/O BARs. */
typedef HRESULT(CALLBACK* HDV_PCI_DEVICE_GET_DETAILS)(
    _In_opt_ void* DeviceContext,
    _Out_ HDV_PCI_PNP_ID* PnpId,
    _In_ UINT32 ProbedBarsCount,
    _Out_writes_(ProbedBarsCount) UINT32* ProbedBars);

/* Virtual processors are about to start or resume. */
typedef HRESULT(CALLBACK* HDV_PCI_DEVICE_START)(_In_opt_ void* DeviceContext);

/* Virtual processors are about to stop or pause. The device keeps its state. */
typedef void(CALLBACK* HDV_PCI_DEVICE_STOP)(_In_opt_ void* DeviceContext);

/* The dword of config space at Offset, in bytes, a multiple of 4 below 4096. After a failure the guest
 * reads all ones. Identity, BARs and the command register are the host's: what is read there is not
 * shown. Status, except Capabilities List, 0x34 (where the capability list begins) and everything from
 * 0x40 up are the device's. */
typedef HRESULT(CALLBACK* HDV_PCI_READ_CONFIG_SPACE)(
    _In_opt_ void* DeviceContext, _In_ UINT32 Offset, _Out_ UINT32* Value);

/* All 32 bits of a dword, also of those that the host answers. After a failure the write is dropped. */
typedef HRESULT(CALLBACK* HDV_PCI_WRITE_CONFIG_SPACE)(
    _In_opt_ void* DeviceContext, _In_ UINT32 Offset, _In_ UINT32 Value);

/* A guest reads Length bytes (1, 2, 4 or 8) at Offset of a BAR, in bytes, a multiple of Length. After a
 * failure it reads all ones. */
typedef HRESULT(CALLBACK* HDV_PCI_READ_INTERCEPTED_MEMORY)(
    _In_opt_ void* DeviceContext,
    _In_ HDV_PCI_BAR_SELECTOR BarIndex,
    _In_ UINT64 Offset,
    _In_ UINT64 Length,
    _Out_writes_(Length) BYTE* Value);

/* A guest writes, as above; so does the host, its messages to the device's MSI-X table. After a failure
 * the write is dropped. */
typedef HRESULT(CALLBACK* HDV_PCI_WRITE_INTERCEPTED_MEMORY)(
    _In_opt_ void* DeviceContext,
    _In_ HDV_PCI_BAR_SELECTOR BarIndex,
    _In_ UINT64 Offset,
    _In_ UINT64 Length,
    _In_reads_(Length) const BYTE* Value);

/* The callbacks of a PCI device; all are required. HdvCreateDeviceInstance copies the table. */
typedef struct HDV_PCI_DEVICE_INTERFACE {
    HDV_PCI_INTERFACE_VERSION Version;
    HDV_PCI_DEVICE_INITIALIZE Initialize;
    HDV_PCI_DEVICE_TEARDOWN Teardown;
    HDV_PCI_DEVICE_SET_CONFIGURATION SetConfiguration;
    HDV_PCI_DEVICE_GET_DETAILS GetDetails;
    HDV_PCI_DEVICE_START Start;
    HDV_PCI_DEVICE_STOP Stop;
    HDV_PCI_READ_CONFIG_SPACE ReadConfigSpace;
    HDV_PCI_WRITE_CONFIG_SPACE WriteConfigSpace;
    HDV_PCI_READ_INTERCEPTED_MEMORY ReadInterceptedMemory;
    HDV_PCI_WRITE_INTERCEPTED_MEMORY WriteInterceptedMemory;
} HDV_PCI_DEVICE_INTERFACE, *PHDV_PCI_DEVICE_INTERFACE;

/* ---- Device hosts. ---- */

/* Makes this process a device host for a compute system. A process may have several. A virtual machine that is being
 * created is waited for; it has the host's devices whose HostingModel is External. */
HRESULT WINAPI HdvInitializeDeviceHost(_In_ HCS_SYSTEM ComputeSystem,
                                       _Out_ HDV_HOST* DeviceHostHandle);

/* The same, with flags. */
HRESULT WINAPI HdvInitializeDeviceHostEx(_In_ HCS_SYSTEM ComputeSystem,
                                         _In_ HDV_DEVICE_HOST_FLAGS Flags,
                                         _Out_ HDV_HOST* DeviceHostHandle);

/* Makes this process a device host that reaches its compute system through a proxy. ProxyInterface is the
 * proxy's IUnknown and must support IVmDeviceHostSupport; its RegisterDeviceHost is called, and a failure of it is
 * returned unchanged. VmId is passed on for the proxy's own use. */
HRESULT WINAPI HdvInitializeDeviceHostForProxy(_In_ const GUID* VmId,
                                               _In_ PVOID ProxyInterface,
                                               _Out_ HDV_HOST* DeviceHostHandle);

/* The same, with flags (HDV_DEVICE_HOST_FLAGS). */
HRESULT WINAPI HdvInitializeDeviceHostForProxyEx(_In_ const GUID* VmId,
                                                 _In_ PVOID ProxyInterface,
                                                 _In_ DWORD Flags,
                                                 _Out_ HDV_HOST* DeviceHostHandle);

/* On the proxy's side: registers the device host behind DeviceHost, an IUnknown that supports
 * IVmDeviceHost, with a compute system, for its devices whose HostingModel is ExternalRestricted. TargetProcessId is what
 * RegisterDeviceHost was called with; *IpcSectionHandle becomes 0. */
HRESULT WINAPI HdvProxyDeviceHost(_In_ HCS_SYSTEM ComputeSystem,
                                  _In_ PVOID DeviceHost,
                                  _In_ DWORD TargetProcessId,
                                  _Out_ UINT64* IpcSectionHandle);

/* Stops and tears down every device of a host, releases all that belongs to them, and the host. Waits for
 * callbacks under way; ERROR_POSSIBLE_DEADLOCK inside one of a device of that host. */
HRESULT WINAPI HdvTeardownDeviceHost(_In_ HDV_HOST DeviceHostHandle);

/* ---- Devices. ---- */

/* Creates a device. DeviceInterface is an HDV_PCI_DEVICE_INTERFACE, which is copied. The class names
 * the emulator, the instance the device. *DeviceHandle is set before any callback is called.
 *
 * After a failure *DeviceHandle is null. If Initialize was called by then, Teardown was called as well;
 * otherwise no callback was, and the context is the caller's as before. */
HRESULT WINAPI HdvCreateDeviceInstance(_In_ HDV_HOST DeviceHostHandle,
                                       _In_ HDV_DEVICE_TYPE DeviceType,
                                       _In_ const GUID* DeviceClassId,
                                       _In_ const GUID* DeviceInstanceId,
                                       _In_ const VOID* DeviceInterface,
                                       _In_opt_ void* DeviceContext,
                                       _Out_ HDV_DEVICE* DeviceHandle);

/* ---- Guest memory. ----
 *
 * Addresses are DMA addresses: guest physical ones, unless the virtual machine has an IOMMU. A ByteCount
 * of 0 gives E_INVALIDARG, before a virtual machine is connected there is ERROR_NOT_READY, what is not
 * wholly guest memory gives ERROR_INVALID_ADDRESS, what may not be accessed like that E_ACCESSDENIED.
 * Memory that the virtual machine does not share can be copied, but not inside a callback
 * (ERROR_RETRY), and not mapped (E_OUTOFMEMORY). */

/* Copies ByteCount bytes from guest memory. After a failure the buffer's content is undefined. */
HRESULT WINAPI HdvReadGuestMemory(_In_ HDV_DEVICE Requestor,
                                  _In_ UINT64 GuestPhysicalAddress,
                                  _In_ UINT32 ByteCount,
                                  _Out_writes_(ByteCount) BYTE* Buffer);

/* Copies ByteCount bytes to guest memory: all or none. */
HRESULT WINAPI HdvWriteGuestMemory(_In_ HDV_DEVICE Requestor,
                                   _In_ UINT64 GuestPhysicalAddress,
                                   _In_ UINT32 ByteCount,
                                   _In_reads_(ByteCount) const BYTE* Buffer);

/* Maps guest memory into this process, contiguously. Until it is destroyed, or the device is torn
 * down, it stays memory, also where the guest's goes away. */
HRESULT WINAPI HdvCreateGuestMemoryAperture(_In_ HDV_DEVICE Requestor,
                                            _In_ UINT64 GuestPhysicalAddress,
                                            _In_ UINT32 ByteCount,
                                            _In_ BOOL WriteProtected,
                                            _Outptr_ void** MappedAddress);

/* Takes an aperture away. ERROR_NOT_FOUND when the device has none at this address. */
HRESULT WINAPI HdvDestroyGuestMemoryAperture(_In_ HDV_DEVICE Requestor,
                                             _In_ void* MappedAddress);

/* ---- Interrupts. ---- */

/* Delivers the interrupt whose message is this address and data, as the device reads them from its own
 * MSI capability or MSI-X table. ERROR_NOT_FOUND when no vector that is enabled has this message,
 * ERROR_NOT_READY when no virtual machine is connected. */
HRESULT WINAPI HdvDeliverGuestInterrupt(_In_ HDV_DEVICE Requestor,
                                        _In_ UINT64 MsiAddress,
                                        _In_ UINT32 MsiData);

/* ---- Doorbells. ---- */

/* A guest's write at BarOffset, of the size and value asked for (HDV_DOORBELL_FLAGS), signals the event
 * and is discarded; the device is not called. BarOffset is in bytes, a multiple of the size. The event is
 * duplicated. ERROR_ALREADY_EXISTS for one that the same writes trigger, ERROR_BUSY where the virtual
 * machine has mapped a section. */
HRESULT WINAPI HdvRegisterDoorbell(_In_ HDV_DEVICE Requestor,
                                   _In_ HDV_PCI_BAR_SELECTOR BarIndex,
                                   _In_ UINT64 BarOffset,
                                   _In_ UINT64 TriggerValue,
                                   _In_ UINT64 Flags,
                                   _In_ HANDLE DoorbellEvent);

/* Takes a doorbell back; all values as they were given. ERROR_NOT_FOUND when there is no such one. */
HRESULT WINAPI HdvUnregisterDoorbell(_In_ HDV_DEVICE Requestor,
                                     _In_ HDV_PCI_BAR_SELECTOR BarIndex,
                                     _In_ UINT64 BarOffset,
                                     _In_ UINT64 TriggerValue,
                                     _In_ UINT64 Flags);

/* A guest's write of any size to a page of 4096 bytes of a BAR that no doorbell in it matches signals the
 * event and is discarded. Fails as HdvRegisterDoorbell. */
HRESULT WINAPI HdvRegisterDoorbellPage(_In_ HDV_DEVICE Requestor,
                                       _In_ HDV_PCI_BAR_SELECTOR BarIndex,
                                       _In_ UINT64 PageIndex,
                                       _In_ HANDLE DoorbellEvent);

/* Takes a doorbell page back. */
HRESULT WINAPI HdvUnregisterDoorbellPage(_In_ HDV_DEVICE Requestor,
                                         _In_ HDV_PCI_BAR_SELECTOR BarIndex,
                                         _In_ UINT64 PageIndex);

/* ---- Sections. ---- */

/* Backs pages of a BAR (4096 bytes each) with pages of a section, which is duplicated: the guest's
 * accesses go there and not to the device. E_INVALIDARG for pages that the BAR does not have (known
 * after GetDetails: what was placed before and does not fit is never reached), ERROR_ALREADY_EXISTS when another range overlaps, E_OUTOFMEMORY when the section cannot be mapped
 * like that. */
HRESULT WINAPI HdvCreateSectionBackedMmioRange(_In_ HDV_DEVICE Requestor,
                                               _In_ HDV_PCI_BAR_SELECTOR BarIndex,
                                               _In_ UINT64 OffsetInPages,
                                               _In_ UINT64 LengthInPages,
                                               _In_ HDV_MMIO_MAPPING_FLAGS MappingFlags,
                                               _In_ HANDLE SectionHandle,
                                               _In_ UINT64 SectionOffsetInPages);

/* Takes the range that begins at OffsetInPages back. ERROR_BUSY while the virtual machine has it mapped. */
HRESULT WINAPI HdvDestroySectionBackedMmioRange(_In_ HDV_DEVICE Requestor,
                                                _In_ HDV_PCI_BAR_SELECTOR BarIndex,
                                                _In_ UINT64 OffsetInPages);

#ifdef __cplusplus
}

OPENHDV_ENUM_FLAG_OPERATORS(HDV_DEVICE_HOST_FLAGS)
OPENHDV_ENUM_FLAG_OPERATORS(HDV_MMIO_MAPPING_FLAGS)
OPENHDV_ENUM_FLAG_OPERATORS(HDV_DOORBELL_FLAGS)
#endif

/* ---- The interfaces behind the proxy functions. ---- */

/* IVmDeviceHost: a device host, as its proxy sees it. {78523d62-d919-47ca-9cd7-08139172d685} */
DEFINE_GUID(IID_IVmDeviceHost, 0x78523d62, 0xd919, 0x47ca, 0x9c, 0xd7, 0x08, 0x13, 0x91, 0x72,
            0xd6, 0x85);
/* IVmDeviceHostSupport: a proxy. {e31aa49b-0914-465e-b145-1b9ba13efb10} */
DEFINE_GUID(IID_IVmDeviceHostSupport, 0xe31aa49b, 0x0914, 0x465e, 0xb1, 0x45, 0x1b, 0x9b, 0xa1,
            0x3e, 0xfb, 0x10);

#ifdef __cplusplus
OPENHDV_BEGIN_INTERFACES
extern "C++" {
struct IVmDeviceHost : public IUnknown {
    /* A device of the host; what is returned is opaque. */
    virtual HRESULT STDMETHODCALLTYPE GetDeviceInstance(REFGUID DeviceClassId,
                                                        REFGUID DeviceInstanceId,
                                                        IUnknown** DeviceInstance) = 0;
};

struct IVmDeviceHostSupport : public IUnknown {
    /* A device host in process ProcessId asks to be registered; see HdvProxyDeviceHost. */
    virtual HRESULT STDMETHODCALLTYPE RegisterDeviceHost(IVmDeviceHost* DeviceHost,
                                                         DWORD ProcessId,
                                                         UINT64* IpcSectionHandle) = 0;
};
}
OPENHDV_END_INTERFACES
#else
typedef struct IVmDeviceHost IVmDeviceHost;
typedef struct IVmDeviceHostSupport IVmDeviceHostSupport;

typedef struct IVmDeviceHostVtbl {
    HRESULT(STDMETHODCALLTYPE* QueryInterface)(IVmDeviceHost* This, REFIID riid, void** object);
    ULONG(STDMETHODCALLTYPE* AddRef)(IVmDeviceHost* This);
    ULONG(STDMETHODCALLTYPE* Release)(IVmDeviceHost* This);
    /* A device of the host; what is returned is opaque. */
    HRESULT(STDMETHODCALLTYPE* GetDeviceInstance)(IVmDeviceHost* This, REFGUID DeviceClassId,
                                                  REFGUID DeviceInstanceId,
                                                  IUnknown** DeviceInstance);
} IVmDeviceHostVtbl;

struct IVmDeviceHost {
    const IVmDeviceHostVtbl* lpVtbl;
};

typedef struct IVmDeviceHostSupportVtbl {
    HRESULT(STDMETHODCALLTYPE* QueryInterface)(IVmDeviceHostSupport* This, REFIID riid,
                                               void** object);
    ULONG(STDMETHODCALLTYPE* AddRef)(IVmDeviceHostSupport* This);
    ULONG(STDMETHODCALLTYPE* Release)(IVmDeviceHostSupport* This);
    /* A device host in process ProcessId asks to be registered; see HdvProxyDeviceHost. */
    HRESULT(STDMETHODCALLTYPE* RegisterDeviceHost)(IVmDeviceHostSupport* This,
                                                   IVmDeviceHost* DeviceHost, DWORD ProcessId,
                                                   UINT64* IpcSectionHandle);
} IVmDeviceHostSupportVtbl;

struct IVmDeviceHostSupport {
    const IVmDeviceHostSupportVtbl* lpVtbl;
};
#endif

#endif /* OPENHDV_HYPERVDEVICEVIRTUALIZATION_H */
