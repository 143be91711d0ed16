/*
 * Compute systems: virtual machines that are made of a JSON document, run, and are plugged devices into.
 *
 * Each belongs to a process of its own, the worker; a handle is a connection to it. So any process of the same user
 * can open a virtual machine by its id, host devices for it (HdvInitializeDeviceHost), pause it, or outlive who made it.
 * It ends when its guest powers it off, when it is terminated, or with its last handle if its document says so
 * (ShouldTerminateOnLastHandleClosed); a process that ends has closed its handles.
 *
 * Calls that take time are tracked by an operation. They check what they are given and return; S_OK says that the work
 * has begun. How it ended is the operation's result: HcsWaitForOperationResult.
 *
 * Every function may be called from any thread, also from inside the callbacks below and those of devices, unless it
 * says otherwise. A handle that is null, stale or of another kind gives E_HANDLE, as does one of the process that forked
 * this one; a null pointer E_POINTER; a string that is not UTF-16 E_INVALIDARG. A compute system that is a directory of
 * sockets (OpenHdvOpenSocketSystem) has no worker: what asks for one gives E_INVALIDARG. ERROR_... in a comment stands
 * for the result HRESULT_FROM_WIN32(ERROR_...). The text of the last failure on this thread: OpenHdvGetLastErrorText
 * (openhdv.h).
 */
#ifndef OPENHDV_COMPUTECORE_H
#define OPENHDV_COMPUTECORE_H

#include "computedefs.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Which call an operation tracks. */
typedef OPENHDV_ENUM(HCS_OPERATION_TYPE) {
    HcsOperationTypeNone = -1,
    HcsOperationTypeEnumerate = 0,
    HcsOperationTypeCreate = 1,
    HcsOperationTypeStart = 2,
    HcsOperationTypeShutdown = 3,
    HcsOperationTypePause = 4,
    HcsOperationTypeResume = 5,
    HcsOperationTypeSave = 6,
    HcsOperationTypeTerminate = 7,
    HcsOperationTypeModify = 8,
    HcsOperationTypeGetProperties = 9,
    HcsOperationTypeCreateProcess = 10,
    HcsOperationTypeSignalProcess = 11,
    HcsOperationTypeGetProcessInfo = 12,
    HcsOperationTypeGetProcessProperties = 13,
    HcsOperationTypeModifyProcess = 14,
    HcsOperationTypeCrash = 15
} HCS_OPERATION_TYPE;

/* The id of no operation. */
#define HCS_INVALID_OPERATION_ID ((UINT64)-1)

/* An operation's call has ended; once for each call, on a thread of the library's. The operation may be closed, or used
 * again, in it. */
typedef void(CALLBACK* HCS_OPERATION_COMPLETION)(_In_ HCS_OPERATION Operation,
                                                 _In_opt_ void* Context);

/* What a callback is told. */
typedef OPENHDV_ENUM(HCS_EVENT_TYPE) {
    HcsEventInvalid = 0x00000000,
    /* The compute system has ended. EventData: SystemExitStatus, which has Status and ExitType ("GracefulExit",
     * "ForcedExit", "UnexpectedExit"). */
    HcsEventSystemExited = 0x00000001,
    HcsEventSystemCrashInitiated = 0x00000002,
    HcsEventSystemCrashReport = 0x00000003,
    HcsEventSystemRdpEnhancedModeStateChanged = 0x00000004,
    HcsEventSystemSiloJobCreated = 0x00000005,
    HcsEventSystemGuestConnectionClosed = 0x00000006,
    HcsEventProcessExited = 0x00010000,
    /* A call that was made with the handle has ended; Operation tracks it. */
    HcsEventOperationCallback = 0x01000000,
    /* The worker is gone. */
    HcsEventServiceDisconnect = 0x02000000,
    HcsEventGroupVmLifecycle = (-2147483647 + 1),
    HcsEventGroupOperationInfo = (-1073741823)
} HCS_EVENT_TYPE;

typedef struct HCS_EVENT {
    HCS_EVENT_TYPE Type;
    /* JSON, or null. */
    PCWSTR EventData;
    /* For HcsEventOperationCallback, otherwise null. */
    HCS_OPERATION Operation;
} HCS_EVENT;

/* What a callback is told of. */
typedef OPENHDV_ENUM(HCS_EVENT_OPTIONS) {
    HcsEventOptionNone = 0x00000000,
    /* Also when a call that was made with the handle has ended. Operations with a callback of their own then give
     * HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET in calls with the handle. */
    HcsEventOptionEnableOperationCallbacks = 0x00000001,
    /* Not supported. */
    HcsEventOptionEnableVmLifecycle = 0x00000002
} HCS_EVENT_OPTIONS;

/* Something has happened to a compute system; on a thread of the library's. The event and its data are good during the
 * call. */
typedef void(CALLBACK* HCS_EVENT_CALLBACK)(_In_ HCS_EVENT* Event, _In_opt_ void* Context);

/* ---- Operations. ---- */

/* Creates an operation: it tracks one call at a time, and another after that. The callback is told when a call has
 * ended. Null if there is no memory. */
HCS_OPERATION WINAPI HcsCreateOperation(_In_opt_ const void* Context,
                                        _In_opt_ HCS_OPERATION_COMPLETION Callback);

/* Closes an operation; the call that it tracks goes on. When this returns, its callback is not running and will not be
 * called; inside a callback that is declared here it does not wait for that. A handle that is none is ignored. */
void WINAPI HcsCloseOperation(_In_ HCS_OPERATION Operation);

/* The context, of which there is one for both uses: this, and the callback. Null if there is no such operation. */
void* WINAPI HcsGetOperationContext(_In_ HCS_OPERATION Operation);

/* Sets the context. */
HRESULT WINAPI HcsSetOperationContext(_In_ HCS_OPERATION Operation, _In_opt_ const void* Context);

/* The handle that the call was made with, or that it makes; null if there is none, or it is closed. */
HCS_SYSTEM WINAPI HcsGetComputeSystemFromOperation(_In_ HCS_OPERATION Operation);

/* Which call it tracks, or tracked last; HcsOperationTypeNone if there was none. */
HCS_OPERATION_TYPE WINAPI HcsGetOperationType(_In_ HCS_OPERATION Operation);

/* A number that no other operation of this process has; HCS_INVALID_OPERATION_ID if there is no such operation. */
UINT64 WINAPI HcsGetOperationId(_In_ HCS_OPERATION Operation);

/* How the call ended: its result, and a document, if there is one and somebody wants it: what was asked for, or for a
 * failure a ResultError ({"Error": the result as a number, "ErrorMessage": what was wrong and what to do}). It is freed with
 * LocalFree; each call makes one. HCS_E_OPERATION_NOT_STARTED before the operation is used in a call,
 * HCS_E_OPERATION_PENDING until that has ended. */
HRESULT WINAPI HcsGetOperationResult(_In_ HCS_OPERATION Operation,
                                     _Outptr_opt_result_maybenull_ PWSTR* ResultDocument);

/* The same, when the call has ended; waits for that, at most TimeoutMs milliseconds (INFINITE: without an end).
 * HCS_E_OPERATION_TIMEOUT if it has not ended by then; it goes on. ERROR_POSSIBLE_DEADLOCK inside a callback of a device
 * of the compute system, if the call has to wait for that callback: a start, pause, resume, removal or termination. */
HRESULT WINAPI HcsWaitForOperationResult(_In_ HCS_OPERATION Operation, _In_ DWORD TimeoutMs,
                                         _Outptr_opt_result_maybenull_ PWSTR* ResultDocument);

/* Sets context and callback, also while a call is under way. A call that has ended by then, and whose result nobody has
 * asked for, is told of now. */
HRESULT WINAPI HcsSetOperationCallback(_In_ HCS_OPERATION Operation, _In_opt_ const void* Context,
                                       _In_opt_ HCS_OPERATION_COMPLETION Callback);

/* ---- Compute systems. Each call may give HCS_E_OPERATION_ALREADY_STARTED: the operation tracks one that has not ended.
 * Where results are named, they are the operation's. ---- */

/* Creates a compute system from its configuration, a ComputeSystem document, and starts its worker. The handle is given
 * at once; what is done with it waits until this has ended, and fails as this did. It has to be closed in any case.
 * SecurityDescriptor is reserved and must be null.
 *
 * Results: HCS_E_INVALID_JSON for a document that is wrong or asks for what there is not, with the place;
 * HCS_E_SYSTEM_ALREADY_EXISTS; E_INVALIDARG for an id that cannot be one. */
HRESULT WINAPI HcsCreateComputeSystem(_In_ PCWSTR Id, _In_ PCWSTR Configuration,
                                      _In_ HCS_OPERATION Operation,
                                      _In_opt_ const SECURITY_DESCRIPTOR* SecurityDescriptor,
                                      _Out_ HCS_SYSTEM* ComputeSystem);

/* Opens a compute system of this user. RequestedAccess is GENERIC_ALL. HCS_E_SYSTEM_NOT_FOUND. */
HRESULT WINAPI HcsOpenComputeSystem(_In_ PCWSTR Id, _In_ DWORD RequestedAccess,
                                    _Out_ HCS_SYSTEM* ComputeSystem);

/* Closes a handle. The compute system lives on, unless this was its last handle and its document has
 * ShouldTerminateOnLastHandleClosed; so do calls that are under way, and device hosts, which keep no compute system
 * alive. When this returns, the handle's callback is not running and will not be called; inside a callback that is
 * declared here it does not wait for that. A handle that is none is ignored. */
void WINAPI HcsCloseComputeSystem(_In_opt_ HCS_SYSTEM ComputeSystem);

/* Starts a compute system: powers on the devices of its document, whose device hosts must be there, then lets
 * processors run. Options is reserved and must be null.
 *
 * Results: HCS_E_INVALID_STATE if it was started before; HCS_E_SYSTEM_ALREADY_STOPPED; a device's own, unchanged. */
HRESULT WINAPI HcsStartComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                     _In_opt_ PCWSTR Options);

/* Presses the guest's power button. The guest decides; its end is an event. Options is reserved and must be null.
 * Results: HCS_E_INVALID_STATE, HCS_E_SYSTEM_ALREADY_STOPPED. */
HRESULT WINAPI HcsShutDownComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                        _In_opt_ PCWSTR Options);

/* Ends a compute system; its devices are torn down. Options is reserved and must be null. Result:
 * HCS_E_SYSTEM_ALREADY_STOPPED. */
HRESULT WINAPI HcsTerminateComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                         _In_opt_ PCWSTR Options);

/* Stops processors, then devices. Options may be PauseOptions, of which there is SuspensionLevel "Suspend".
 * ERROR_POSSIBLE_DEADLOCK inside a callback of a device of it. Results: HCS_E_INVALID_STATE, HCS_E_SYSTEM_ALREADY_STOPPED. */
HRESULT WINAPI HcsPauseComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                     _In_opt_ PCWSTR Options);

/* Starts devices, then processors. Options is reserved and must be null. ERROR_POSSIBLE_DEADLOCK inside a callback of a
 * device of it. Results: HCS_E_INVALID_STATE; HCS_E_SYSTEM_ALREADY_STOPPED; a device's own, unchanged. */
HRESULT WINAPI HcsResumeComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                      _In_opt_ PCWSTR Options);

/* Plugs a device in or takes it out: {"ResourcePath": "VirtualMachine/Devices/FlexibleIov/<instance id>", "RequestType":
 * "Add" or "Remove", "Settings": as in the configuration}. When an Add has ended well while the compute system runs or is
 * paused, Initialize, SetConfiguration, GetDetails and Start were called and the guest is told of the device. A Remove
 * ends when the guest has let go, or after a time; the device is torn down either way. Identity must be null.
 *
 * Results: HCS_E_INVALID_JSON; HCS_E_INVALID_STATE while it is being started, paused or resumed, and for a device that is
 * being added or removed; HCS_E_SYSTEM_ALREADY_STOPPED; a device's own, unchanged; ERROR_NOT_FOUND for a device that no
 * device host has, or that is not there; ERROR_ALREADY_EXISTS; HCS_E_OPERATION_TIMEOUT for a Remove whose guest has not let go: the device is gone,
 * and its port taken until the guest lets go. */
HRESULT WINAPI HcsModifyComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                      _In_ PCWSTR Configuration, _In_opt_ HANDLE Identity);

/* Asks for a compute system's Properties: the result's document. Never waits for another call. PropertyQuery may be a
 * System_PropertyQuery; what is known is given in any case. HCS_E_INVALID_JSON for one that is wrong, E_NOTIMPL for one that
 * asks for what is not known. */
HRESULT WINAPI HcsGetComputeSystemProperties(_In_ HCS_SYSTEM ComputeSystem,
                                             _In_ HCS_OPERATION Operation,
                                             _In_opt_ PCWSTR PropertyQuery);

/* Lists the compute systems of this user: the result's document is an array of Properties. Query may be a SystemQuery.
 * HCS_E_INVALID_JSON for one that is wrong. */
HRESULT WINAPI HcsEnumerateComputeSystems(_In_opt_ PCWSTR Query, _In_ HCS_OPERATION Operation);

/* Sets the handle's callback, which is told what happens to the compute system; of an end that was there before, now. Null
 * takes it back: when this returns, it is not running and will not be called; inside a callback that is declared here it
 * does not wait for that. HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET if the handle has one, E_INVALIDARG for options that are
 * not supported. */
HRESULT WINAPI HcsSetComputeSystemCallback(_In_ HCS_SYSTEM ComputeSystem,
                                           _In_ HCS_EVENT_OPTIONS CallbackOptions,
                                           _In_opt_ const void* Context,
                                           _In_opt_ HCS_EVENT_CALLBACK Callback);

/* Waits until a compute system has ended, at most TimeoutMs milliseconds (INFINITE: without an end). Gives its
 * SystemExitStatus, to be freed with LocalFree. HCS_E_OPERATION_TIMEOUT; ERROR_POSSIBLE_DEADLOCK inside a callback of a
 * device of it. */
HRESULT WINAPI HcsWaitForComputeSystemExit(_In_ HCS_SYSTEM ComputeSystem, _In_ DWORD TimeoutMs,
                                           _Outptr_opt_ PWSTR* Result);

/* ---- What runs them. ---- */

/* ServiceProperties, to be freed with LocalFree: the versions of the schema that are understood. PropertyQuery may be a
 * Service_PropertyQuery. HCS_E_INVALID_JSON for one that is wrong, E_NOTIMPL for one that asks for what is not known; Result
 * is a ResultError then. */
HRESULT WINAPI HcsGetServiceProperties(_In_opt_ PCWSTR PropertyQuery, _Outptr_ PWSTR* Result);

/* Virtual machines run as their user: there is nothing to grant. These check the file. ERROR_FILE_NOT_FOUND,
 * E_ACCESSDENIED if this user may not read it. */
HRESULT WINAPI HcsGrantVmAccess(_In_ PCWSTR VmId, _In_ PCWSTR FilePath);
HRESULT WINAPI HcsRevokeVmAccess(_In_ PCWSTR VmId, _In_ PCWSTR FilePath);
HRESULT WINAPI HcsGrantVmGroupAccess(_In_ PCWSTR FilePath);
HRESULT WINAPI HcsRevokeVmGroupAccess(_In_ PCWSTR FilePath);

/* ---- What is not supported. Each gives E_NOTIMPL, whatever it is given, or null; a place for a handle or a document is set to
 * null. ---- */

/* What HcsAddResourceToOperation adds. */
typedef OPENHDV_ENUM(HCS_RESOURCE_TYPE) {
    HcsResourceTypeNone = 0,
    HcsResourceTypeFile = 1,
    HcsResourceTypeJob = 2
} HCS_RESOURCE_TYPE;

/* What an operation with notifications tells. */
typedef OPENHDV_ENUM(HCS_OPERATION_OPTIONS) {
    HcsOperationOptionNone = 0,
    HcsOperationOptionProgressUpdate = 1
} HCS_OPERATION_OPTIONS;

/* Versions of the options of HcsCreateComputeSystemInNamespace, which begin with one. */
typedef OPENHDV_ENUM(HCS_CREATE_OPTIONS) {
    HcsCreateOptions_1 = 0x00010000
} HCS_CREATE_OPTIONS;

typedef struct HCS_CREATE_OPTIONS_1 {
    HCS_CREATE_OPTIONS Version;
    HANDLE UserToken;
    SECURITY_DESCRIPTOR* SecurityDescriptor;
    HCS_EVENT_OPTIONS CallbackOptions;
    void* CallbackContext;
    HCS_EVENT_CALLBACK Callback;
} HCS_CREATE_OPTIONS_1;

/* A process in a compute system. */
typedef struct HCS_PROCESS_INFORMATION {
    DWORD ProcessId;
    DWORD Reserved;
    HANDLE StdInput;
    HANDLE StdOutput;
    HANDLE StdError;
} HCS_PROCESS_INFORMATION;

HRESULT WINAPI HcsCancelOperation(_In_ HCS_OPERATION Operation);
HCS_OPERATION WINAPI HcsCreateOperationWithNotifications(_In_ HCS_OPERATION_OPTIONS EventTypes,
                                                         _In_opt_ const void* Context,
                                                         _In_ HCS_EVENT_CALLBACK Callback);
HRESULT WINAPI HcsAddResourceToOperation(_In_ HCS_OPERATION Operation, _In_ HCS_RESOURCE_TYPE Type,
                                         _In_ PCWSTR Uri, _In_ HANDLE Handle);
HCS_PROCESS WINAPI HcsGetProcessFromOperation(_In_ HCS_OPERATION Operation);
HRESULT WINAPI HcsGetOperationResultAndProcessInfo(
    _In_ HCS_OPERATION Operation, _Out_opt_ HCS_PROCESS_INFORMATION* ProcessInformation,
    _Outptr_opt_ PWSTR* ResultDocument);
HRESULT WINAPI HcsWaitForOperationResultAndProcessInfo(
    _In_ HCS_OPERATION Operation, _In_ DWORD TimeoutMs,
    _Out_opt_ HCS_PROCESS_INFORMATION* ProcessInformation, _Outptr_opt_ PWSTR* ResultDocument);
HRESULT WINAPI HcsCreateComputeSystemInNamespace(_In_ PCWSTR IdNamespace, _In_ PCWSTR Id,
                                                 _In_ PCWSTR Configuration,
                                                 _In_ HCS_OPERATION Operation,
                                                 _In_opt_ const HCS_CREATE_OPTIONS* Options,
                                                 _Out_ HCS_SYSTEM* ComputeSystem);
HRESULT WINAPI HcsOpenComputeSystemInNamespace(_In_ PCWSTR IdNamespace, _In_ PCWSTR Id,
                                               _In_ DWORD RequestedAccess,
                                               _Out_ HCS_SYSTEM* ComputeSystem);
HRESULT WINAPI HcsEnumerateComputeSystemsInNamespace(_In_ PCWSTR IdNamespace, _In_opt_ PCWSTR Query,
                                                     _In_ HCS_OPERATION Operation);
HRESULT WINAPI HcsSaveComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                    _In_opt_ PCWSTR Options);
HRESULT WINAPI HcsCrashComputeSystem(_In_ HCS_SYSTEM ComputeSystem, _In_ HCS_OPERATION Operation,
                                     _In_opt_ PCWSTR Options);
HRESULT WINAPI HcsCreateProcess(_In_ HCS_SYSTEM ComputeSystem, _In_ PCWSTR ProcessParameters,
                                _In_ HCS_OPERATION Operation,
                                _In_opt_ const SECURITY_DESCRIPTOR* SecurityDescriptor,
                                _Out_ HCS_PROCESS* Process);
HRESULT WINAPI HcsOpenProcess(_In_ HCS_SYSTEM ComputeSystem, _In_ DWORD ProcessId,
                              _In_ DWORD RequestedAccess, _Out_ HCS_PROCESS* Process);
void WINAPI HcsCloseProcess(_In_ HCS_PROCESS Process);
HRESULT WINAPI HcsTerminateProcess(_In_ HCS_PROCESS Process, _In_ HCS_OPERATION Operation,
                                   _In_opt_ PCWSTR Options);
HRESULT WINAPI HcsSignalProcess(_In_ HCS_PROCESS Process, _In_ HCS_OPERATION Operation,
                                _In_opt_ PCWSTR Options);
HRESULT WINAPI HcsGetProcessInfo(_In_ HCS_PROCESS Process, _In_ HCS_OPERATION Operation);
HRESULT WINAPI HcsGetProcessProperties(_In_ HCS_PROCESS Process, _In_ HCS_OPERATION Operation,
                                       _In_opt_ PCWSTR PropertyQuery);
HRESULT WINAPI HcsModifyProcess(_In_ HCS_PROCESS Process, _In_ HCS_OPERATION Operation,
                                _In_ PCWSTR Settings);
HRESULT WINAPI HcsSetProcessCallback(_In_ HCS_PROCESS Process, _In_ HCS_EVENT_OPTIONS CallbackOptions,
                                     _In_opt_ const void* Context, _In_ HCS_EVENT_CALLBACK Callback);
HRESULT WINAPI HcsWaitForProcessExit(_In_ HCS_PROCESS Process, _In_ DWORD TimeoutMs,
                                     _Outptr_opt_ PWSTR* Result);
HRESULT WINAPI HcsModifyServiceSettings(_In_ PCWSTR Settings, _Outptr_opt_ PWSTR* Result);
HRESULT WINAPI HcsSubmitWerReport(_In_ PCWSTR Settings);
HRESULT WINAPI HcsCreateEmptyGuestStateFile(_In_ PCWSTR GuestStateFilePath);
HRESULT WINAPI HcsCreateEmptyRuntimeStateFile(_In_ PCWSTR RuntimeStateFilePath);
HRESULT WINAPI HcsGetProcessorCompatibilityFromSavedState(
    _In_ PCWSTR RuntimeFileName, _Outptr_opt_ PCWSTR* ProcessorFeaturesString);

#ifdef __cplusplus
}

OPENHDV_ENUM_FLAG_OPERATORS(HCS_EVENT_OPTIONS)
OPENHDV_ENUM_FLAG_OPERATORS(HCS_OPERATION_OPTIONS)
#endif

#endif /* OPENHDV_COMPUTECORE_H */
