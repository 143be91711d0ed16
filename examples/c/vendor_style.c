/*++

Module Name:

    vendor_style.c

Abstract:

    A device in the style of sources written for Windows, to show that they compile unchanged: wide string
    literals, calling conventions, annotations, GUIDs with braces and the base types of <windows.h>. Only
    main, at the end, is about this library: it says where the compute system comes from.

    The device greets. Its greeting is a string of the virtual machine's configuration,
    "greeting=...", and a driver has it copied into a buffer of its own:

        0x00    RO  "GREE"
        0x04    RO  bytes of the greeting, UTF-16 without a terminating zero
        0x08    WO  8 bytes, one write: address of a buffer; the greeting is copied there
        0x10    RO  the HRESULT of the last copy

    Registers are accessed with the width that is given, 4 bytes where none is.

Usage:

    vendor_style DIRECTORY INSTANCE-ID

--*/

#define _POSIX_C_SOURCE 200809L // for the signals in main

#include <windows.h>
#include <hypervdevicevirtualization.h>
#include <openhdv.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

// {0F4B5A0E-62F4-4A8D-9D5C-6B0B3F1C0104}
static const GUID GreeterClassId = {
    0x0f4b5a0e, 0x62f4, 0x4a8d, { 0x9d, 0x5c, 0x6b, 0x0b, 0x3f, 0x1c, 0x01, 0x04 }
};

#define GREETER_BAR_SIZE        0x1000
#define GREETER_GREETING_MAX    64
#define GREETER_SIGNATURE       0x45455247

#define GREETER_REG_SIGNATURE   0x00
#define GREETER_REG_LENGTH      0x04
#define GREETER_REG_BUFFER      0x08
#define GREETER_REG_RESULT      0x10

static const WCHAR GreetingPrefix[] = L"greeting=";
static const WCHAR DefaultGreeting[] = L"Hello from the host";

typedef struct _GREETER_DEVICE {
    HDV_DEVICE Device;
    WCHAR Greeting[GREETER_GREETING_MAX];
    DWORD GreetingLength;
    HRESULT LastResult;
} GREETER_DEVICE, *PGREETER_DEVICE;

static
VOID
GreeterSetGreeting(
    _Inout_ PGREETER_DEVICE Greeter,
    _In_z_ PCWSTR Greeting
    )
{
    DWORD length = 0;

    while (Greeting[length] != L'\0' && length < ARRAYSIZE(Greeter->Greeting)) {
        Greeter->Greeting[length] = Greeting[length];
        length++;
    }
    Greeter->GreetingLength = length * (DWORD)sizeof(WCHAR);
}

static
HRESULT
CALLBACK
GreeterInitialize(
    _In_opt_ void* DeviceContext
    )
{
    PGREETER_DEVICE greeter = (PGREETER_DEVICE)DeviceContext;

    GreeterSetGreeting(greeter, DefaultGreeting);
    greeter->LastResult = S_OK;
    return S_OK;
}

static
void
CALLBACK
GreeterTeardown(
    _In_opt_ void* DeviceContext
    )
{
    free(DeviceContext);
}

static
HRESULT
CALLBACK
GreeterSetConfiguration(
    _In_opt_ void* DeviceContext,
    _In_ UINT32 ConfigurationValueCount,
    _In_reads_(ConfigurationValueCount) const PCWSTR* ConfigurationValues
    )
{
    PGREETER_DEVICE greeter = (PGREETER_DEVICE)DeviceContext;
    const SIZE_T prefixLength = ARRAYSIZE(GreetingPrefix) - 1;

    for (UINT32 i = 0; i < ConfigurationValueCount; i++) {
        SIZE_T matched = 0;

        while (matched < prefixLength && ConfigurationValues[i][matched] == GreetingPrefix[matched]) {
            matched++;
        }
        if (matched == prefixLength) {
            GreeterSetGreeting(greeter, ConfigurationValues[i] + prefixLength);
        }
    }
    return S_OK;
}

static
HRESULT
CALLBACK
GreeterGetDetails(
    _In_opt_ void* DeviceContext,
    _Out_ HDV_PCI_PNP_ID* PnpId,
    _In_ UINT32 ProbedBarsCount,
    _Out_writes_(ProbedBarsCount) UINT32* ProbedBars
    )
{
    UNREFERENCED_PARAMETER(DeviceContext);

    if (ProbedBarsCount < HDV_PCI_BAR_COUNT) {
        return E_INVALIDARG;
    }
    ZeroMemory(PnpId, sizeof(*PnpId));
    PnpId->VendorID = 0x4f48;
    PnpId->DeviceID = 0x0104;
    PnpId->BaseClass = 0xff;
    ZeroMemory(ProbedBars, ProbedBarsCount * sizeof(*ProbedBars));
    ProbedBars[HDV_PCI_BAR0] = ~(DWORD)(GREETER_BAR_SIZE - 1);
    return S_OK;
}

static
HRESULT
CALLBACK
GreeterStart(
    _In_opt_ void* DeviceContext
    )
{
    UNREFERENCED_PARAMETER(DeviceContext);
    return S_OK;
}

static
void
CALLBACK
GreeterStop(
    _In_opt_ void* DeviceContext
    )
{
    UNREFERENCED_PARAMETER(DeviceContext);
}

static
HRESULT
CALLBACK
GreeterReadConfigSpace(
    _In_opt_ void* DeviceContext,
    _In_ UINT32 Offset,
    _Out_ UINT32* Value
    )
{
    UNREFERENCED_PARAMETER(DeviceContext);
    UNREFERENCED_PARAMETER(Offset);

    *Value = 0;
    return S_OK;
}

static
HRESULT
CALLBACK
GreeterWriteConfigSpace(
    _In_opt_ void* DeviceContext,
    _In_ UINT32 Offset,
    _In_ UINT32 Value
    )
{
    UNREFERENCED_PARAMETER(DeviceContext);
    UNREFERENCED_PARAMETER(Offset);
    UNREFERENCED_PARAMETER(Value);
    return S_OK;
}

static
HRESULT
CALLBACK
GreeterReadInterceptedMemory(
    _In_opt_ void* DeviceContext,
    _In_ HDV_PCI_BAR_SELECTOR BarIndex,
    _In_ UINT64 Offset,
    _In_ UINT64 Length,
    _Out_writes_(Length) BYTE* Value
    )
{
    PGREETER_DEVICE greeter = (PGREETER_DEVICE)DeviceContext;
    DWORD value = 0;

    UNREFERENCED_PARAMETER(BarIndex);

    ZeroMemory(Value, Length);
    if (Length != sizeof(value)) {
        return S_OK;
    }
    switch (Offset) {
    case GREETER_REG_SIGNATURE:
        value = GREETER_SIGNATURE;
        break;

    case GREETER_REG_LENGTH:
        value = greeter->GreetingLength;
        break;

    case GREETER_REG_RESULT:
        value = (DWORD)greeter->LastResult;
        break;

    default:
        break;
    }
    CopyMemory(Value, &value, sizeof(value));
    return S_OK;
}

static
HRESULT
GreeterCopyGreeting(
    _In_ PGREETER_DEVICE Greeter,
    _In_ UINT64 GuestPhysicalAddress
    )
{
    HRESULT hr;
    PVOID buffer = NULL;

    hr = HdvCreateGuestMemoryAperture(Greeter->Device,
                                      GuestPhysicalAddress,
                                      Greeter->GreetingLength,
                                      FALSE,
                                      &buffer);
    if (FAILED(hr)) {
        return hr;
    }
    CopyMemory(buffer, Greeter->Greeting, Greeter->GreetingLength);
    return HdvDestroyGuestMemoryAperture(Greeter->Device, buffer);
}

static
HRESULT
CALLBACK
GreeterWriteInterceptedMemory(
    _In_opt_ void* DeviceContext,
    _In_ HDV_PCI_BAR_SELECTOR BarIndex,
    _In_ UINT64 Offset,
    _In_ UINT64 Length,
    _In_reads_(Length) const BYTE* Value
    )
{
    PGREETER_DEVICE greeter = (PGREETER_DEVICE)DeviceContext;
    UINT64 address;

    UNREFERENCED_PARAMETER(BarIndex);

    if (Offset == GREETER_REG_BUFFER && Length == sizeof(address)) {
        CopyMemory(&address, Value, sizeof(address));
        greeter->LastResult = GreeterCopyGreeting(greeter, address);
    }
    return S_OK;
}

static
HRESULT
GreeterCreate(
    _In_ HDV_HOST DeviceHost,
    _In_ const GUID* InstanceId
    )
{
    HDV_PCI_DEVICE_INTERFACE deviceInterface = {
        HdvPciDeviceInterfaceVersion1,
        GreeterInitialize,
        GreeterTeardown,
        GreeterSetConfiguration,
        GreeterGetDetails,
        GreeterStart,
        GreeterStop,
        GreeterReadConfigSpace,
        GreeterWriteConfigSpace,
        GreeterReadInterceptedMemory,
        GreeterWriteInterceptedMemory
    };
    PGREETER_DEVICE greeter = (PGREETER_DEVICE)calloc(1, sizeof(*greeter));

    if (greeter == NULL) {
        return E_OUTOFMEMORY;
    }

    //
    // The table is copied; the context is freed by the device's teardown.
    //

    return HdvCreateDeviceInstance(DeviceHost,
                                   HdvDeviceTypePCI,
                                   &GreeterClassId,
                                   InstanceId,
                                   &deviceInterface,
                                   greeter,
                                   &greeter->Device);
}

int
main(
    _In_ int argc,
    _In_reads_(argc) char** argv
    )
{
    HRESULT hr;
    HCS_SYSTEM system = NULL;
    HDV_HOST host = NULL;
    GUID instanceId;
    sigset_t signals;
    int signalNumber;
    char text[512];

    if (argc != 3) {
        fprintf(stderr, "usage: vendor_style DIRECTORY INSTANCE-ID\n");
        return 2;
    }

    // Blocked before there is any thread, so that sigwait below gets them.
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);

    hr = OpenHdvParseGuid(argv[2], &instanceId);
    if (SUCCEEDED(hr)) {
        hr = OpenHdvOpenSocketSystem(argv[1], &system);
    }
    if (SUCCEEDED(hr)) {
        hr = HdvInitializeDeviceHost(system, &host);
    }
    if (SUCCEEDED(hr)) {
        hr = GreeterCreate(host, &instanceId);
    }
    if (SUCCEEDED(hr)) {
        OpenHdvFormatGuid(&instanceId, text);
        printf("ready %s/%s.sock\n", argv[1], text);
        fflush(stdout);
        sigwait(&signals, &signalNumber);
    } else {
        OpenHdvGetLastErrorText(text, sizeof(text));
        fprintf(stderr, "vendor_style: 0x%08x: %s\n", (unsigned)hr, text);
    }
    if (host != NULL) {
        HdvTeardownDeviceHost(host);
    }
    HcsCloseComputeSystem(system);
    return SUCCEEDED(hr) ? 0 : 1;
}
