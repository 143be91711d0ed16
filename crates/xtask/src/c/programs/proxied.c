/* Stands in for HdvInitializeDeviceHost in another program, whose every HdvInitializeDeviceHost is compiled as
 * proxied_initialize: the device host reaches its compute system through a proxy, an object of this process.
 * With PROXIED_EX through HdvInitializeDeviceHostForProxyEx. */
#include <hypervdevicevirtualization.h>

struct proxy {
    IVmDeviceHostSupport support;
    ULONG references;
    HCS_SYSTEM system;
};

static HRESULT STDMETHODCALLTYPE query_interface(IVmDeviceHostSupport *This, REFIID riid, void **object)
{
    struct proxy *proxy = (struct proxy *)This;

    *object = NULL;
    if (!IsEqualIID(riid, &IID_IUnknown) && !IsEqualIID(riid, &IID_IVmDeviceHostSupport))
        return E_NOINTERFACE;
    proxy->references++;
    *object = This;
    return S_OK;
}

static ULONG STDMETHODCALLTYPE add_reference(IVmDeviceHostSupport *This)
{
    return ++((struct proxy *)This)->references;
}

static ULONG STDMETHODCALLTYPE release(IVmDeviceHostSupport *This)
{
    return --((struct proxy *)This)->references;
}

static HRESULT STDMETHODCALLTYPE register_host(IVmDeviceHostSupport *This, IVmDeviceHost *host,
                                               DWORD process, UINT64 *section)
{
    return HdvProxyDeviceHost(((struct proxy *)This)->system, host, process, section);
}

static const IVmDeviceHostSupportVtbl table = { query_interface, add_reference, release, register_host };

HRESULT WINAPI proxied_initialize(HCS_SYSTEM system, HDV_HOST *host)
{
    static struct proxy proxy;
    const GUID vm = { 7, 7, 7, { 7, 7, 7, 7, 7, 7, 7, 7 } };

    proxy.support.lpVtbl = &table;
    proxy.references = 1;
    proxy.system = system;
#ifdef PROXIED_EX
    return HdvInitializeDeviceHostForProxyEx(&vm, &proxy.support, HdvDeviceHostFlagInitializeComSecurity, host);
#else
    return HdvInitializeDeviceHostForProxy(&vm, &proxy.support, host);
#endif
}
