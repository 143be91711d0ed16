/*
 * Compute systems that run: devices of this program that come and go, pauses, events, operations with callbacks, and what is
 * refused inside callbacks. Their guests stay in the firmware.
 */
#include <semaphore.h>
#include <unistd.h>

#include "compute.h"

/* A device that can be held in a callback: it says that it is there, and goes on when it is told. */
struct held {
    struct device device;
    sem_t inside;
    sem_t go_on;
    HCS_SYSTEM compute_system;
    HRESULT results[4];
};

static void held_make(struct held* held, enum call call, void (*hook)(struct device*))
{
    memset(held, 0, sizeof *held);
    EXPECT(sem_init(&held->inside, 0, 0) == 0 && sem_init(&held->go_on, 0, 0) == 0);
    held->device.hook_in = call;
    held->device.hook = hook;
}

static void hold(struct device* device)
{
    struct held* held = (struct held*)device;
    sem_post(&held->inside);
    while (sem_wait(&held->go_on) != 0) {
    }
}

static void wait_until_inside(struct held* held)
{
    while (sem_wait(&held->inside) != 0) {
    }
}

static HDV_HOST host_of(HCS_SYSTEM compute_system)
{
    HDV_HOST host = NULL;
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &host), S_OK);
    return host;
}

static void start(HCS_SYSTEM compute_system)
{
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, NULL), S_OK);
}

static void end(HCS_SYSTEM compute_system)
{
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    HcsCloseComputeSystem(compute_system);
}

static int has_state(HCS_SYSTEM compute_system, const char* state)
{
    char expected[64];
    snprintf(expected, sizeof expected, "\"State\":\"%s\"", state);
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, NULL), S_OK);
    return strstr(result_document, expected) != NULL;
}

/* Whether a life began like that and ends like this. In between a reset by the guest's firmware is a Stop with a Start after it. */
static int lived(const struct device* device, const char* begin, const char* tail)
{
    size_t length = strlen(device->life);
    int started = 0;
    for (const char* letter = device->life; *letter != 0; letter++) {
        if (*letter == 'S' || *letter == 'P') {
            /* They alternate. */
            EXPECT(started == (*letter == 'P'));
            started = *letter == 'S';
        }
    }
    EXPECT(device->calls[CALL_TEARDOWN] <= 1);
    if (strncmp(device->life, begin, strlen(begin)) != 0 || length < strlen(tail)
        || strcmp(device->life + length - strlen(tail), tail) != 0) {
        printf("the device's life: %s\n", device->life);
        return 0;
    }
    return 1;
}

/* ---- The life of a device. ---- */

CHECK(hcs_start_pause_resume_terminate)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "External"));
    HDV_HOST host = host_of(compute_system);
    struct device device;
    device_reset(&device);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    EXPECT(device.order[0] == 0);
    start(compute_system);
    EXPECT(lived(&device, "ICDS", "S") && has_state(compute_system, "Running"));
    EXPECT(device.value_count == 2 && strcmp(device.values[0], "one") == 0);
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, NULL), HCS_E_INVALID_STATE);
    EXPECT_CALL(HcsResumeComputeSystem(compute_system, operation, NULL), HCS_E_INVALID_STATE);
    EXPECT_CALL(HcsPauseComputeSystem(compute_system, operation, wide("{\"SuspensionLevel\":\"Suspend\"}")), S_OK);
    EXPECT(lived(&device, "ICDS", "P") && has_state(compute_system, "Paused"));
    EXPECT_CALL(HcsPauseComputeSystem(compute_system, operation, NULL), HCS_E_INVALID_STATE);
    EXPECT_CALL(HcsResumeComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT(lived(&device, "ICDS", "S") && has_state(compute_system, "Running"));
    EXPECT_CALL(HcsShutDownComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT(lived(&device, "ICDS", "PT") && has_state(compute_system, "Stopped"));
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, NULL), HCS_E_SYSTEM_ALREADY_STOPPED);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(lived(&device, "ICDS", "PT"));
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_modify_compute_system_add)
{
    GUID instance = next_instance();
    GUID failing = next_instance();
    HCS_SYSTEM compute_system = create_with("");
    HDV_HOST host = host_of(compute_system);
    struct device devices[2];
    start(compute_system);
    /* Nobody has it yet. */
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Add", &instance)), NULL),
                WIN32(NOT_FOUND));
    device_reset(&devices[0]);
    EXPECT_RESULT(device_create_as(host, &devices[0], &instance), S_OK);
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Add", &instance)), NULL), S_OK);
    EXPECT(lived(&devices[0], "ICDS", "S"));
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Add", &instance)), NULL),
                WIN32(ALREADY_EXISTS));
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, NULL), S_OK);
    EXPECT(strstr(result_document, guid_text(&instance)) != NULL);
    EXPECT(strstr(result_document, "\"Attached\"") != NULL);
    /* A device that fails: its own result. */
    for (int call = CALL_INITIALIZE; call <= CALL_START; call += CALL_START - CALL_INITIALIZE) {
        device_reset(&devices[1]);
        devices[1].results[call] = (HRESULT)0x8abc0009u;
        failing = next_instance();
        EXPECT_RESULT(device_create_as(host, &devices[1], &failing), S_OK);
        EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Add", &failing)), NULL),
                    0x8abc0009u);
        EXPECT(lived(&devices[1], call == CALL_START ? "ICDS" : "I", "T"));
    }
    end(compute_system);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(lived(&devices[0], "ICDS", "PT"));
}

CHECK(two_hosts_and_eight_devices_of_one_class)
{
    HCS_SYSTEM compute_system = create_with("");
    HDV_HOST hosts[2] = { host_of(compute_system), host_of(compute_system) };
    struct device devices[8];
    HCS_OPERATION operations[8];
    start(compute_system);
    /* All on their way at once. */
    for (size_t at = 0; at < 8; at++) {
        GUID instance = next_instance();
        device_reset(&devices[at]);
        EXPECT_RESULT(device_create_as(hosts[at % 2], &devices[at], &instance), S_OK);
        operations[at] = HcsCreateOperation(NULL, NULL);
        EXPECT_RESULT(HcsModifyComputeSystem(compute_system, operations[at], wide(request("Add", &instance)), NULL),
                      S_OK);
    }
    for (size_t at = 0; at < 8; at++) {
        EXPECT_RESULT(result_of(operations[at]), S_OK);
        HcsCloseOperation(operations[at]);
        EXPECT(lived(&devices[at], "ICDS", "S"));
    }
    end(compute_system);
    for (size_t at = 0; at < 2; at++) {
        EXPECT_RESULT(HdvTeardownDeviceHost(hosts[at]), S_OK);
    }
}

/* ---- Operations. ---- */

struct told {
    sem_t sem;
    HCS_OPERATION operation;
    HRESULT result;
    HCS_OPERATION_TYPE type;
    HCS_SYSTEM compute_system;
    int close;
    unsigned times;
    char event[512];
    HCS_EVENT_TYPE event_type;
};

static void told_make(struct told* told)
{
    memset(told, 0, sizeof *told);
    EXPECT(sem_init(&told->sem, 0, 0) == 0);
}

static void told_wait(struct told* told)
{
    while (sem_wait(&told->sem) != 0) {
    }
}

static void CALLBACK completed(HCS_OPERATION operation, void* context)
{
    struct told* told = (struct told*)context;
    PWSTR document = NULL;
    told->times++;
    told->operation = operation;
    told->type = HcsGetOperationType(operation);
    told->compute_system = HcsGetComputeSystemFromOperation(operation);
    told->result = HcsGetOperationResult(operation, &document);
    LocalFree(document);
    if (told->close) {
        HcsCloseOperation(operation);
    }
    sem_post(&told->sem);
}

CHECK(hcs_operation_tracks_a_call)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "External"));
    HDV_HOST host = host_of(compute_system);
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    PWSTR document = (PWSTR)(intptr_t)1;
    struct held held;
    held_make(&held, CALL_INITIALIZE, hold);
    EXPECT_RESULT(device_create_as(host, &held.device, &instance), S_OK);
    EXPECT_RESULT(HcsGetOperationResult(operation, &document), HCS_E_OPERATION_NOT_STARTED);
    EXPECT(document == NULL);
    EXPECT_RESULT(HcsWaitForOperationResult(operation, INFINITE, NULL), HCS_E_OPERATION_NOT_STARTED);
    EXPECT(HcsGetOperationType(operation) == HcsOperationTypeNone);
    EXPECT(HcsGetComputeSystemFromOperation(operation) == NULL);
    EXPECT_RESULT(HcsStartComputeSystem(compute_system, operation, NULL), S_OK);
    wait_until_inside(&held);
    EXPECT(HcsGetOperationType(operation) == HcsOperationTypeStart);
    EXPECT(HcsGetComputeSystemFromOperation(operation) == compute_system);
    EXPECT_RESULT(HcsGetOperationResult(operation, NULL), HCS_E_OPERATION_PENDING);
    EXPECT_RESULT(HcsWaitForOperationResult(operation, 20, NULL), HCS_E_OPERATION_TIMEOUT);
    EXPECT_RESULT(HcsPauseComputeSystem(compute_system, operation, NULL), HCS_E_OPERATION_ALREADY_STARTED);
    EXPECT_RESULT(HcsEnumerateComputeSystems(NULL, operation), HCS_E_OPERATION_ALREADY_STARTED);
    /* Properties wait for nothing. */
    EXPECT(has_state(compute_system, "Created"));
    sem_post(&held.go_on);
    EXPECT_RESULT(result_of(operation), S_OK);
    /* And another call. */
    EXPECT_RESULT(HcsPauseComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT_RESULT(result_of(operation), S_OK);
    EXPECT(HcsGetOperationType(operation) == HcsOperationTypePause);
    HcsCloseOperation(operation);
    end(compute_system);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hcs_create_compute_system_pending)
{
    /* Its operation cannot take another call until it has ended. */
    HCS_SYSTEM first = NULL;
    HCS_SYSTEM second = (HCS_SYSTEM)&first;
    GUID instance = next_instance();
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "External"));
    HDV_HOST host = host_of(compute_system);
    struct held held;
    held_make(&held, CALL_INITIALIZE, hold);
    EXPECT_RESULT(device_create_as(host, &held.device, &instance), S_OK);
    EXPECT_RESULT(HcsStartComputeSystem(compute_system, operation, NULL), S_OK);
    wait_until_inside(&held);
    EXPECT_RESULT(HcsCreateComputeSystem(wide("pending"), wide(document_with("")), operation, NULL, &second),
                  HCS_E_OPERATION_ALREADY_STARTED);
    EXPECT(second == NULL);
    EXPECT_RESULT(HcsOpenComputeSystem(wide("pending"), GENERIC_ALL, &first), HCS_E_SYSTEM_NOT_FOUND);
    sem_post(&held.go_on);
    EXPECT_RESULT(result_of(operation), S_OK);
    HcsCloseOperation(operation);
    end(compute_system);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hcs_operation_callback)
{
    HCS_SYSTEM compute_system = NULL;
    struct told told;
    HCS_OPERATION operation;
    told_make(&told);
    operation = HcsCreateOperation(&told, completed);
    EXPECT(HcsGetOperationContext(operation) == &told);
    EXPECT_RESULT(HcsCreateComputeSystem(wide("callback"), wide(document_with("")), operation, NULL,
                                         &compute_system),
                  S_OK);
    told_wait(&told);
    EXPECT(told.operation == operation && told.type == HcsOperationTypeCreate);
    EXPECT(told.compute_system == compute_system);
    EXPECT_RESULT(told.result, S_OK);
    EXPECT_RESULT(HcsPauseComputeSystem(compute_system, operation, NULL), S_OK);
    told_wait(&told);
    EXPECT(told.times == 2 && told.type == HcsOperationTypePause);
    EXPECT_RESULT(told.result, HCS_E_INVALID_STATE);
    HcsCloseOperation(operation);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_close_operation_inside_its_callback)
{
    /* Nobody keeps the operation but its callback. */
    struct told told;
    told_make(&told);
    told.close = 1;
    EXPECT_RESULT(HcsEnumerateComputeSystems(NULL, HcsCreateOperation(&told, completed)), S_OK);
    told_wait(&told);
    EXPECT_RESULT(told.result, S_OK);
    EXPECT_RESULT(HcsGetOperationResult(told.operation, NULL), E_HANDLE);
}

CHECK(hcs_close_operation_while_it_runs)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "External"));
    HDV_HOST host = host_of(compute_system);
    struct held held;
    struct told told;
    HCS_OPERATION operation;
    told_make(&told);
    operation = HcsCreateOperation(&told, completed);
    held_make(&held, CALL_INITIALIZE, hold);
    EXPECT_RESULT(device_create_as(host, &held.device, &instance), S_OK);
    EXPECT_RESULT(HcsStartComputeSystem(compute_system, operation, NULL), S_OK);
    wait_until_inside(&held);
    HcsCloseOperation(operation);
    sem_post(&held.go_on);
    /* The work goes on. */
    while (!has_state(compute_system, "Running")) {
        usleep(1000);
    }
    EXPECT(lived(&held.device, "ICDS", "S"));
    end(compute_system);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(told.times == 0);
}

CHECK(hcs_set_operation_callback)
{
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    struct told told;
    told_make(&told);
    EXPECT_RESULT(HcsSetOperationCallback(operation, &told, completed), S_OK);
    EXPECT(HcsGetOperationContext(operation) == &told);
    EXPECT_RESULT(HcsEnumerateComputeSystems(NULL, operation), S_OK);
    told_wait(&told);
    EXPECT_RESULT(HcsSetOperationCallback(operation, NULL, NULL), S_OK);
    EXPECT_RESULT(HcsEnumerateComputeSystems(NULL, operation), S_OK);
    EXPECT_RESULT(result_of(operation), S_OK);
    HcsCloseOperation(operation);
    EXPECT(told.times == 1);
    EXPECT_RESULT(HcsSetOperationCallback(operation, &told, completed), E_HANDLE);
}

CHECK(hcs_operation_context_and_id)
{
    int context = 0;
    HCS_OPERATION operations[2] = { HcsCreateOperation(&context, NULL), HcsCreateOperation(NULL, NULL) };
    EXPECT(HcsGetOperationContext(operations[0]) == &context && HcsGetOperationContext(operations[1]) == NULL);
    EXPECT_RESULT(HcsSetOperationContext(operations[1], &operations), S_OK);
    EXPECT(HcsGetOperationContext(operations[1]) == &operations);
    EXPECT(HcsGetOperationId(operations[0]) != HcsGetOperationId(operations[1]));
    EXPECT(HcsGetOperationId(operations[0]) != HCS_INVALID_OPERATION_ID);
    for (size_t at = 0; at < 2; at++) {
        HcsCloseOperation(operations[at]);
    }
}

CHECK(hcs_operation_bad_handles)
{
    HCS_SYSTEM directory = open_system();
    HCS_OPERATION closed = HcsCreateOperation(NULL, NULL);
    void* list[4] = { NULL, directory, closed, &closed };
    HcsCloseOperation(closed);
    for (size_t at = 0; at < 4; at++) {
        PWSTR document = (PWSTR)(intptr_t)1;
        EXPECT_RESULT(HcsGetOperationResult(list[at], &document), E_HANDLE);
        EXPECT(document == NULL);
        EXPECT_RESULT(HcsWaitForOperationResult(list[at], 0, NULL), E_HANDLE);
        EXPECT_RESULT(HcsSetOperationContext(list[at], NULL), E_HANDLE);
        EXPECT_RESULT(HcsSetOperationCallback(list[at], NULL, NULL), E_HANDLE);
        EXPECT(HcsGetOperationContext(list[at]) == NULL);
        EXPECT(HcsGetOperationId(list[at]) == HCS_INVALID_OPERATION_ID);
        EXPECT(HcsGetOperationType(list[at]) == HcsOperationTypeNone);
        EXPECT(HcsGetComputeSystemFromOperation(list[at]) == NULL);
        HcsCloseOperation(list[at]);
    }
    HcsCloseComputeSystem(directory);
}

/* ---- Events. ---- */

static void CALLBACK happened(HCS_EVENT* event, void* context)
{
    struct told* told = (struct told*)context;
    told->times++;
    told->event_type = event->Type;
    told->operation = event->Operation;
    told->event[0] = 0;
    if (event->EventData != NULL) {
        size_t at = 0;
        for (; event->EventData[at] != 0 && at + 1 < sizeof told->event; at++) {
            told->event[at] = (char)event->EventData[at];
        }
        told->event[at] = 0;
    }
    if (told->close) {
        HcsCloseComputeSystem(told->compute_system);
    }
    sem_post(&told->sem);
}

CHECK(hcs_set_compute_system_callback_exited)
{
    HCS_SYSTEM compute_system = create_with("");
    struct told told;
    told_make(&told);
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionNone, &told, happened), S_OK);
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionNone, &told, happened),
                  HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET);
    start(compute_system);
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    told_wait(&told);
    EXPECT(told.event_type == HcsEventSystemExited && told.operation == NULL);
    EXPECT(strstr(told.event, "\"ExitType\":\"ForcedExit\"") != NULL);
    EXPECT(strstr(told.event, "\"Status\":-2143878905") != NULL);
    /* Taken back, and set again: an end that was there before is told of. */
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionNone, NULL, NULL), S_OK);
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionNone, &told, happened), S_OK);
    told_wait(&told);
    EXPECT(told.event_type == HcsEventSystemExited);
    HcsCloseComputeSystem(compute_system);
    EXPECT(told.times == 2);
}

CHECK(hcs_set_compute_system_callback_while_it_is_created)
{
    HCS_SYSTEM compute_system = NULL;
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    struct told told;
    told_make(&told);
    EXPECT_RESULT(HcsCreateComputeSystem(wide("early"), wide(document_with("")), operation, NULL,
                                         &compute_system),
                  S_OK);
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionNone, &told, happened), S_OK);
    EXPECT_RESULT(result_of(operation), S_OK);
    EXPECT_RESULT(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    told_wait(&told);
    EXPECT(told.event_type == HcsEventSystemExited);
    EXPECT_RESULT(result_of(operation), S_OK);
    HcsCloseOperation(operation);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_set_compute_system_callback_operations)
{
    HCS_SYSTEM compute_system = create_with("");
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    HCS_OPERATION with_callback;
    struct told told;
    told_make(&told);
    with_callback = HcsCreateOperation(&told, completed);
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionEnableOperationCallbacks, &told,
                                              happened),
                  S_OK);
    EXPECT_RESULT(HcsGetComputeSystemProperties(compute_system, operation, NULL), S_OK);
    told_wait(&told);
    EXPECT(told.event_type == HcsEventOperationCallback && told.operation == operation);
    EXPECT(told.event[0] == 0);
    EXPECT_RESULT(result_of(operation), S_OK);
    EXPECT_RESULT(HcsGetComputeSystemProperties(compute_system, with_callback, NULL),
                  HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET);
    HcsCloseOperation(with_callback);
    HcsCloseOperation(operation);
    HcsCloseComputeSystem(compute_system);
    EXPECT(told.times == 1);
}

CHECK(hcs_set_compute_system_callback_bad_arguments)
{
    HCS_SYSTEM compute_system = create_with("");
    HCS_SYSTEM directory = open_system();
    struct told told;
    told_make(&told);
    EXPECT_RESULT(HcsSetComputeSystemCallback(NULL, HcsEventOptionNone, &told, happened), E_HANDLE);
    EXPECT_RESULT(HcsSetComputeSystemCallback(directory, HcsEventOptionNone, &told, happened), E_INVALIDARG);
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionEnableVmLifecycle, &told, happened),
                  E_INVALIDARG);
    /* That set none. */
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionNone, &told, happened), S_OK);
    HcsCloseComputeSystem(directory);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_close_compute_system_inside_its_callback)
{
    HCS_SYSTEM compute_system = create_with("");
    struct told told;
    told_make(&told);
    told.close = 1;
    told.compute_system = compute_system;
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, NULL), S_OK);
    EXPECT_RESULT(HcsSetComputeSystemCallback(compute_system, HcsEventOptionNone, &told, happened), S_OK);
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    told_wait(&told);
    EXPECT_RESULT(HcsWaitForComputeSystemExit(compute_system, 0, NULL), E_HANDLE);
}

/* ---- Inside callbacks. ---- */

/* What waits for the callback that it is asked for in. */
static void ask_inside(struct device* device)
{
    struct held* held = (struct held*)device;
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    char text[256];
    device->hook = NULL;
    held->results[0] = HcsPauseComputeSystem(held->compute_system, operation, NULL);
    EXPECT(OpenHdvGetLastErrorText(text, sizeof text) > 1 && strstr(text, "inside a callback") != NULL);
    held->results[1] = HcsResumeComputeSystem(held->compute_system, operation, NULL);
    held->results[2] = HcsWaitForComputeSystemExit(held->compute_system, 1, NULL);
    /* What does not wait is answered. */
    EXPECT_RESULT(HcsWaitForComputeSystemExit(held->compute_system, 0, NULL), HCS_E_OPERATION_TIMEOUT);
    EXPECT_CALL(HcsGetComputeSystemProperties(held->compute_system, operation, NULL), S_OK);
    /* What was begun may be looked at, and not waited for. */
    EXPECT_RESULT(HcsTerminateComputeSystem(held->compute_system, operation, NULL), S_OK);
    held->results[3] = HcsWaitForOperationResult(operation, INFINITE, NULL);
    EXPECT(HcsWaitForOperationResult(operation, 0, NULL) == HCS_E_OPERATION_TIMEOUT);
    HcsCloseOperation(operation);
}

CHECK(hcs_calls_inside_a_callback)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "External"));
    HDV_HOST host = host_of(compute_system);
    struct held held;
    PWSTR document = NULL;
    HRESULT paused;
    held_make(&held, CALL_STOP, ask_inside);
    held.compute_system = compute_system;
    EXPECT_RESULT(device_create_as(host, &held.device, &instance), S_OK);
    start(compute_system);
    /* In Stop the processors do not run: nothing that the callback does can wait for a guest. */
    CALL(paused, HcsPauseComputeSystem(compute_system, operation, NULL));
    /* The end that the callback asked for comes while it is paused, or right afterwards. */
    EXPECT(paused == HCS_E_TERMINATED || paused == S_OK);
    for (size_t at = 0; at < 4; at++) {
        EXPECT_RESULT(held.results[at], WIN32(POSSIBLE_DEADLOCK));
    }
    EXPECT_RESULT(HcsWaitForComputeSystemExit(compute_system, INFINITE, &document), S_OK);
    LocalFree(document);
    HcsCloseComputeSystem(compute_system);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(lived(&held.device, "ICDS", "PT"));
}

/* A device that has another one added while it is on its way in itself. */
struct adder {
    struct device device;
    HCS_SYSTEM compute_system;
    GUID other;
    HCS_OPERATION operation;
};

static void add_another(struct device* device)
{
    struct adder* adder = (struct adder*)device;
    EXPECT_RESULT(HcsModifyComputeSystem(adder->compute_system, adder->operation,
                                         wide(request("Add", &adder->other)), NULL),
                  S_OK);
    EXPECT_CALL(HcsGetComputeSystemProperties(adder->compute_system, operation, NULL), S_OK);
}

CHECK(hcs_modify_compute_system_inside_an_add)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with("");
    HDV_HOST host = host_of(compute_system);
    struct adder adder;
    struct device other;
    memset(&adder, 0, sizeof adder);
    device_reset(&other);
    adder.compute_system = compute_system;
    adder.other = next_instance();
    adder.operation = HcsCreateOperation(NULL, NULL);
    adder.device.hook_in = CALL_INITIALIZE;
    adder.device.hook = add_another;
    EXPECT_RESULT(device_create_as(host, &adder.device, &instance), S_OK);
    EXPECT_RESULT(device_create_as(host, &other, &adder.other), S_OK);
    start(compute_system);
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Add", &instance)), NULL), S_OK);
    EXPECT_RESULT(result_of(adder.operation), S_OK);
    EXPECT(lived(&adder.device, "ICDS", "S"));
    EXPECT(lived(&other, "ICDS", "S"));
    HcsCloseOperation(adder.operation);
    end(compute_system);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(hcs_start_pause_resume_terminate);
    RUN(hcs_modify_compute_system_add);
    RUN(two_hosts_and_eight_devices_of_one_class);
    RUN(hcs_operation_tracks_a_call);
    RUN(hcs_create_compute_system_pending);
    RUN(hcs_operation_callback);
    RUN(hcs_close_operation_inside_its_callback);
    RUN(hcs_close_operation_while_it_runs);
    RUN(hcs_set_operation_callback);
    RUN(hcs_operation_context_and_id);
    RUN(hcs_operation_bad_handles);
    RUN(hcs_set_compute_system_callback_exited);
    RUN(hcs_set_compute_system_callback_while_it_is_created);
    RUN(hcs_set_compute_system_callback_operations);
    RUN(hcs_set_compute_system_callback_bad_arguments);
    RUN(hcs_close_compute_system_inside_its_callback);
    RUN(hcs_calls_inside_a_callback);
    RUN(hcs_modify_compute_system_inside_an_add);
    FINISH();
}
