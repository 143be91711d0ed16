/*
 * Calls from many threads at once, on handles that come and go.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "virtualization.h"

enum { THREADS = 4, HOSTS = 40 };

static _Atomic(HDV_DEVICE) shared_device;
static atomic_int going;

static int is_one_of(HRESULT result, HRESULT one, HRESULT other)
{
    return result == one || result == other;
}

/* Whatever another thread does to the device: one of two results, and no crash. */
static void* use_device(void* failures)
{
    HANDLE event = NULL;
    BYTE bytes[4];
    int wrong = FAILED(OpenHdvCreateEvent(&event));
    while (atomic_load(&going)) {
        HRESULT result = HdvReadGuestMemory(shared_device, 0, 4, bytes);
        wrong += !is_one_of(result, WIN32(NOT_READY), E_HANDLE);
        result = HdvDeliverGuestInterrupt(shared_device, 1, 1);
        wrong += !is_one_of(result, WIN32(NOT_READY), E_HANDLE);
        result = HdvRegisterDoorbell(shared_device, HDV_PCI_BAR0, 0, (UINT64)(uintptr_t)&bytes, 0, event);
        wrong += !is_one_of(result, S_OK, E_HANDLE);
        result = HdvUnregisterDoorbell(shared_device, HDV_PCI_BAR0, 0, (UINT64)(uintptr_t)&bytes, 0);
        /* Gone with the device between the two. */
        wrong += !is_one_of(result, S_OK, E_HANDLE) && result != WIN32(NOT_FOUND);
        /* memcheck runs one thread at a time: the one that makes hosts must come to its turn. */
        sched_yield();
    }
    wrong += FAILED(OpenHdvCloseHandle(event));
    *(int*)failures = wrong;
    return NULL;
}

CHECK(device_calls_while_hosts_come_and_go)
{
    pthread_t threads[THREADS];
    int failures[THREADS];
    atomic_store(&going, 1);
    for (int i = 0; i < THREADS; i++) {
        EXPECT(pthread_create(&threads[i], NULL, use_device, &failures[i]) == 0);
    }
    for (int i = 0; i < HOSTS; i++) {
        struct device device;
        HDV_HOST host = open_host();
        device_reset(&device);
        EXPECT_RESULT(device_create(host, &device), S_OK);
        atomic_store(&shared_device, device.handle);
        EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
        EXPECT(device.calls[CALL_TEARDOWN] == 1);
    }
    atomic_store(&going, 0);
    for (int i = 0; i < THREADS; i++) {
        EXPECT(pthread_join(threads[i], NULL) == 0);
        EXPECT(failures[i] == 0);
    }
}

static HDV_HOST shared_host;

static void* create_devices(void* failures)
{
    static atomic_uint number;
    int wrong = 0;
    struct device devices[8];
    for (int i = 0; i < 8; i++) {
        GUID instance = { 0x7eadd000, 0, 0, { 0 } };
        instance.Data1 += atomic_fetch_add(&number, 1);
        device_reset(&devices[i]);
        wrong += FAILED(device_create_as(shared_host, &devices[i], &instance));
        wrong += devices[i].calls[CALL_GET_DETAILS] != 1;
    }
    /* Their contexts must outlive them. */
    wrong += HdvDeliverGuestInterrupt(devices[0].handle, 1, 1) != WIN32(NOT_READY);
    atomic_fetch_sub(&going, 1);
    while (atomic_load(&going) >= 0) {
        sched_yield();
    }
    for (int i = 0; i < 8; i++) {
        wrong += devices[i].calls[CALL_TEARDOWN] != 1;
    }
    *(int*)failures = wrong;
    return NULL;
}

CHECK(hdv_create_device_instance_on_many_threads)
{
    pthread_t threads[THREADS];
    int failures[THREADS];
    shared_host = open_host();
    atomic_store(&going, THREADS);
    for (int i = 0; i < THREADS; i++) {
        EXPECT(pthread_create(&threads[i], NULL, create_devices, &failures[i]) == 0);
    }
    while (atomic_load(&going) > 0) {
        sched_yield();
    }
    EXPECT_RESULT(HdvTeardownDeviceHost(shared_host), S_OK);
    atomic_store(&going, -1);
    for (int i = 0; i < THREADS; i++) {
        EXPECT(pthread_join(threads[i], NULL) == 0);
        EXPECT(failures[i] == 0);
    }
}

static void* tear_down(void* result)
{
    *(HRESULT*)result = HdvTeardownDeviceHost(shared_host);
    return NULL;
}

CHECK(hdv_teardown_device_host_on_many_threads)
{
    for (int round = 0; round < 20; round++) {
        pthread_t threads[THREADS];
        HRESULT results[THREADS];
        struct device device;
        int done = 0;
        shared_host = open_host();
        device_reset(&device);
        EXPECT_RESULT(device_create(shared_host, &device), S_OK);
        for (int i = 0; i < THREADS; i++) {
            EXPECT(pthread_create(&threads[i], NULL, tear_down, &results[i]) == 0);
        }
        for (int i = 0; i < THREADS; i++) {
            EXPECT(pthread_join(threads[i], NULL) == 0);
            EXPECT(is_one_of(results[i], S_OK, E_HANDLE));
            done += results[i] == S_OK;
        }
        EXPECT(done == 1);
        EXPECT(device.calls[CALL_TEARDOWN] == 1);
    }
}

static void* fail(void* size)
{
    EXPECT_RESULT(HdvTeardownDeviceHost(NULL), E_HANDLE);
    *(size_t*)size = OpenHdvGetLastErrorText(NULL, 0);
    return NULL;
}

CHECK(open_hdv_get_last_error_text_is_of_the_thread)
{
    pthread_t thread;
    size_t other = 0;
    size_t mine = OpenHdvGetLastErrorText(NULL, 0);
    EXPECT(pthread_create(&thread, NULL, fail, &other) == 0);
    EXPECT(pthread_join(thread, NULL) == 0);
    EXPECT(other > 1 && OpenHdvGetLastErrorText(NULL, 0) == mine && mine == 1);
}

/* A thread is where another waits for it to be. */
static atomic_int setting;

static atomic_uint torn_down;

static void tear_down_slowly(struct device* device)
{
    (void)device;
    usleep(300);
    atomic_fetch_add(&torn_down, 1);
}

/* The context is the caller's again after a failure: by then Teardown has come, if it was due, and ended. */
static void* create_until_closed(void* failures)
{
    HRESULT result;
    do {
        struct device device;
        GUID instance = { 0x7eadd000, 1, 0, { 0 } };
        static UINT32 number;
        instance.Data1 += number++;
        device_reset(&device);
        device.hook = tear_down_slowly;
        device.hook_in = CALL_TEARDOWN;
        atomic_store(&torn_down, 0);
        atomic_fetch_add(&setting, 1);
        result = device_create_as(shared_host, &device, &instance);
        if (SUCCEEDED(result)) {
            /* Its host is about to end. */
            while (atomic_load(&torn_down) == 0) {
                sched_yield();
            }
        } else if (atomic_load(&torn_down) != device.calls[CALL_INITIALIZE]) {
            ++*(int*)failures;
        }
    } while (SUCCEEDED(result));
    return NULL;
}

CHECK(hdv_create_device_instance_while_its_host_ends)
{
    for (int round = 0; round < 500; round++) {
        pthread_t thread;
        int failures = 0;
        shared_host = open_host();
        atomic_store(&setting, 0);
        EXPECT(pthread_create(&thread, NULL, create_until_closed, &failures) == 0);
        while (atomic_load(&setting) == 0) {
        }
        for (volatile int spin = 0; spin < round % 50 * 200; spin++) {
        }
        EXPECT_RESULT(HdvTeardownDeviceHost(shared_host), S_OK);
        EXPECT(pthread_join(thread, NULL) == 0);
        EXPECT(failures == 0);
    }
    atomic_store(&setting, 0);
}

enum { LINES = 2000 };

static atomic_int logged;

static void CALLBACK count_line(void* context, OPENHDV_LOG_LEVEL level, const char* message)
{
    (void)level;
    (void)message;
    atomic_fetch_add((atomic_int*)context, 1);
}

/* Waits until another thread has logged much, and a third sets another callback meanwhile. */
static void CALLBACK wait_for_lines(void* context, OPENHDV_LOG_LEVEL level, const char* message)
{
    static atomic_int first = 1;
    (void)context;
    (void)level;
    (void)message;
    if (atomic_exchange(&first, 0)) {
        atomic_store(&setting, 1);
        while (atomic_load(&logged) < LINES) {
            sched_yield();
        }
    }
}

static void* log_lines(void* unused)
{
    while (atomic_load(&setting) == 0) {
        sched_yield();
    }
    for (int i = 0; i < LINES; i++) {
        HcsCloseComputeSystem(NULL);
        atomic_fetch_add(&logged, 1);
        sched_yield();
    }
    return unused;
}

static void* set_callback(void* lines)
{
    while (atomic_load(&setting) == 0) {
        sched_yield();
    }
    EXPECT_RESULT(OpenHdvSetLogCallback(OpenHdvLogLevelWarning, count_line, lines), S_OK);
    /* The one before is done. */
    EXPECT(atomic_load(&logged) == LINES);
    return NULL;
}

CHECK(open_hdv_set_log_callback_while_one_waits)
{
    pthread_t logger;
    pthread_t setter;
    atomic_int lines = 0;
    EXPECT_RESULT(OpenHdvSetLogCallback(OpenHdvLogLevelWarning, wait_for_lines, NULL), S_OK);
    EXPECT(pthread_create(&logger, NULL, log_lines, NULL) == 0);
    EXPECT(pthread_create(&setter, NULL, set_callback, &lines) == 0);
    alarm(60);
    HcsCloseComputeSystem(NULL);
    EXPECT(pthread_join(logger, NULL) == 0 && pthread_join(setter, NULL) == 0);
    alarm(0);
    HcsCloseComputeSystem(NULL);
    EXPECT(atomic_load(&lines) > 0);
    EXPECT_RESULT(OpenHdvSetLogCallback(OpenHdvLogLevelOff, NULL, NULL), S_OK);
}

/* A copy of the parent's hosts is no host: nothing of the parent's is torn down. */
CHECK(hdv_teardown_device_host_in_a_forked_child)
{
    struct device device;
    struct device other;
    int status = 0;
    HDV_HOST host = open_host();
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), S_OK);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        GUID instance = next_instance();
        device_reset(&other);
        int good = HdvTeardownDeviceHost(host) == E_HANDLE && device.calls[CALL_TEARDOWN] == 0
            && device_create_as(host, &other, &instance) == E_HANDLE && other.handle == NULL;
        /* Another program tells: at its own end memcheck would call lost what only threads of the
         * parent, which are not here, know of. */
        const char* answer = good ? "true" : "false";
        execlp(answer, answer, (char*)NULL);
        _exit(127);
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    device_reset(&other);
    EXPECT_RESULT(device_create(host, &other), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(device.calls[CALL_TEARDOWN] == 1 && other.calls[CALL_TEARDOWN] == 1);
}

/* Nor is its physical function the child's, whether the interface was had before or is asked for there. */
CHECK(virtualization_routines_in_a_forked_child)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    PCI_VIRTUALIZATION_INTERFACE before;
    struct pf* pf = new_pf();
    int status = 0;
    HDV_HOST host = open_host();
    EXPECT_RESULT(pf_create(host, pf, &description), S_OK);
    EXPECT_STATUS(query(pf->device.handle, &before), STATUS_SUCCESS);
    EXPECT_STATUS(enable_vfs(&before, 1), STATUS_SUCCESS);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        PCI_VIRTUALIZATION_INTERFACE after;
        UINT8 buses = 1;
        BYTE bytes[4];
        int good = query(pf->device.handle, &after) == STATUS_INVALID_HANDLE
            && query(pf->vfs[0].handle, &after) == STATUS_INVALID_HANDLE
            && disable_vfs(&before) == STATUS_INVALID_DEVICE_STATE
            && before.GetVirtualFunctionData(before.Context, 0, bytes, 0, 4) == 0;
        before.GetResources(before.Context, &buses);
        before.InterfaceReference(before.Context);
        before.InterfaceDereference(before.Context);
        before.InterfaceDereference(before.Context);
        good = good && buses == 0 && pf->vfs[0].order[0] == 0 && pf->supplied == 1;
        const char* answer = good ? "true" : "false";
        execlp(answer, answer, (char*)NULL);
        _exit(127);
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    EXPECT_STATUS(disable_vfs(&before), STATUS_SUCCESS);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(pf->vfs[0].calls[CALL_TEARDOWN] == 1 && pf->device.calls[CALL_TEARDOWN] == 1);
    before.InterfaceDereference(before.Context);
    free_pf(pf);
}

static PCI_VIRTUALIZATION_INTERFACE shared_table;

/* Whatever other threads and the host do: one of the statuses that there can be, and no crash. */
static void* use_interface(void* failures)
{
    const PCI_VIRTUALIZATION_INTERFACE* table = &shared_table;
    int wrong = 0;
    while (atomic_load(&going)) {
        UINT16 segment;
        UINT8 bus;
        UINT8 function;
        UINT8 buses = 1;
        BYTE bytes[4];
        NTSTATUS status;
        ULONG count;
        table->InterfaceReference(table->Context);
        status = enable_vfs(table, 3);
        wrong += status != STATUS_SUCCESS && status != STATUS_INVALID_DEVICE_STATE;
        count = table->GetVirtualFunctionData(table->Context, 1, bytes, 0, 4);
        wrong += count != 0 && (count != 4 || bytes[0] != 0xff);
        count = table->SetVirtualFunctionData(table->Context, 2, bytes, 4, 2);
        wrong += count != 0 && count != 2;
        status = table->GetLocation(table->Context, 0, &segment, &bus, &function);
        wrong += status != STATUS_SUCCESS && status != STATUS_INVALID_DEVICE_STATE;
        table->GetResources(table->Context, &buses);
        wrong += buses != 0;
        status = disable_vfs(table);
        wrong += status != STATUS_SUCCESS && status != STATUS_INVALID_DEVICE_STATE;
        table->InterfaceDereference(table->Context);
        sched_yield();
    }
    *(int*)failures = wrong;
    return NULL;
}

CHECK(virtualization_routines_while_their_host_ends)
{
    for (int round = 0; round < 10; round++) {
        OPENHDV_PHYSICAL_FUNCTION description = pf_description();
        pthread_t threads[THREADS];
        int failures[THREADS];
        struct pf* pf = new_pf();
        shared_host = open_host();
        EXPECT_RESULT(pf_create(shared_host, pf, &description), S_OK);
        EXPECT_STATUS(query(pf->device.handle, &shared_table), STATUS_SUCCESS);
        noting_pf = NULL;
        atomic_store(&going, 1);
        for (int i = 0; i < THREADS; i++) {
            EXPECT(pthread_create(&threads[i], NULL, use_interface, &failures[i]) == 0);
        }
        usleep(20000);
        EXPECT_RESULT(HdvTeardownDeviceHost(shared_host), S_OK);
        EXPECT(pf->device.calls[CALL_TEARDOWN] == 1);
        usleep(1000);
        atomic_store(&going, 0);
        for (int i = 0; i < THREADS; i++) {
            EXPECT(pthread_join(threads[i], NULL) == 0);
            EXPECT(failures[i] == 0);
        }
        for (int vf = 0; vf < 3; vf++) {
            EXPECT(pf->vfs[vf].calls[CALL_TEARDOWN] == (pf->supplied > 0));
        }
        shared_table.InterfaceDereference(shared_table.Context);
        free_pf(pf);
    }
}

/* A context ends once, whoever takes the last reference back. */
static void* take_references(void* table)
{
    const PCI_VIRTUALIZATION_INTERFACE* of = (const PCI_VIRTUALIZATION_INTERFACE*)table;
    for (int i = 0; i < 1000; i++) {
        of->InterfaceReference(of->Context);
        of->InterfaceDereference(of->Context);
    }
    of->InterfaceDereference(of->Context);
    return NULL;
}

CHECK(pinterface_dereference_on_many_threads)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST host = open_host();
    struct pf* pf = new_pf();
    ULONG bars[6];
    EXPECT_RESULT(pf_create(host, pf, &description), S_OK);
    for (int round = 0; round < 20; round++) {
        PCI_VIRTUALIZATION_INTERFACE table;
        pthread_t threads[THREADS];
        EXPECT_STATUS(query(pf->device.handle, &table), STATUS_SUCCESS);
        for (int i = 0; i < THREADS; i++) {
            table.InterfaceReference(table.Context);
        }
        for (int i = 0; i < THREADS; i++) {
            EXPECT(pthread_create(&threads[i], NULL, take_references, &table) == 0);
        }
        for (int i = 0; i < THREADS; i++) {
            EXPECT(pthread_join(threads[i], NULL) == 0);
        }
        EXPECT_STATUS(table.GetVirtualFunctionProbedBars(table.Context, bars), STATUS_SUCCESS);
        table.InterfaceDereference(table.Context);
        EXPECT_STATUS(table.GetVirtualFunctionProbedBars(table.Context, bars),
                      STATUS_INVALID_DEVICE_STATE);
    }
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    free_pf(pf);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    /* First, while this thread has had no failure. */
    RUN(open_hdv_get_last_error_text_is_of_the_thread);
    RUN(device_calls_while_hosts_come_and_go);
    RUN(hdv_create_device_instance_on_many_threads);
    RUN(hdv_teardown_device_host_on_many_threads);
    RUN(hdv_create_device_instance_while_its_host_ends);
    RUN(open_hdv_set_log_callback_while_one_waits);
    RUN(hdv_teardown_device_host_in_a_forked_child);
    RUN(virtualization_routines_in_a_forked_child);
    RUN(virtualization_routines_while_their_host_ends);
    RUN(pinterface_dereference_on_many_threads);
    FINISH();
}
