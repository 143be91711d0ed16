/*
 * Throws an exception out of the callback, or the function of a COM object, that the second argument
 * names. The process must end with a message that names it. The device is served, and "ready" printed, for
 * callbacks that a guest brings about.
 */
#include <stdexcept>
#include <unistd.h>

extern "C" {
#include "virtualization.h"
}

namespace {

const char* thrower;

void maybe_throw(const char* name)
{
    if (strcmp(name, thrower) == 0) {
        throw std::runtime_error("on purpose");
    }
}

HRESULT initialize(void*) { maybe_throw("Initialize"); return S_OK; }
void teardown(void*) { maybe_throw("Teardown"); }
HRESULT set_configuration(void*, UINT32, const PCWSTR*) { maybe_throw("SetConfiguration"); return S_OK; }
HRESULT get_details(void* context, HDV_PCI_PNP_ID* id, UINT32 count, UINT32* bars)
{
    maybe_throw("GetDetails");
    return device_get_details(context, id, count, bars);
}
HRESULT start(void*) { maybe_throw("Start"); return S_OK; }
void stop(void*) { maybe_throw("Stop"); }
HRESULT read_config(void*, UINT32, UINT32* value) { maybe_throw("ReadConfigSpace"); *value = 0; return S_OK; }
HRESULT write_config(void*, UINT32, UINT32) { maybe_throw("WriteConfigSpace"); return S_OK; }
HRESULT read_memory(void*, HDV_PCI_BAR_SELECTOR, UINT64, UINT64, BYTE*)
{
    maybe_throw("ReadInterceptedMemory");
    return S_OK;
}
HRESULT write_memory(void*, HDV_PCI_BAR_SELECTOR, UINT64, UINT64, const BYTE*)
{
    maybe_throw("WriteInterceptedMemory");
    return S_OK;
}

const HDV_PCI_DEVICE_INTERFACE table = {
    HdvPciDeviceInterfaceVersion1, initialize,  teardown,     set_configuration,
    get_details,                   start,       stop,         read_config,
    write_config,                  read_memory, write_memory,
};

HRESULT supply(void*, UINT16, HDV_DEVICE, const VOID**, void**)
{
    maybe_throw("SupplyVirtualFunction");
    return E_ABORT;
}

/* Enables a VF of a PF whose only callback that throws is the one that supplies it. */
void enable_vf(HDV_HOST host)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    PCI_VIRTUALIZATION_INTERFACE virtualization;
    struct pf* pf = new_pf();
    description.SupplyVirtualFunction = supply;
    EXPECT_RESULT(pf_create(host, pf, &description), S_OK);
    EXPECT_STATUS(query(pf->device.handle, &virtualization), STATUS_SUCCESS);
    enable_vfs(&virtualization, 1);
}

class Proxy : public IVmDeviceHostSupport {
    STDMETHODIMP QueryInterface(REFIID, void** object) override
    {
        maybe_throw("IUnknown::QueryInterface");
        *object = this;
        return S_OK;
    }
    STDMETHODIMP_(ULONG) AddRef() override { return 1; }
    STDMETHODIMP_(ULONG) Release() override
    {
        maybe_throw("IUnknown::Release");
        return 1;
    }
    STDMETHODIMP RegisterDeviceHost(IVmDeviceHost*, DWORD, UINT64*) override
    {
        maybe_throw("IVmDeviceHostSupport::RegisterDeviceHost");
        return E_ABORT;
    }
};

} // namespace

int main(int argc, char** argv)
{
    if (argc != 3) {
        return 2;
    }
    check_directory = argv[1];
    thrower = argv[2];
    struct device device;
    device_reset(&device);
    GUID instance = next_instance();
    HDV_HOST host = open_host();
    if (strstr(thrower, "::") != nullptr) {
        Proxy proxy;
        HDV_HOST proxied = nullptr;
        HdvInitializeDeviceHostForProxy(&instance, &proxy, &proxied);
    }
    if (strcmp(thrower, "SupplyVirtualFunction") == 0) {
        enable_vf(host);
    }
    EXPECT_RESULT(HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &device_class, &instance, &table,
                                          &device, &device.handle),
                  S_OK);
    puts("ready");
    fflush(stdout);
    /* Until the test has done its part. */
    char line[2];
    if (read(0, line, 1) < 0) {
        return 2;
    }
    HdvTeardownDeviceHost(host);
    puts("not thrown");
    return check_any_failed || check_failed;
}
