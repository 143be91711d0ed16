/*
 * Compute systems that do not run: how they are made, found, asked and closed, and what is refused.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "compute.h"

static const GUID some_instance = { 1, 2, 3, { 4, 5, 6, 7, 8, 9, 10, 11 } };

/* What is no compute system, or none that a worker owns. */
static void* not_systems[4];
static void* not_operations[4];

static void make_handles(void)
{
    HCS_SYSTEM closed = open_system();
    HCS_OPERATION closed_operation = HcsCreateOperation(NULL, NULL);
    HcsCloseComputeSystem(closed);
    HcsCloseOperation(closed_operation);
    not_systems[1] = closed;
    not_systems[2] = HcsCreateOperation(NULL, NULL);
    not_systems[3] = &not_systems;
    not_operations[1] = closed_operation;
    not_operations[2] = open_system();
    not_operations[3] = &not_systems;
}

#define EACH(handle, list)                                                                       \
    for (size_t i = 0; i < sizeof(list) / sizeof *(list) && ((handle) = (list)[i], 1); i++)

CHECK(hcs_create_compute_system_success)
{
    HCS_SYSTEM compute_system = NULL;
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    EXPECT_RESULT(HcsCreateComputeSystem(wide("created"), wide(document_with("")), operation, NULL,
                                         &compute_system),
                  S_OK);
    EXPECT(compute_system != NULL && HcsGetComputeSystemFromOperation(operation) == compute_system);
    EXPECT(HcsGetOperationType(operation) == HcsOperationTypeCreate);
    /* Used before it is there: that waits. */
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, NULL), S_OK);
    EXPECT(strstr(result_document, "\"State\":\"Created\"") != NULL);
    EXPECT_RESULT(result_of(operation), S_OK);
    EXPECT(result_document[0] == 0);
    HcsCloseComputeSystem(compute_system);
    EXPECT(HcsGetComputeSystemFromOperation(operation) == NULL);
    HcsCloseOperation(operation);
}

CHECK(hcs_create_compute_system_bad_handles)
{
    void* handle;
    EACH(handle, not_operations)
    {
        HCS_SYSTEM compute_system = (HCS_SYSTEM)&handle;
        EXPECT_RESULT(HcsCreateComputeSystem(wide("x"), wide("{}"), handle, NULL, &compute_system),
                      E_HANDLE);
        EXPECT(compute_system == NULL);
    }
}

CHECK(hcs_create_compute_system_null)
{
    HCS_SYSTEM compute_system = NULL;
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    EXPECT_RESULT(HcsCreateComputeSystem(NULL, wide("{}"), operation, NULL, &compute_system), E_POINTER);
    EXPECT_RESULT(HcsCreateComputeSystem(wide("x"), NULL, operation, NULL, &compute_system), E_POINTER);
    EXPECT_RESULT(HcsCreateComputeSystem(wide("x"), wide("{}"), operation, NULL, NULL), E_POINTER);
    EXPECT_RESULT(HcsGetOperationResult(operation, NULL), HCS_E_OPERATION_NOT_STARTED);
    HcsCloseOperation(operation);
}

CHECK(hcs_create_compute_system_bad_arguments)
{
    HCS_SYSTEM compute_system = NULL;
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    WCHAR lone[] = { 0xd800, 0 };
    const SECURITY_DESCRIPTOR* descriptor = (const SECURITY_DESCRIPTOR*)&lone;
    EXPECT_RESULT(HcsCreateComputeSystem(lone, wide("{}"), operation, NULL, &compute_system),
                  E_INVALIDARG);
    EXPECT_RESULT(HcsCreateComputeSystem(wide("x"), wide("{}"), operation, descriptor, &compute_system),
                  E_INVALIDARG);
    HcsCloseOperation(operation);
    EXPECT_CALL(HcsCreateComputeSystem(wide(""), wide(document_with("")), operation, NULL,
                                       &compute_system),
                E_INVALIDARG);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_create_compute_system_bad_document)
{
    HCS_SYSTEM compute_system = NULL;
    EXPECT_CALL(HcsCreateComputeSystem(wide("bad"), wide(document_with("\"Floppies\":{}")), operation,
                                       NULL, &compute_system),
                HCS_E_INVALID_JSON);
    /* What was wrong, and where: for programs and for people. */
    EXPECT(strstr(result_document, "\"Error\":-2143878899") != NULL);
    EXPECT(strstr(result_document, "Floppies") != NULL);
    /* The handle is one, and says the same. */
    EXPECT(compute_system != NULL);
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, NULL), HCS_E_INVALID_JSON);
    EXPECT(strstr(result_document, "Floppies") != NULL);
    HcsCloseComputeSystem(compute_system);
    EXPECT_CALL(HcsCreateComputeSystem(wide("bad"), wide("no JSON"), operation, NULL, &compute_system),
                HCS_E_INVALID_JSON);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_create_compute_system_already_exists)
{
    HCS_SYSTEM first = NULL;
    HCS_SYSTEM second = NULL;
    EXPECT_CALL(HcsCreateComputeSystem(wide("twice"), wide(document_with("")), operation, NULL, &first),
                S_OK);
    EXPECT_CALL(HcsCreateComputeSystem(wide("twice"), wide(document_with("")), operation, NULL, &second),
                HCS_E_SYSTEM_ALREADY_EXISTS);
    HcsCloseComputeSystem(second);
    HcsCloseComputeSystem(first);
}

CHECK(hcs_open_compute_system_success)
{
    HCS_SYSTEM created = NULL;
    HCS_SYSTEM opened = NULL;
    EXPECT_CALL(HcsCreateComputeSystem(wide("opened"), wide(document_with("")), operation, NULL,
                                       &created),
                S_OK);
    EXPECT_RESULT(HcsOpenComputeSystem(wide("opened"), GENERIC_ALL, &opened), S_OK);
    EXPECT(opened != NULL && opened != created);
    HcsCloseComputeSystem(created);
    /* It is the last one now, and keeps the compute system. */
    EXPECT_CALL(HcsGetComputeSystemProperties(opened, operation, NULL), S_OK);
    EXPECT(strstr(result_document, "\"Id\":\"opened\"") != NULL);
    HcsCloseComputeSystem(opened);
}

CHECK(hcs_open_compute_system_not_found)
{
    HCS_SYSTEM opened = (HCS_SYSTEM)&not_systems;
    EXPECT_RESULT(HcsOpenComputeSystem(wide("nowhere"), GENERIC_ALL, &opened), HCS_E_SYSTEM_NOT_FOUND);
    EXPECT(opened == NULL);
}

CHECK(hcs_open_compute_system_bad_arguments)
{
    HCS_SYSTEM opened = NULL;
    EXPECT_RESULT(HcsOpenComputeSystem(wide("x"), 1, &opened), E_INVALIDARG);
    EXPECT_RESULT(HcsOpenComputeSystem(NULL, GENERIC_ALL, &opened), E_POINTER);
    EXPECT_RESULT(HcsOpenComputeSystem(wide("x"), GENERIC_ALL, NULL), E_POINTER);
}

CHECK(hcs_get_compute_system_properties_success)
{
    HCS_SYSTEM compute_system = create_with(devices_with(&some_instance, "External"));
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, NULL), S_OK);
    EXPECT(strstr(result_document, "\"Owner\":\"checks\"") != NULL);
    EXPECT(strstr(result_document, "\"SystemType\":\"VirtualMachine\"") != NULL);
    EXPECT(strstr(result_document, "\"State\":\"Created\"") != NULL);
    EXPECT(strstr(result_document, "\"SizeInMB\":64") != NULL);
    EXPECT(strstr(result_document, "\"RuntimeId\":\"") != NULL);
    EXPECT(strstr(result_document, guid_text(&some_instance)) != NULL);
    EXPECT_CALL(HcsGetComputeSystemProperties(
                    compute_system, operation,
                    wide("{\"PropertyTypes\":[\"Memory\",\"TerminateOnLastHandleClosed\"]}")),
                S_OK);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_get_compute_system_properties_bad_query)
{
    HCS_SYSTEM compute_system = create_with("");
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, wide("{\"Types\":[]}")),
                HCS_E_INVALID_JSON);
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation,
                                              wide("{\"PropertyTypes\":[\"Statistics\"]}")),
                E_NOTIMPL);
    EXPECT_CALL(HcsGetComputeSystemProperties(compute_system, operation, wide("{\"Queries\":{}}")),
                E_NOTIMPL);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_enumerate_compute_systems_success)
{
    HCS_SYSTEM first = NULL;
    HCS_SYSTEM second = NULL;
    EXPECT_CALL(HcsCreateComputeSystem(wide("one"), wide(document_with("")), operation, NULL, &first), S_OK);
    EXPECT_CALL(HcsCreateComputeSystem(wide("two"), wide(document_with("")), operation, NULL, &second), S_OK);
    EXPECT_CALL(HcsEnumerateComputeSystems(NULL, operation), S_OK);
    EXPECT(strstr(result_document, "\"Id\":\"one\"") != NULL);
    EXPECT(strstr(result_document, "\"Id\":\"two\"") != NULL);
    EXPECT(strstr(result_document, "\"Owner\":\"checks\"") != NULL);
    EXPECT_CALL(HcsEnumerateComputeSystems(wide("{\"Ids\":[\"two\",\"three\"],\"Owners\":[\"checks\"],"
                                                "\"Types\":[\"VirtualMachine\"]}"),
                                           operation),
                S_OK);
    EXPECT(strstr(result_document, "\"Id\":\"one\"") == NULL);
    EXPECT(strstr(result_document, "\"Id\":\"two\"") != NULL);
    EXPECT_CALL(HcsEnumerateComputeSystems(wide("{\"Owners\":[\"nobody\"]}"), operation), S_OK);
    EXPECT(strcmp(result_document, "[]") == 0);
    EXPECT_CALL(HcsEnumerateComputeSystems(wide("{\"Types\":[\"Container\"]}"), operation), S_OK);
    EXPECT(strcmp(result_document, "[]") == 0);
    EXPECT_CALL(HcsEnumerateComputeSystems(wide("{\"Names\":[\"one\"]}"), operation), S_OK);
    EXPECT(strcmp(result_document, "[]") == 0);
    HcsCloseComputeSystem(first);
    HcsCloseComputeSystem(second);
}

CHECK(hcs_enumerate_compute_systems_bad_arguments)
{
    void* handle;
    EACH(handle, not_operations)
    {
        EXPECT_RESULT(HcsEnumerateComputeSystems(NULL, handle), E_HANDLE);
    }
    EXPECT_CALL(HcsEnumerateComputeSystems(wide("{\"Id\":\"one\"}"), operation), HCS_E_INVALID_JSON);
}

/* Every function that takes a compute system and an operation. */
typedef HRESULT(WINAPI* system_call)(HCS_SYSTEM, HCS_OPERATION, PCWSTR);

static HRESULT WINAPI modify(HCS_SYSTEM compute_system, HCS_OPERATION operation, PCWSTR text)
{
    return HcsModifyComputeSystem(compute_system, operation, text, NULL);
}

static const system_call system_calls[] = {
    HcsStartComputeSystem,  HcsShutDownComputeSystem,      HcsTerminateComputeSystem, HcsPauseComputeSystem,
    HcsResumeComputeSystem, HcsGetComputeSystemProperties, modify,
};

CHECK(hcs_calls_bad_system)
{
    HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);
    for (size_t at = 0; at < sizeof system_calls / sizeof *system_calls; at++) {
        PCWSTR text = system_calls[at] == modify ? wide("{}") : NULL;
        HCS_SYSTEM directory = open_system();
        void* handle;
        EACH(handle, not_systems)
        {
            EXPECT_RESULT(system_calls[at](handle, operation, text), E_HANDLE);
        }
        EXPECT_RESULT(system_calls[at](directory, operation, text), E_INVALIDARG);
        HcsCloseComputeSystem(directory);
    }
    EXPECT_RESULT(HcsGetOperationResult(operation, NULL), HCS_E_OPERATION_NOT_STARTED);
    HcsCloseOperation(operation);
}

CHECK(hcs_calls_bad_operation)
{
    HCS_SYSTEM compute_system = create_with("");
    for (size_t at = 0; at < sizeof system_calls / sizeof *system_calls; at++) {
        PCWSTR text = system_calls[at] == modify ? wide("{}") : NULL;
        void* handle;
        EACH(handle, not_operations)
        {
            EXPECT_RESULT(system_calls[at](compute_system, handle, text), E_HANDLE);
        }
    }
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_calls_reserved_options)
{
    HCS_SYSTEM compute_system = create_with("");
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, wide("{}")), E_INVALIDARG);
    EXPECT_CALL(HcsShutDownComputeSystem(compute_system, operation, wide("{}")), E_INVALIDARG);
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, wide("{}")), E_INVALIDARG);
    EXPECT_CALL(HcsResumeComputeSystem(compute_system, operation, wide("{}")), E_INVALIDARG);
    EXPECT_CALL(HcsPauseComputeSystem(compute_system, operation, wide("{\"Level\":1}")), HCS_E_INVALID_JSON);
    EXPECT_CALL(HcsPauseComputeSystem(compute_system, operation, wide("{\"SuspensionLevel\":\"MemoryLow\"}")),
                E_NOTIMPL);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_calls_wrong_state)
{
    /* Created, and not started. */
    HCS_SYSTEM compute_system = create_with("");
    EXPECT_CALL(HcsPauseComputeSystem(compute_system, operation, NULL), HCS_E_INVALID_STATE);
    EXPECT_CALL(HcsResumeComputeSystem(compute_system, operation, NULL), HCS_E_INVALID_STATE);
    EXPECT_CALL(HcsShutDownComputeSystem(compute_system, operation, NULL), HCS_E_INVALID_STATE);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_calls_already_stopped)
{
    HCS_SYSTEM compute_system = create_with("");
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), HCS_E_SYSTEM_ALREADY_STOPPED);
    EXPECT_CALL(HcsShutDownComputeSystem(compute_system, operation, NULL), HCS_E_SYSTEM_ALREADY_STOPPED);
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, NULL), HCS_E_SYSTEM_ALREADY_STOPPED);
    EXPECT_CALL(HcsPauseComputeSystem(compute_system, operation, NULL), HCS_E_SYSTEM_ALREADY_STOPPED);
    EXPECT_CALL(HcsResumeComputeSystem(compute_system, operation, NULL), HCS_E_SYSTEM_ALREADY_STOPPED);
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Add", &some_instance)), NULL),
                HCS_E_SYSTEM_ALREADY_STOPPED);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_modify_compute_system_bad_arguments)
{
    HCS_SYSTEM compute_system = create_with("");
    HCS_OPERATION unused = HcsCreateOperation(NULL, NULL);
    EXPECT_RESULT(HcsModifyComputeSystem(compute_system, unused, NULL, NULL), E_POINTER);
    EXPECT_RESULT(HcsModifyComputeSystem(compute_system, unused, wide("{}"), (HANDLE)(intptr_t)5), E_INVALIDARG);
    HcsCloseOperation(unused);
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide("{}"), NULL), HCS_E_INVALID_JSON);
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation,
                                       wide("{\"ResourcePath\":\"VirtualMachine/Gpu\",\"RequestType\":\"Add\"}"),
                                       NULL),
                HCS_E_INVALID_JSON);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_modify_compute_system_before_the_start)
{
    HCS_SYSTEM compute_system = create_with(devices_with(&some_instance, "External"));
    GUID other = next_instance();
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Add", &some_instance)), NULL),
                WIN32(ALREADY_EXISTS));
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Remove", &other)), NULL),
                WIN32(NOT_FOUND));
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Remove", &some_instance)), NULL),
                S_OK);
    EXPECT_CALL(HcsModifyComputeSystem(compute_system, operation, wide(request("Remove", &some_instance)), NULL),
                WIN32(NOT_FOUND));
    HcsCloseComputeSystem(compute_system);
}

static HCS_SYSTEM being_started;

static void add_during_the_start(struct device* device)
{
    HCS_OPERATION addition = HcsCreateOperation(NULL, NULL);
    GUID other = next_instance();
    (void)device;
    EXPECT_RESULT(HcsModifyComputeSystem(being_started, addition, wide(request("Add", &other)), NULL), S_OK);
    EXPECT_RESULT(HcsWaitForOperationResult(addition, INFINITE, NULL), HCS_E_INVALID_STATE);
    HcsCloseOperation(addition);
}

CHECK(hcs_modify_compute_system_during_the_start)
{
    GUID instance = next_instance();
    struct device device;
    HDV_HOST host = NULL;
    being_started = create_with(devices_with(&instance, "External"));
    device_reset(&device);
    device.hook_in = CALL_INITIALIZE;
    device.hook = add_during_the_start;
    device.results[CALL_GET_DETAILS] = E_FAIL;
    EXPECT_RESULT(HdvInitializeDeviceHost(being_started, &host), S_OK);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    EXPECT_CALL(HcsStartComputeSystem(being_started, operation, NULL), E_FAIL);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    HcsCloseComputeSystem(being_started);
}

CHECK(hcs_start_compute_system_device_fails)
{
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = create_with(devices_with(&instance, "External"));
    struct device device;
    HDV_HOST host = NULL;
    device_reset(&device);
    device.results[CALL_GET_DETAILS] = (HRESULT)0x8abc0007u;
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &host), S_OK);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    EXPECT(device.order[0] == 0);
    EXPECT_CALL(HcsStartComputeSystem(compute_system, operation, NULL), 0x8abc0007u);
    EXPECT(strncmp(device.order, "ICD", 3) == 0);
    EXPECT(device.value_count == 2 && strcmp(device.values[1], "two") == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(strcmp(device.order, "ICDT") == 0);
    HcsCloseComputeSystem(compute_system);
}

CHECK(open_hdv_set_configuration_of_a_vm)
{
    HCS_SYSTEM compute_system = create_with("");
    EXPECT_RESULT(OpenHdvSetConfiguration(compute_system, &some_instance, 0, NULL), E_INVALIDARG);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_get_service_properties_success)
{
    PWSTR document = NULL;
    EXPECT_RESULT(HcsGetServiceProperties(NULL, &document), S_OK);
    EXPECT(strcmp(taken(document), "{\"Properties\":[{\"SupportedSchemaVersions\":[{\"Major\":2,\"Minor\":7}]}]}") == 0);
    EXPECT_RESULT(HcsGetServiceProperties(wide("{\"PropertyTypes\":[\"Basic\"]}"), &document), S_OK);
    EXPECT(strstr(taken(document), "SupportedSchemaVersions") != NULL);
}

CHECK(hcs_get_service_properties_bad_arguments)
{
    PWSTR document = NULL;
    EXPECT_RESULT(HcsGetServiceProperties(NULL, NULL), E_POINTER);
    EXPECT_RESULT(HcsGetServiceProperties(wide("{\"Kinds\":[]}"), &document), HCS_E_INVALID_JSON);
    EXPECT(strstr(taken(document), "\"ErrorMessage\":\"") != NULL);
    EXPECT_RESULT(HcsGetServiceProperties(wide("{\"PropertyTypes\":[\"CpuGroup\"]}"), &document), E_NOTIMPL);
    EXPECT(strstr(taken(document), "CpuGroup") != NULL);
}

typedef HRESULT(WINAPI* vm_access)(PCWSTR, PCWSTR);
typedef HRESULT(WINAPI* group_access)(PCWSTR);

CHECK(hcs_vm_access)
{
    static const vm_access of_vm[] = { HcsGrantVmAccess, HcsRevokeVmAccess };
    static const group_access of_group[] = { HcsGrantVmGroupAccess, HcsRevokeVmGroupAccess };
    char path[4096];
    snprintf(path, sizeof path, "%s/no such file", check_directory);
    for (size_t at = 0; at < 2; at++) {
        EXPECT_RESULT(of_vm[at](wide("any"), wide("/proc/self/exe")), S_OK);
        EXPECT_RESULT(of_vm[at](wide("any"), wide(path)), WIN32(FILE_NOT_FOUND));
        EXPECT_RESULT(of_vm[at](NULL, wide("/proc/self/exe")), E_POINTER);
        EXPECT_RESULT(of_vm[at](wide("any"), NULL), E_POINTER);
        EXPECT_RESULT(of_group[at](wide("/proc/self/exe")), S_OK);
        EXPECT_RESULT(of_group[at](wide(path)), WIN32(FILE_NOT_FOUND));
        EXPECT_RESULT(of_group[at](NULL), E_POINTER);
    }
}

CHECK(hcs_wait_for_compute_system_exit)
{
    HCS_SYSTEM compute_system = create_with("");
    HCS_SYSTEM directory = open_system();
    PWSTR document = (PWSTR)(intptr_t)1;
    void* handle;
    EACH(handle, not_systems)
    {
        EXPECT_RESULT(HcsWaitForComputeSystemExit(handle, 0, NULL), E_HANDLE);
    }
    EXPECT_RESULT(HcsWaitForComputeSystemExit(directory, 0, NULL), E_INVALIDARG);
    for (DWORD limit = 0; limit < 20; limit += 10) {
        EXPECT_RESULT(HcsWaitForComputeSystemExit(compute_system, limit, &document), HCS_E_OPERATION_TIMEOUT);
        EXPECT(document == NULL);
    }
    EXPECT_CALL(HcsTerminateComputeSystem(compute_system, operation, NULL), S_OK);
    EXPECT_RESULT(HcsWaitForComputeSystemExit(compute_system, INFINITE, &document), S_OK);
    EXPECT(strstr(taken(document), "\"ExitType\":\"ForcedExit\"") != NULL);
    EXPECT_RESULT(HcsWaitForComputeSystemExit(compute_system, 0, NULL), S_OK);
    HcsCloseComputeSystem(directory);
    HcsCloseComputeSystem(compute_system);
}

CHECK(local_free_of_null)
{
    EXPECT(LocalFree(NULL) == NULL);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    make_handles();
    RUN(hcs_create_compute_system_success);
    RUN(hcs_create_compute_system_bad_handles);
    RUN(hcs_create_compute_system_null);
    RUN(hcs_create_compute_system_bad_arguments);
    RUN(hcs_create_compute_system_bad_document);
    RUN(hcs_create_compute_system_already_exists);
    RUN(hcs_open_compute_system_success);
    RUN(hcs_open_compute_system_not_found);
    RUN(hcs_open_compute_system_bad_arguments);
    RUN(hcs_get_compute_system_properties_success);
    RUN(hcs_get_compute_system_properties_bad_query);
    RUN(hcs_enumerate_compute_systems_success);
    RUN(hcs_enumerate_compute_systems_bad_arguments);
    RUN(hcs_calls_bad_system);
    RUN(hcs_calls_bad_operation);
    RUN(hcs_calls_reserved_options);
    RUN(hcs_calls_wrong_state);
    RUN(hcs_calls_already_stopped);
    RUN(hcs_modify_compute_system_bad_arguments);
    RUN(hcs_modify_compute_system_before_the_start);
    RUN(hcs_modify_compute_system_during_the_start);
    RUN(hcs_start_compute_system_device_fails);
    RUN(open_hdv_set_configuration_of_a_vm);
    RUN(hcs_get_service_properties_success);
    RUN(hcs_get_service_properties_bad_arguments);
    RUN(hcs_vm_access);
    RUN(hcs_wait_for_compute_system_exit);
    RUN(local_free_of_null);
    HcsCloseOperation((HCS_OPERATION)not_systems[2]);
    HcsCloseComputeSystem((HCS_SYSTEM)not_operations[2]);
    FINISH();
}
