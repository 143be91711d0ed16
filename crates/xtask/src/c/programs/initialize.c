/* Stands in for HdvInitializeDeviceHost in another program, whose every HdvInitializeDeviceHost is compiled as
 * initialize_otherwise: makes the device host by one of the other functions, as a macro says. By WITH_PROXY and
 * WITH_PROXY_EX it reaches its compute system through a proxy, an object of this process. */
#include <hypervdevicevirtualization.h>

#ifdef WITH_EX
HRESULT WINAPI initialize_otherwise(HCS_SYSTEM system, HDV_HOST *host)
{
    return HdvInitializeDeviceHostEx(system, HdvDeviceHostFlagInitializeComSecurity, host);
}
#else
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

HRESULT WINAPI initialize_otherwise(HCS_SYSTEM system, HDV_HOST *host)
{
    static struct proxy proxy;
    const GUID vm = { 7, 7, 7, { 7, 7, 7, 7, 7, 7, 7, 7 } };

    proxy.support.lpVtbl = &table;
    proxy.references = 1;
    proxy.system = system;
#ifdef WITH_PROXY_EX
    return HdvInitializeDeviceHostForProxyEx(&vm, &proxy.support, HdvDeviceHostFlagInitializeComSecurity, host);
#else
    return HdvInitializeDeviceHostForProxy(&vm, &proxy.support, host);
#endif
}
#endif
