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
