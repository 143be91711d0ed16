/*
 * Device hosts without rights: behind a proxy of this process, and in a process of their own, which locks itself in. That process
 * is this program again.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "compute.h"

static const GUID vm_id = { 7, 7, 7, { 7, 7, 7, 7, 7, 7, 7, 7 } };
static const char* this_program;

/* What a process of its own ends with where it does not stay. */
enum { ENDED_WELL = 40, ENDED_BADLY = 41, WAS_REFUSED = 42 };

/* What our own proxies refuse with. */
static const HRESULT refusal = (HRESULT)0x8abc0011u;

/* ---- The process without rights. ---- */

static int no_file_can_be_opened(void)
{
    errno = 0;
    return open("/proc/self/exe", O_RDONLY) < 0 && errno == EPERM;
}

static int restricted(const char* what, const char* instance_text)
{
    static struct device device;
    IUnknown* support = NULL;
    HDV_HOST host = NULL;
    GUID instance;
    HRESULT result;
    EXPECT_RESULT(OpenHdvCreateProxySupport(NULL, &support), S_OK);
    if (check_failed) {
        return ENDED_BADLY;
    }
    if (strcmp(what, "leave") == 0) {
        return ENDED_WELL;
    }
    EXPECT_RESULT(OpenHdvLockIn(), S_OK);
    EXPECT_RESULT(OpenHdvLockIn(), S_OK);
    EXPECT(no_file_can_be_opened());
    result = HdvInitializeDeviceHostForProxy(&vm_id, support, &host);
    if (strcmp(what, "refused") == 0) {
        char text[512];
        OpenHdvGetLastErrorText(text, sizeof text);
        EXPECT(host == NULL && strstr(text, "8abc0011") != NULL);
        return result == refusal && !check_failed ? WAS_REFUSED : ENDED_BADLY;
    }
    EXPECT_RESULT(result, S_OK);
    EXPECT_RESULT(OpenHdvParseGuid(instance_text, &instance), S_OK);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    if (strcmp(what, "many") == 0) {
        /* As many as a restricted host may have, and one more. */
        static struct device devices[16];
        for (size_t at = 1; at < 17; at++) {
            instance.Data1++;
            EXPECT_RESULT(device_create_as(host, &devices[at - 1], &instance), at < 16 ? S_OK : E_ACCESSDENIED);
        }
        EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
        return check_failed ? ENDED_BADLY : ENDED_WELL;
    }
    /* A second host behind the one broker. */
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, support, &host), WIN32(ALREADY_EXISTS));
    if (check_failed) {
        return ENDED_BADLY;
    }
    for (;;) {
        sleep(1);
    }
}

/* ---- The broker. ---- */

struct process {
    DWORD id;
    HANDLE socket;
};

static struct process spawn(const char* what, const GUID* instance)
{
    struct process process = { 0, NULL };
    const char* arguments[] = { this_program, "restricted", what, guid_text(instance), NULL };
    EXPECT_RESULT(OpenHdvSpawnRestricted(arguments, &process.id, &process.socket), S_OK);
    EXPECT(process.id != 0 && process.socket != NULL);
    return process;
}

static void ends_with(const struct process* process, int expected)
{
    int status = 0;
    EXPECT(waitpid((pid_t)process->id, &status, 0) == (pid_t)process->id);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == expected);
}

static void kill_process(const struct process* process)
{
    int status = 0;
    EXPECT(kill((pid_t)process->id, SIGKILL) == 0);
    EXPECT(waitpid((pid_t)process->id, &status, 0) == (pid_t)process->id);
}

static void serve(struct process* process, IUnknown* support)
{
    EXPECT_RESULT(OpenHdvServeProxy(process->socket, process->id, support), S_OK);
    EXPECT_RESULT(OpenHdvCloseHandle(process->socket), S_OK);
}

/* Longer than anything takes, in seconds. */
enum { PATIENCE = 60 };

static void wait_for_property(HCS_SYSTEM compute_system, const char* text)
{
    time_t begun = time(NULL);
    while (time(NULL) - begun < PATIENCE) {
        EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, NULL), S_OK);
        if (strstr(result_document, text) != NULL) {
            return;
        }
        usleep(2000);
    }
    printf("%s is not in %s\n", text, result_document);
    EXPECT(!"a property comes");
}

/* Starts a compute system once its device host is there. */
static void start_with_host(HCS_SYSTEM compute_system)
{
    time_t begun = time(NULL);
    HRESULT result;
    do {
        CALL(result, HcsStartComputeSystem(compute_system, operation, NULL));
    } while (result == WIN32(NOT_FOUND) && time(NULL) - begun < PATIENCE && usleep(2000) == 0);
    EXPECT_RESULT(result, S_OK);
}

static const char* of_process(DWORD id)
{
    static char text[64];
    snprintf(text, sizeof text, "\"ProcessId\":%u", (unsigned)id);
    return text;
}

#define RELEASE(object) ((object)->lpVtbl->Release(object))

CHECK(restricted_host_in_a_process_of_its_own)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "ExternalRestricted"));
    struct process process = spawn("stay", &instance);
    IUnknown* support = NULL;
    EXPECT_RESULT(OpenHdvCreateSystemSupport(compute_system, &support), S_OK);
    serve(&process, support);
    EXPECT(support != NULL);
    start_with_host(compute_system);
    wait_for_property(compute_system, "\"Attached\"");
    wait_for_property(compute_system, of_process(process.id));
    EXPECT_CALL(HcsPauseComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT_CALL(HcsResumeComputeSystem(compute_system, operation, NULL), S_OK);
    /* It dies: the worker notices, and the VM goes on. */
    kill_process(&process);
    wait_for_property(compute_system, "\"Lost\"");
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    RELEASE(support);
    HcsCloseComputeSystem(compute_system);
}

CHECK(restricted_host_has_a_bounded_number_of_devices)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with("");
    struct process process = spawn("many", &instance);
    IUnknown* support = NULL;
    EXPECT_RESULT(OpenHdvCreateSystemSupport(compute_system, &support), S_OK);
    serve(&process, support);
    ends_with(&process, ENDED_WELL);
    RELEASE(support);
    HcsCloseComputeSystem(compute_system);
}

CHECK(restricted_host_that_leaves_without_a_word)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with("");
    struct process process = spawn("leave", &instance);
    IUnknown* support = NULL;
    EXPECT_RESULT(OpenHdvCreateSystemSupport(compute_system, &support), S_OK);
    ends_with(&process, ENDED_WELL);
    serve(&process, support);
    RELEASE(support);
    HcsCloseComputeSystem(compute_system);
}

CHECK(restricted_host_in_this_process)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "ExternalRestricted"));
    IUnknown* support = NULL;
    HDV_HOST host = NULL;
    struct device device;
    EXPECT_RESULT(OpenHdvCreateSystemSupport(compute_system, &support), S_OK);
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, support, &host), S_OK);
    device_reset(&device);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT(strncmp(device.life, "ICDS", 4) == 0);
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT(device.calls[CALL_TEARDOWN] == 1);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    HcsCloseComputeSystem(compute_system);
    /* The handle is closed now. */
    EXPECT_RESULT(HdvInitializeDeviceHostForProxy(&vm_id, support, &host), E_HANDLE);
    EXPECT(host == NULL);
    RELEASE(support);
}

CHECK(a_restricted_device_needs_a_proxy)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "ExternalRestricted"));
    HDV_HOST host = NULL;
    struct device device;
    device_reset(&device);
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &host), S_OK);
    EXPECT_RESULT(device_create_as(host, &device, &instance), E_INVALIDARG);
    EXPECT(device.calls[CALL_INITIALIZE] == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    HcsCloseComputeSystem(compute_system);
}

/* ---- A proxy of the broker's own. ---- */

struct proxy {
    IVmDeviceHostSupport interface;
    ULONG references;
    HCS_SYSTEM compute_system;
    int refuse;
    DWORD asked_for;
    HRESULT other_process;
    HRESULT instance;
    HRESULT registered;
    HRESULT again;
};

static HRESULT query_proxy(IVmDeviceHostSupport* this_, const IID* iid, void** object)
{
    *object = NULL;
    if (memcmp(iid, &IID_IUnknown, sizeof *iid) != 0 && memcmp(iid, &IID_IVmDeviceHostSupport, sizeof *iid) != 0) {
        return E_NOINTERFACE;
    }
    __atomic_add_fetch(&((struct proxy*)this_)->references, 1, __ATOMIC_SEQ_CST);
    *object = this_;
    return S_OK;
}

static ULONG add_proxy(IVmDeviceHostSupport* this_)
{
    return __atomic_add_fetch(&((struct proxy*)this_)->references, 1, __ATOMIC_SEQ_CST);
}

static ULONG release_proxy(IVmDeviceHostSupport* this_)
{
    return __atomic_sub_fetch(&((struct proxy*)this_)->references, 1, __ATOMIC_SEQ_CST);
}

static HRESULT register_host(IVmDeviceHostSupport* this_, IVmDeviceHost* host, DWORD process, UINT64* section)
{
    struct proxy* proxy = (struct proxy*)this_;
    IUnknown* found = (IUnknown*)this_;
    proxy->asked_for = process;
    proxy->instance = host->lpVtbl->GetDeviceInstance(host, &device_class, &vm_id, &found);
    EXPECT(found == NULL);
    proxy->other_process = HdvProxyDeviceHost(proxy->compute_system, host, process + 1, section);
    if (proxy->refuse == 1) {
        return refusal;
    }
    proxy->registered = HdvProxyDeviceHost(proxy->compute_system, host, process, section);
    proxy->again = HdvProxyDeviceHost(proxy->compute_system, host, process, section);
    return proxy->refuse == 2 ? refusal : proxy->registered;
}

static const IVmDeviceHostSupportVtbl proxy_table = { query_proxy, add_proxy, release_proxy, register_host };

static void proxy_make(struct proxy* proxy, HCS_SYSTEM compute_system, int refuse)
{
    memset(proxy, 0, sizeof *proxy);
    proxy->interface.lpVtbl = &proxy_table;
    proxy->references = 1;
    proxy->compute_system = compute_system;
    proxy->refuse = refuse;
}

static void proxy_end(struct proxy* proxy)
{
    /* The thread that waited for the host lets go last. */
    while (__atomic_load_n(&proxy->references, __ATOMIC_SEQ_CST) != 1) {
        usleep(1000);
    }
}

CHECK(a_proxy_of_the_brokers_own_registers)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "ExternalRestricted"));
    struct process process = spawn("stay", &instance);
    struct proxy proxy;
    proxy_make(&proxy, compute_system, 0);
    serve(&process, (IUnknown*)&proxy.interface);
    start_with_host(compute_system);
    EXPECT(proxy.asked_for == process.id);
    EXPECT_RESULT(proxy.instance, E_NOTIMPL);
    EXPECT_RESULT(proxy.other_process, E_INVALIDARG);
    EXPECT_RESULT(proxy.registered, S_OK);
    EXPECT_RESULT(proxy.again, WIN32(ALREADY_EXISTS));
    kill_process(&process);
    proxy_end(&proxy);
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    HcsCloseComputeSystem(compute_system);
}

CHECK(a_proxy_of_the_brokers_own_refuses)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with("");
    struct process process = spawn("refused", &instance);
    struct proxy proxy;
    proxy_make(&proxy, compute_system, 1);
    serve(&process, (IUnknown*)&proxy.interface);
    ends_with(&process, WAS_REFUSED);
    proxy_end(&proxy);
    HcsCloseComputeSystem(compute_system);
}

CHECK(restricted_hosts_have_no_directory_of_sockets)
{
    GUID instance = next_instance();
    struct process process = spawn("stay", &instance);
    HCS_SYSTEM directory = open_system();
    struct proxy proxy;
    int status = 0;
    proxy_make(&proxy, directory, 0);
    serve(&process, (IUnknown*)&proxy.interface);
    /* It ends, and not well. */
    EXPECT(waitpid((pid_t)process.id, &status, 0) == (pid_t)process.id);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == ENDED_BADLY);
    proxy_end(&proxy);
    EXPECT_RESULT(proxy.registered, E_INVALIDARG);
    HcsCloseComputeSystem(directory);
}

/* ---- Arguments. ---- */

CHECK(open_hdv_create_proxy_support_bad_arguments)
{
    IUnknown* support = (IUnknown*)&vm_id;
    HANDLE section = NULL;
    /* Nobody has left a socket to this process. */
    EXPECT_RESULT(OpenHdvCreateProxySupport(NULL, &support), E_ACCESSDENIED);
    EXPECT(support == NULL);
    EXPECT_RESULT(OpenHdvCreateProxySupport((HANDLE)(intptr_t)9999, &support), E_HANDLE);
    EXPECT_RESULT(OpenHdvCreateSection(4096, &section), S_OK);
    EXPECT_RESULT(OpenHdvCreateProxySupport(section, &support), E_INVALIDARG);
    EXPECT_RESULT(OpenHdvCreateProxySupport(section, NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvCloseHandle(section), S_OK);
}

CHECK(open_hdv_create_proxy_support_success)
{
    /* A socket of the caller's, whose other end is gone: the host notices. */
    int pair[2];
    IUnknown* support = NULL;
    HDV_HOST host = NULL;
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    EXPECT_RESULT(OpenHdvCreateProxySupport(OPENHDV_HANDLE_FROM_DESCRIPTOR(pair[0]), &support), S_OK);
    close(pair[0]);
    close(pair[1]);
    EXPECT(FAILED(HdvInitializeDeviceHostForProxy(&vm_id, support, &host)) && host == NULL);
    EXPECT(RELEASE(support) == 0);
}

CHECK(open_hdv_create_system_support_bad_arguments)
{
    HCS_SYSTEM directory = open_system();
    IUnknown* support = (IUnknown*)&vm_id;
    EXPECT_RESULT(OpenHdvCreateSystemSupport(NULL, &support), E_HANDLE);
    EXPECT(support == NULL);
    EXPECT_RESULT(OpenHdvCreateSystemSupport(directory, NULL), E_POINTER);
    HcsCloseComputeSystem(directory);
    EXPECT_RESULT(OpenHdvCreateSystemSupport(directory, &support), E_HANDLE);
}

CHECK(open_hdv_serve_proxy_bad_arguments)
{
    HCS_SYSTEM directory = open_system();
    IUnknown* support = NULL;
    int pair[2];
    HANDLE socket_handle;
    EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    socket_handle = OPENHDV_HANDLE_FROM_DESCRIPTOR(pair[0]);
    EXPECT_RESULT(OpenHdvCreateSystemSupport(directory, &support), S_OK);
    EXPECT_RESULT(OpenHdvServeProxy(socket_handle, 1, NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvServeProxy(NULL, 1, support), E_HANDLE);
    EXPECT_RESULT(OpenHdvServeProxy(socket_handle, 0, support), E_INVALIDARG);
    RELEASE(support);
    HcsCloseComputeSystem(directory);
    close(pair[0]);
    close(pair[1]);
}

CHECK(open_hdv_spawn_restricted_bad_arguments)
{
    const char* arguments[] = { "/no such program", NULL };
    const char* none[] = { NULL };
    DWORD id = 1;
    HANDLE host_socket = (HANDLE)&id;
    EXPECT_RESULT(OpenHdvSpawnRestricted(NULL, &id, &host_socket), E_POINTER);
    EXPECT(id == 0 && host_socket == NULL);
    EXPECT_RESULT(OpenHdvSpawnRestricted(none, &id, &host_socket), E_POINTER);
    EXPECT_RESULT(OpenHdvSpawnRestricted(arguments, NULL, &host_socket), E_POINTER);
    EXPECT_RESULT(OpenHdvSpawnRestricted(arguments, &id, NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvSpawnRestricted(arguments, &id, &host_socket), WIN32(FILE_NOT_FOUND));
}

int main(int argc, char** argv)
{
    if (argc == 4) {
        return restricted(argv[2], argv[3]);
    }
    this_program = argv[0];
    BEGIN(argc, argv);
    RUN(restricted_host_in_a_process_of_its_own);
    RUN(restricted_host_has_a_bounded_number_of_devices);
    RUN(restricted_host_that_leaves_without_a_word);
    RUN(restricted_host_in_this_process);
    RUN(a_restricted_device_needs_a_proxy);
    RUN(a_proxy_of_the_brokers_own_registers);
    RUN(a_proxy_of_the_brokers_own_refuses);
    RUN(restricted_hosts_have_no_directory_of_sockets);
    RUN(open_hdv_create_proxy_support_bad_arguments);
    RUN(open_hdv_create_proxy_support_success);
    RUN(open_hdv_create_system_support_bad_arguments);
    RUN(open_hdv_serve_proxy_bad_arguments);
    RUN(open_hdv_spawn_restricted_bad_arguments);
    FINISH();
}
