/*
 * The proxy functions, both sides in this process, over COM objects of this program.
 */
#include <unistd.h>

#include "device.h"

/* What a proxy does when it is asked to register a host. */
enum behaviour { REGISTER, REGISTER_TWICE, KEEP, REFUSE, REGISTER_OTHER_PROCESS };

struct proxy {
    IVmDeviceHostSupport interface;
    ULONG references;
    int supports;
    enum behaviour behaviour;
    HCS_SYSTEM compute_system;
    IVmDeviceHost* kept;
    HRESULT proxied;
    DWORD process;
};

static HRESULT query_proxy(IVmDeviceHostSupport* this_, const IID* iid, void** object)
{
    struct proxy* proxy = (struct proxy*)this_;
    *object = NULL;
    if (memcmp(iid, &IID_IUnknown, sizeof *iid) != 0
        && (!proxy->supports || memcmp(iid, &IID_IVmDeviceHostSupport, sizeof *iid) != 0)) {
        return E_NOINTERFACE;
    }
    proxy->references++;
    *object = this_;
    return S_OK;
}

static ULONG add_proxy(IVmDeviceHostSupport* this_)
{
    return ++((struct proxy*)this_)->references;
}

static ULONG release_proxy(IVmDeviceHostSupport* this_)
{
    return --((struct proxy*)this_)->references;
}

static HRESULT register_host(IVmDeviceHostSupport* this_, IVmDeviceHost* host, DWORD process,
                             UINT64* section)
{
    struct proxy* proxy = (struct proxy*)this_;
    proxy->process = process;
    switch (proxy->behaviour) {
    case REFUSE:
        return (HRESULT)0x8abc0002u;
    case REGISTER_OTHER_PROCESS:
        return proxy->proxied = HdvProxyDeviceHost(proxy->compute_system, host, process + 1, section);
    case KEEP:
        host->lpVtbl->AddRef(host);
        proxy->kept = host;
        return S_OK;
    case REGISTER_TWICE:
        EXPECT_RESULT(HdvProxyDeviceHost(proxy->compute_system, host, process, section), S_OK);
        return proxy->proxied = HdvProxyDeviceHost(proxy->compute_system, host, process, section);
    case REGISTER:
    default:
        host->lpVtbl->AddRef(host);
        proxy->kept = host;
        return proxy->proxied = HdvProxyDeviceHost(proxy->compute_system, host, process, section);
    }
}

static const IVmDeviceHostSupportVtbl proxy_table = { query_proxy, add_proxy, release_proxy,
                                                      register_host };

static void proxy_make(struct proxy* proxy, enum behaviour behaviour)
{
    memset(proxy, 0, sizeof *proxy);
    proxy->interface.lpVtbl = &proxy_table;
    proxy->references = 1;
    proxy->supports = 1;
    proxy->behaviour = behaviour;
    proxy->compute_system = open_system();
}

static void proxy_end(struct proxy* proxy)
{
    if (proxy->kept != NULL) {
        EXPECT(proxy->kept->lpVtbl->Release(proxy->kept) == 0);
    }
    EXPECT(proxy->references == 1);
    HcsCloseComputeSystem(proxy->compute_system);
}

static const GUID vm_id = { 7, 7, 7, { 7, 7, 7, 7, 7, 7, 7, 7 } };

CHECK(hdv_initialize_device_host_for_proxy_success)
{
    struct proxy proxy;
    struct device device;
    HDV_HOST host = NULL;
    proxy_make(&proxy, REGISTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), S_OK);
    EXPECT(host != NULL && proxy.process == (DWORD)getpid());
    EXPECT_RESULT(proxy.proxied, S_OK);
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT(strcmp(device.order, "ICD") == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(strcmp(device.order, "ICDT") == 0);
    proxy_end(&proxy);
}

CHECK(hdv_initialize_device_host_for_proxy_ex_success)
{
    for (DWORD flags = 0; flags < 2; flags++) {
        struct proxy proxy;
        HDV_HOST host = NULL;
        proxy_make(&proxy, REGISTER);
        EXPECT_RESULT(HdvInitializeDeviceHostForProxyEx(&vm_id, &proxy.interface, flags, &host),
                      S_OK);
        EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
        proxy_end(&proxy);
    }
}

CHECK(hdv_initialize_device_host_for_proxy_ex_bad_flags)
{
    struct proxy proxy;
    HDV_HOST host = (HDV_HOST)&proxy;
    proxy_make(&proxy, REGISTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxyEx(&vm_id, &proxy.interface, 2, &host),
                  E_INVALIDARG);
    EXPECT(host == NULL && proxy.process == 0);
    proxy_end(&proxy);
}

CHECK(hdv_initialize_device_host_for_proxy_ex_null)
{
    struct proxy proxy;
    HDV_HOST host = NULL;
    proxy_make(&proxy, REGISTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxyEx(NULL, &proxy.interface, 0, &host), E_POINTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxyEx(&vm_id, NULL, 0, &host), E_POINTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxyEx(&vm_id, &proxy.interface, 0, NULL), E_POINTER);
    proxy_end(&proxy);
}

CHECK(hdv_initialize_device_host_for_proxy_ex_no_interface)
{
    struct proxy proxy;
    HDV_HOST host = NULL;
    proxy_make(&proxy, REGISTER);
    proxy.supports = 0;
    EXPECT_RESULT(HdvInitializeDeviceHostForProxyEx(&vm_id, &proxy.interface, 0, &host),
                  E_NOINTERFACE);
    proxy_end(&proxy);
}

CHECK(hdv_initialize_device_host_for_proxy_ex_refused)
{
    struct proxy proxy;
    HDV_HOST host = NULL;
    proxy_make(&proxy, REFUSE);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxyEx(&vm_id, &proxy.interface, 0, &host),
                  0x8abc0002u);
    EXPECT(host == NULL);
    proxy_end(&proxy);
}

CHECK(hdv_initialize_device_host_for_proxy_null)
{
    struct proxy proxy;
    HDV_HOST host = (HDV_HOST)&proxy;
    proxy_make(&proxy, REGISTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(NULL, &proxy.interface, &host), E_POINTER);
    EXPECT(host == NULL);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, NULL, &host), E_POINTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, NULL), E_POINTER);
    EXPECT(proxy.process == 0);
    proxy_end(&proxy);
}

CHECK(hdv_initialize_device_host_for_proxy_no_interface)
{
    struct proxy proxy;
    HDV_HOST host = (HDV_HOST)&proxy;
    proxy_make(&proxy, REGISTER);
    proxy.supports = 0;
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), E_NOINTERFACE);
    EXPECT(host == NULL);
    proxy_end(&proxy);
}

CHECK(hdv_initialize_device_host_for_proxy_refused)
{
    struct proxy proxy;
    HDV_HOST host = (HDV_HOST)&proxy;
    proxy_make(&proxy, REFUSE);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), 0x8abc0002u);
    EXPECT(host == NULL);
    proxy_end(&proxy);
}

CHECK(hdv_proxy_device_host_success)
{
    /* Registered later than created: its devices wait for it. */
    struct proxy proxy;
    struct device device;
    HDV_HOST host = NULL;
    UINT64 section = 5;
    proxy_make(&proxy, KEEP);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), S_OK);
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT(device.order[0] == 0);
    EXPECT_RESULT(HdvProxyDeviceHost(proxy.compute_system, proxy.kept, (DWORD)getpid(), &section),
                  S_OK);
    EXPECT(section == 0);
    EXPECT(strcmp(device.order, "ICD") == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(strcmp(device.order, "ICDT") == 0);
    proxy_end(&proxy);
}

CHECK(hdv_proxy_device_host_never_registered)
{
    /* Teardown comes for a device that was never powered on, and nothing else. */
    struct proxy proxy;
    struct device device;
    HDV_HOST host = NULL;
    proxy_make(&proxy, KEEP);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), S_OK);
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(strcmp(device.order, "T") == 0);
    proxy_end(&proxy);
}

CHECK(hdv_proxy_device_host_callback_fails)
{
    struct proxy proxy;
    struct device device;
    HDV_HOST host = NULL;
    UINT64 section = 5;
    proxy_make(&proxy, KEEP);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), S_OK);
    device_reset(&device);
    device.results[CALL_INITIALIZE] = (HRESULT)0x8abc0003u;
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_RESULT(HdvProxyDeviceHost(proxy.compute_system, proxy.kept, (DWORD)getpid(), &section),
                  0x8abc0003u);
    EXPECT(strcmp(device.order, "IT") == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(strcmp(device.order, "IT") == 0);
    proxy_end(&proxy);
}

CHECK(hdv_proxy_device_host_twice)
{
    struct proxy proxy;
    HDV_HOST host = (HDV_HOST)&proxy;
    proxy_make(&proxy, REGISTER_TWICE);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host),
                  WIN32(ALREADY_EXISTS));
    EXPECT(host == NULL);
    proxy_end(&proxy);
}

CHECK(hdv_proxy_device_host_null)
{
    UINT64 section = 5;
    HCS_SYSTEM compute_system = open_system();
    EXPECT_RESULT(HdvProxyDeviceHost(compute_system, NULL, (DWORD)getpid(), &section), E_POINTER);
    EXPECT(section == 0);
    EXPECT_RESULT(HdvProxyDeviceHost(compute_system, NULL, (DWORD)getpid(), NULL), E_POINTER);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hdv_proxy_device_host_no_interface)
{
    /* The proxy is an object, and no device host. */
    struct proxy proxy;
    UINT64 section = 5;
    proxy_make(&proxy, KEEP);
    EXPECT_RESULT(HdvProxyDeviceHost(proxy.compute_system, &proxy.interface, (DWORD)getpid(),
                                     &section),
                  E_NOINTERFACE);
    proxy_end(&proxy);
}

CHECK(hdv_proxy_device_host_other_process)
{
    struct proxy proxy;
    HDV_HOST host = NULL;
    proxy_make(&proxy, REGISTER_OTHER_PROCESS);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), E_INVALIDARG);
    EXPECT_RESULT(proxy.proxied, E_INVALIDARG);
    proxy_end(&proxy);
}

CHECK(hdv_proxy_device_host_torn_down)
{
    struct proxy proxy;
    HDV_HOST host = NULL;
    UINT64 section = 0;
    proxy_make(&proxy, KEEP);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT_RESULT(HdvProxyDeviceHost(proxy.compute_system, proxy.kept, (DWORD)getpid(), &section),
                  E_HANDLE);
    proxy_end(&proxy);
}

CHECK(vm_device_host_get_device_instance)
{
    struct proxy proxy;
    struct device device;
    GUID instance = next_instance();
    IUnknown* found = NULL;
    void* same = NULL;
    HDV_HOST host = NULL;
    proxy_make(&proxy, REGISTER);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), S_OK);
    device_reset(&device);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
#define GET(class_id, instance_id, place)                                                        \
    proxy.kept->lpVtbl->GetDeviceInstance(proxy.kept, class_id, instance_id, place)
    EXPECT_RESULT(GET(&device_class, &instance, &found), S_OK);
    EXPECT_RESULT(found->lpVtbl->QueryInterface(found, &IID_IUnknown, &same), S_OK);
    EXPECT(same == found && found->lpVtbl->Release(found) == 1);
    EXPECT_RESULT(found->lpVtbl->QueryInterface(found, &IID_IVmDeviceHost, &same), E_NOINTERFACE);
    EXPECT(same == NULL && found->lpVtbl->AddRef(found) == 2);
    EXPECT(found->lpVtbl->Release(found) == 1 && found->lpVtbl->Release(found) == 0);
    EXPECT_RESULT(GET(&instance, &instance, &found), WIN32(NOT_FOUND));
    EXPECT(found == NULL);
    EXPECT_RESULT(GET(&device_class, &device_class, &found), WIN32(NOT_FOUND));
    EXPECT_RESULT(GET(NULL, &instance, &found), E_POINTER);
    EXPECT_RESULT(GET(&device_class, NULL, &found), E_POINTER);
    EXPECT_RESULT(GET(&device_class, &instance, NULL), E_POINTER);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT_RESULT(GET(&device_class, &instance, &found), WIN32(NOT_FOUND));
    proxy_end(&proxy);
}

CHECK(vm_device_host_query_interface)
{
    struct proxy proxy;
    void* same = NULL;
    HDV_HOST host = NULL;
    proxy_make(&proxy, KEEP);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, &proxy.interface, &host), S_OK);
#define QUERY(iid, place) proxy.kept->lpVtbl->QueryInterface(proxy.kept, iid, place)
    EXPECT_RESULT(QUERY(&IID_IUnknown, &same), S_OK);
    EXPECT(same == proxy.kept && proxy.kept->lpVtbl->Release(proxy.kept) == 1);
    EXPECT_RESULT(QUERY(&IID_IVmDeviceHost, &same), S_OK);
    EXPECT(same == proxy.kept && proxy.kept->lpVtbl->Release(proxy.kept) == 1);
    EXPECT_RESULT(QUERY(&IID_IVmDeviceHostSupport, &same), E_NOINTERFACE);
    EXPECT(same == NULL);
    EXPECT_RESULT(QUERY(&IID_IUnknown, NULL), E_POINTER);
    same = &same;
    EXPECT_RESULT(QUERY(NULL, &same), E_POINTER);
    EXPECT(same == NULL);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    proxy_end(&proxy);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(hdv_initialize_device_host_for_proxy_success);
    RUN(hdv_initialize_device_host_for_proxy_null);
    RUN(hdv_initialize_device_host_for_proxy_no_interface);
    RUN(hdv_initialize_device_host_for_proxy_refused);
    RUN(hdv_initialize_device_host_for_proxy_ex_success);
    RUN(hdv_initialize_device_host_for_proxy_ex_bad_flags);
    RUN(hdv_initialize_device_host_for_proxy_ex_null);
    RUN(hdv_initialize_device_host_for_proxy_ex_no_interface);
    RUN(hdv_initialize_device_host_for_proxy_ex_refused);
    RUN(hdv_proxy_device_host_success);
    RUN(hdv_proxy_device_host_never_registered);
    RUN(hdv_proxy_device_host_callback_fails);
    RUN(hdv_proxy_device_host_twice);
    RUN(hdv_proxy_device_host_null);
    RUN(hdv_proxy_device_host_no_interface);
    RUN(hdv_proxy_device_host_other_process);
    RUN(hdv_proxy_device_host_torn_down);
    RUN(vm_device_host_get_device_instance);
    RUN(vm_device_host_query_interface);
    FINISH();
}
