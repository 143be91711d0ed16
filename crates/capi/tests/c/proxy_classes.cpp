/*
 * The proxy functions over C++ classes: the tables that the compiler makes are those of COM.
 */
#include <unistd.h>

extern "C" {
#include "device.h"
}

namespace {

class Proxy : public IVmDeviceHostSupport {
public:
    explicit Proxy(HCS_SYSTEM compute_system)
        : compute_system_(compute_system)
    {
    }

    STDMETHODIMP QueryInterface(REFIID riid, void** object) override
    {
        *object = nullptr;
        if (riid != IID_IUnknown && riid != IID_IVmDeviceHostSupport) {
            return E_NOINTERFACE;
        }
        AddRef();
        *object = this;
        return S_OK;
    }

    STDMETHODIMP_(ULONG) AddRef() override
    {
        return ++references;
    }

    STDMETHODIMP_(ULONG) Release() override
    {
        return --references;
    }

    STDMETHODIMP RegisterDeviceHost(IVmDeviceHost* host, DWORD process, UINT64* section) override
    {
        void* unknown = nullptr;
        EXPECT_RESULT(host->QueryInterface(IID_IUnknown, &unknown), S_OK);
        EXPECT(static_cast<IUnknown*>(unknown)->Release() == 1);
        kept = host;
        kept->AddRef();
        return HdvProxyDeviceHost(compute_system_, host, process, section);
    }

    ULONG references = 1;
    IVmDeviceHost* kept = nullptr;

private:
    HCS_SYSTEM compute_system_;
};

void a_class_is_a_proxy()
{
    const GUID vm_id = IID_IUnknown;
    HCS_SYSTEM compute_system = open_system();
    Proxy proxy(compute_system);
    HDV_HOST host = nullptr;
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy, &host), S_OK);

    struct device device;
    device_reset(&device);
    GUID instance = next_instance();
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    IUnknown* found = nullptr;
    EXPECT_RESULT(proxy.kept->GetDeviceInstance(device_class, instance, &found), S_OK);
    EXPECT(found != nullptr && found->Release() == 0);

    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(proxy.kept->Release() == 0);
    EXPECT(proxy.references == 1);
    HcsCloseComputeSystem(compute_system);
}

} // namespace

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(a_class_is_a_proxy);
    FINISH();
}
