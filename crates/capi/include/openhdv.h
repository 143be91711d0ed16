/*
 * OpenHDV's additions to the HDV interface: what that has no word for. Strings here are UTF-8 with a
 * terminating zero. Functions that return an HRESULT leave a text for OpenHdvGetLastErrorText
 * when they fail.
 */
#ifndef OPENHDV_OPENHDV_H
#define OPENHDV_OPENHDV_H

#include "computecore.h"
#include "computedefs.h"
#include "hypervdevicevirtualization.h"

/* Between handles and the descriptors that they are. */
#define OPENHDV_HANDLE_FROM_DESCRIPTOR(fd) ((HANDLE)(intptr_t)(fd))
#define OPENHDV_DESCRIPTOR_FROM_HANDLE(handle) ((int)(intptr_t)(handle))

/* For HdvCreateSectionBackedMmioRange, with the other flags: this range will be destroyed while the virtual
 * machine runs. It is then never offered to it to map; every access costs an exit instead. */
#define OPENHDV_MMIO_MAPPING_FLAG_NEVER_OFFERED ((HDV_MMIO_MAPPING_FLAGS)0x80000000u)

/* Characters of a GUID as text, the terminating zero included. */
#define OPENHDV_GUID_TEXT_SIZE 37

#ifdef __cplusplus
extern "C" {
#endif

/* ---- A compute system that is a directory. ---- */

/* Opens a compute system whose devices listen on <Directory>/<instance id>.sock for whatever
 * vfio-user client connects, QEMU for example; the instance id as OpenHdvFormatGuid writes it. Such a device is
 * powered on when it is created: HdvCreateDeviceInstance calls Initialize, SetConfiguration and
 * GetDetails before it returns. Start comes with the client's first message that is more than version
 * and memory, before it is answered.
 *
 * HCS_E_SYSTEM_NOT_FOUND when there is no such directory. Close with HcsCloseComputeSystem. */
HRESULT WINAPI OpenHdvOpenSocketSystem(_In_z_ const char* Directory, _Out_ HCS_SYSTEM* ComputeSystem);

/* Sets the strings that SetConfiguration of a device instance gets when it is powered on. They are
 * copied. E_INVALIDARG for a string that is not UTF-16. */
HRESULT WINAPI OpenHdvSetConfiguration(_In_ HCS_SYSTEM ComputeSystem,
                                       _In_ const GUID* DeviceInstanceId,
                                       _In_ UINT32 ConfigurationValueCount,
                                       _In_reads_(ConfigurationValueCount)
                                           const PCWSTR* ConfigurationValues);

/* ---- Device hosts without rights. ----
 *
 * A device host whose devices have the HostingModel ExternalRestricted reaches its virtual machine only through a proxy, the
 * IVmDeviceHostSupport that it gives HdvInitializeDeviceHostForProxy. Its process may be another one, which has no rights to
 * anything but a socket; a broker, whose process has, speaks for it there:
 *
 *     the broker                                          the device host's process, started with the socket
 *     OpenHdvSpawnRestricted(arguments, &id, &socket)
 *     OpenHdvCreateSystemSupport(system, &support)        OpenHdvCreateProxySupport(NULL, &support)
 *     OpenHdvServeProxy(socket, id, support)              OpenHdvLockIn()
 *                                                         HdvInitializeDeviceHostForProxy(&id, support, &host)
 *
 * In place of OpenHdvCreateSystemSupport's, the broker may have an object of its own, which decides what it registers:
 * its RegisterDeviceHost is called with an IVmDeviceHost for HdvProxyDeviceHost. What goes wrong there is the result of
 * HdvInitializeDeviceHostForProxy here.
 *
 * Data goes straight between virtual machine and device host. The broker checks all else that the host says. A device host behind
 * a proxy may have 16 devices and 256 doorbells; more is E_ACCESSDENIED. Without its broker its devices are torn down. */

/* Gives the proxy of a process whose broker is at the other end of a socket, for one device host. Null is the socket
 * that OpenHdvSpawnRestricted has left to this process (E_ACCESSDENIED if it has not). The caller keeps its
 * descriptor, and the object until Release. */
HRESULT WINAPI OpenHdvCreateProxySupport(_In_opt_ HANDLE BrokerSocket, _Outptr_ IUnknown** Support);

/* Gives a proxy that registers device hosts, of this process or of others, with a compute system. It keeps no handle: when
 * a device host registers, this one must be open. */
HRESULT WINAPI OpenHdvCreateSystemSupport(_In_ HCS_SYSTEM ComputeSystem, _Outptr_ IUnknown** Support);

/* For the broker: when the device host of process ProcessId, at the other end of the socket, registers, so does
 * ProxyInterface: an IUnknown that supports IVmDeviceHostSupport and takes calls from any thread. Returns at once. The broker
 * speaks for the device host as long as both live. */
HRESULT WINAPI OpenHdvServeProxy(_In_ HANDLE HostSocket, _In_ DWORD ProcessId, _In_ PVOID ProxyInterface);

/* Starts a program with nothing open but its standard streams, which are this process's, and a socket, whose other end is
 * *HostSocket; close it with OpenHdvCloseHandle. Arguments ends with a null; the first is the program, found as execvp finds it.
 * The process is killed when this one ends; wait for it with waitpid. */
HRESULT WINAPI OpenHdvSpawnRestricted(_In_ const char* const* Arguments, _Out_ DWORD* ProcessId,
                                      _Out_ HANDLE* HostSocket);

/* Locks this process in, for good: no new privileges, files, sockets or processes, no system calls but those that a
 * device host needs; others fail with EPERM. What is open stays open. Before it, load all libraries: none can be loaded
 * afterwards. A second time does nothing. E_ACCESSDENIED if the kernel cannot (Linux 5.13, with landlock and seccomp). */
HRESULT WINAPI OpenHdvLockIn(void);

/* ---- Physical functions. ---- */

/* Versions of OPENHDV_PHYSICAL_FUNCTION. */
typedef OPENHDV_ENUM(OPENHDV_PHYSICAL_FUNCTION_VERSION) {
    OpenHdvPhysicalFunctionVersionInvalid = 0,
    OpenHdvPhysicalFunctionVersion1 = 1
} OPENHDV_PHYSICAL_FUNCTION_VERSION;

/* Supplies a virtual function (VF) that is about to be enabled, counted from 0. DeviceContext is that of the
 * physical function (PF); this is one of the PF's callbacks, which never overlap. Sets *DeviceInterface to the
 * VF's HDV_PCI_DEVICE_INTERFACE, which is copied when this returns, and *VirtualFunctionContext to what its
 * callbacks get.
 *
 * DeviceHandle will be the VF's: inside this call what needs the VF gives ERROR_NOT_READY, afterwards it is
 * the handle of a device like any other, until the VF's Teardown has returned. The VF is powered on when it is
 * first used: by a virtual machine that connects, or by an access to its config space. A VF that was supplied
 * gets its Teardown in the end, also if it was never used.
 *
 * A failure ends the enabling: VF Enable stays clear, and each VF that was supplied by then gets its
 * Teardown. The VF of this call gets none; nor does one whose table is not right, which is a failure too. */
typedef HRESULT(CALLBACK* OPENHDV_SUPPLY_VIRTUAL_FUNCTION)(
    _In_opt_ void* DeviceContext,
    _In_ UINT16 VirtualFunction,
    _In_ HDV_DEVICE DeviceHandle,
    _Outptr_ const VOID** DeviceInterface,
    _Outptr_result_maybenull_ void** VirtualFunctionContext);

/* What makes a device a PF: how many VFs it can have, what they look like, and where it is. */
typedef struct OPENHDV_PHYSICAL_FUNCTION {
    OPENHDV_PHYSICAL_FUNCTION_VERSION Version;
    /* Bit n: pages of 2^(n+12) bytes. 0 for those that the standard requires, 0x553, which are
     * among them in any case. */
    UINT32 SupportedPageSizes;
    /* The BARs of every VF, as GetDetails tells those of a device; each VF's own GetDetails must tell
     * the same. */
    UINT32 ProbedBars[HDV_PCI_BAR_COUNT];
    /* Where it is: above 0xFFFF, a Linux domain. Its bus is the secondary bus of the port above it. */
    UINT32 Segment;
    /* The most VFs that there can be, 1 to 65535. Buses up to SubordinateBus must have room for them. */
    UINT16 TotalVFs;
    /* The device id of every VF. Their vendor id is the PF's. */
    UINT16 VirtualFunctionDeviceID;
    /* 0 to 31. */
    UINT8 Device;
    /* 0 to 7. */
    UINT8 Function;
    /* Bus numbers of the port above: the bus right below it, and the highest one below it, equal or more. */
    UINT8 SecondaryBus;
    UINT8 SubordinateBus;
    /* The port above forwards ARI: a bus has one device with 256 functions. */
    BOOLEAN AriForwarding;
    /* The virtual machine that has the PF enables and disables VFs by its SR-IOV registers, and disables
     * them by a reset. If FALSE, neither does anything: VFs belong to whoever holds the PF's
     * PCI_VIRTUALIZATION_INTERFACE. */
    BOOLEAN GuestControlsSriov;
    /* 0. */
    UINT16 Reserved;
    OPENHDV_SUPPLY_VIRTUAL_FUNCTION SupplyVirtualFunction;
} OPENHDV_PHYSICAL_FUNCTION, *POPENHDV_PHYSICAL_FUNCTION;

/* Creates a PF, as HdvCreateDeviceInstance creates a device of type HdvDeviceTypePCI. The SR-IOV capability
 * and, under a port that forwards ARI, that of ARI are added to its config space; the device shows neither,
 * but a PCI Express capability, without which operating systems do not look for SR-IOV. Its VFs are enabled
 * by the interface that OpenHdvQueryPciVirtualizationInterface (pcivirt.h) gives. On a directory of sockets
 * VF n listens on <instance id>-vf<n>.sock.
 *
 * E_INVALIDARG names the member of PhysicalFunction that is not right. */
HRESULT WINAPI OpenHdvCreatePhysicalFunction(_In_ HDV_HOST DeviceHostHandle,
                                             _In_ const GUID* DeviceClassId,
                                             _In_ const GUID* DeviceInstanceId,
                                             _In_ const VOID* DeviceInterface,
                                             _In_opt_ void* DeviceContext,
                                             _In_ const OPENHDV_PHYSICAL_FUNCTION* PhysicalFunction,
                                             _Out_ HDV_DEVICE* DeviceHandle);

/* ---- Events and sections. ---- */

/* Creates an event: a non-blocking eventfd. Reading its 8 bytes gives how often it was signalled
 * since, and takes that back. Any eventfd of the caller's will do as well. */
HRESULT WINAPI OpenHdvCreateEvent(_Out_ HANDLE* Event);

/* Creates a section of zeroes: a memfd of ByteCount bytes, not 0, whose size is sealed. Any file that can
 * be mapped will do as well; seal its size (F_SEAL_SHRINK), since the VMM that maps it gets the whole file
 * and could end this process by truncating what it has mapped. */
HRESULT WINAPI OpenHdvCreateSection(_In_ UINT64 ByteCount, _Out_ HANDLE* Section);

/* Closes an event or a section; devices keep those that they were given. */
HRESULT WINAPI OpenHdvCloseHandle(_In_ HANDLE Handle);

/* ---- Errors and the log. ---- */

/* The text of the last failure of a function of this library on this thread: what was wrong and what to
 * do. Copies as much as fits into Size bytes, always with a terminating zero unless Size is 0, and returns
 * the size of the whole text, its zero included; 1 if there is none. Buffer may be null if Size is 0. */
size_t WINAPI OpenHdvGetLastErrorText(_Out_writes_opt_(Size) char* Buffer, _In_ size_t Size);

/* How much is logged: this and what is more severe. */
typedef OPENHDV_ENUM(OPENHDV_LOG_LEVEL) {
    OpenHdvLogLevelOff = 0,
    OpenHdvLogLevelError = 1,
    OpenHdvLogLevelWarning = 2,
    OpenHdvLogLevelInfo = 3,
    OpenHdvLogLevelDebug = 4,
    OpenHdvLogLevelTrace = 5
} OPENHDV_LOG_LEVEL;

/* Gets one line, without its end. Called on any thread, also on several at once. What the library logs on
 * this thread meanwhile is lost. */
typedef void(CALLBACK* OPENHDV_LOG_CALLBACK)(_In_opt_ void* Context,
                                             _In_ OPENHDV_LOG_LEVEL Level,
                                             _In_z_ const char* Message);

/* Sets where the log goes, instead of where it went; null for nowhere, as at first. When this returns, the
 * callback that was set before is not running and will not be called. ERROR_POSSIBLE_DEADLOCK inside a log
 * callback. */
HRESULT WINAPI OpenHdvSetLogCallback(_In_ OPENHDV_LOG_LEVEL Level,
                                     _In_opt_ OPENHDV_LOG_CALLBACK Callback,
                                     _In_opt_ void* Context);

/* ---- GUIDs as text. ---- */

/* Writes a GUID as xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx, in lower case. */
HRESULT WINAPI OpenHdvFormatGuid(_In_ const GUID* Guid,
                                 _Out_writes_(OPENHDV_GUID_TEXT_SIZE) char* Text);

/* Reads a GUID, in braces or without, in either case. */
HRESULT WINAPI OpenHdvParseGuid(_In_z_ const char* Text, _Out_ GUID* Guid);

#ifdef __cplusplus
}
#endif

#endif /* OPENHDV_OPENHDV_H */
