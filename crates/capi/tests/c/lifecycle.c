/*
 * Hosts and devices on a directory of sockets, before any virtual machine connects.
 */
#include "device.h"

static void note_handle(struct device* device)
{
    /* Set before the callback: the device may be used inside it. */
    device->hook_result = device->handle == NULL
        ? E_FAIL
        : HdvUnregisterDoorbell(device->handle, HDV_PCI_BAR0, 0, 0, 0);
}

CHECK(hdv_initialize_device_host_success)
{
    HDV_HOST host = open_host();
    EXPECT(host != NULL);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hdv_initialize_device_host_ex_success)
{
    HCS_SYSTEM compute_system = open_system();
    HDV_HOST plain = NULL;
    HDV_HOST secured = NULL;
    EXPECT_RESULT(HdvInitializeDeviceHostEx(compute_system, HdvDeviceHostFlagNone, &plain), S_OK);
    EXPECT_RESULT(HdvInitializeDeviceHostEx(compute_system, HdvDeviceHostFlagInitializeComSecurity,
                                            &secured),
                  S_OK);
    EXPECT(plain != NULL && secured != NULL && plain != secured);
    EXPECT_RESULT(HdvTeardownDeviceHost(plain), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(secured), S_OK);
    HcsCloseComputeSystem(compute_system);
}

CHECK(hcs_close_compute_system_keeps_hosts)
{
    struct device device;
    HCS_SYSTEM compute_system = open_system();
    HDV_HOST host = NULL;
    HDV_HOST none = NULL;
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &host), S_OK);
    HcsCloseComputeSystem(compute_system);
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &none), E_HANDLE);
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hdv_teardown_device_host_twice)
{
    HDV_HOST host = open_host();
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), E_HANDLE);
}

CHECK(hdv_teardown_device_host_tears_down_devices)
{
    struct device devices[3];
    HDV_HOST host = open_host();
    for (int i = 0; i < 3; i++) {
        device_reset(&devices[i]);
        EXPECT_RESULT(device_create(host, &devices[i]), S_OK);
    }
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    for (int i = 0; i < 3; i++) {
        EXPECT(strcmp(devices[i].order, "ICDT") == 0);
        EXPECT_RESULT(HdvUnregisterDoorbell(devices[i].handle, HDV_PCI_BAR0, 0, 0, 0), E_HANDLE);
    }
}

CHECK(hdv_teardown_device_host_removes_sockets)
{
    char path[4096];
    char text[OPENHDV_GUID_TEXT_SIZE];
    struct device device;
    FILE* file;
    GUID instance = next_instance();
    HDV_HOST host = open_host();
    device_reset(&device);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    EXPECT_RESULT(OpenHdvFormatGuid(&instance, text), S_OK);
    snprintf(path, sizeof path, "%s/%s.sock", check_directory, text);
    /* A socket cannot be opened, and not being there is another error. */
    EXPECT(rename(path, path) == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    file = fopen(path, "r");
    EXPECT(file == NULL && rename(path, path) != 0);
}

static void tear_down(struct device* device)
{
    device->hook_result = HdvTeardownDeviceHost(device->host);
}

CHECK(hdv_teardown_device_host_inside_callback)
{
    const enum call calls[] = { CALL_INITIALIZE, CALL_SET_CONFIGURATION, CALL_GET_DETAILS,
                                CALL_TEARDOWN };
    for (int i = 0; i < 4; i++) {
        struct device device;
        HDV_HOST host = open_host();
        device_reset(&device);
        device.hook = tear_down;
        device.hook_in = calls[i];
        EXPECT_RESULT(device_create(host, &device), S_OK);
        EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
        /* In Teardown the host's handle has ended already. */
        EXPECT_RESULT(device.hook_result,
                      calls[i] == CALL_TEARDOWN ? E_HANDLE : WIN32(POSSIBLE_DEADLOCK));
        EXPECT(device.calls[CALL_TEARDOWN] == 1);
    }
}

static void tear_down_another(struct device* device)
{
    HDV_HOST other = open_host();
    device->hook_result = HdvTeardownDeviceHost(other);
}

CHECK(hdv_teardown_device_host_of_another_inside_callback)
{
    struct device device;
    HDV_HOST host = open_host();
    device_reset(&device);
    device.hook = tear_down_another;
    device.hook_in = CALL_INITIALIZE;
    device.hook_result = E_FAIL;
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_RESULT(device.hook_result, S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hdv_create_device_instance_success)
{
    struct device device;
    HDV_HOST host = open_host();
    device_reset(&device);
    device.hook = note_handle;
    device.hook_in = CALL_INITIALIZE;
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT(device.handle != NULL);
    EXPECT(strcmp(device.order, "ICD") == 0);
    EXPECT_RESULT(device.hook_result, WIN32(NOT_FOUND));
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(strcmp(device.order, "ICDT") == 0);
}

CHECK(hdv_create_device_instance_copies_the_table)
{
    struct device device;
    HDV_PCI_DEVICE_INTERFACE interface = device_interface;
    GUID instance = next_instance();
    HDV_HOST host = open_host();
    device_reset(&device);
    EXPECT_RESULT(HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &device_class, &instance,
                                          &interface, &device, &device.handle),
                  S_OK);
    memset(&interface, 0xff, sizeof interface);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(device.calls[CALL_TEARDOWN] == 1);
}

static unsigned null_contexts;

static HRESULT CALLBACK refuse_null_context(void* context)
{
    null_contexts += context == NULL;
    return E_ABORT;
}

static void CALLBACK tear_down_null_context(void* context)
{
    null_contexts += context == NULL;
}

CHECK(hdv_create_device_instance_null_context)
{
    HDV_PCI_DEVICE_INTERFACE interface = device_interface;
    GUID instance = next_instance();
    HDV_DEVICE handle = NULL;
    HDV_HOST host = open_host();
    interface.Initialize = refuse_null_context;
    interface.Teardown = tear_down_null_context;
    EXPECT_RESULT(HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &device_class, &instance,
                                          &interface, NULL, &handle),
                  E_ABORT);
    EXPECT(null_contexts == 2);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hdv_create_device_instance_already_exists)
{
    struct device first;
    struct device second;
    GUID instance = next_instance();
    HDV_HOST host = open_host();
    HDV_HOST other_host = open_host();
    device_reset(&first);
    EXPECT_RESULT(device_create_as(host, &first, &instance), S_OK);
    device_reset(&second);
    EXPECT_RESULT(device_create_as(host, &second, &instance), WIN32(ALREADY_EXISTS));
    EXPECT(second.handle == NULL && second.order[0] == 0);
    /* On another host of the same system too. */
    EXPECT_RESULT(device_create_as(other_host, &second, &instance), WIN32(ALREADY_EXISTS));
    EXPECT(second.handle == NULL && second.order[0] == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    /* It is free again. */
    EXPECT_RESULT(device_create_as(other_host, &second, &instance), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(other_host), S_OK);
    EXPECT(first.calls[CALL_TEARDOWN] == 1 && second.calls[CALL_TEARDOWN] == 1);
}

CHECK(hdv_create_device_instance_callback_fails)
{
    const enum call calls[] = { CALL_INITIALIZE, CALL_SET_CONFIGURATION, CALL_GET_DETAILS };
    const char* orders[] = { "IT", "ICT", "ICDT" };
    HDV_HOST host = open_host();
    for (int i = 0; i < 3; i++) {
        char text[512];
        struct device device;
        device_reset(&device);
        device.results[calls[i]] = (HRESULT)0x8abc0001u + i;
        EXPECT_RESULT(device_create(host, &device), (HRESULT)0x8abc0001u + i);
        EXPECT(device.handle == NULL);
        EXPECT(strcmp(device.order, orders[i]) == 0);
        EXPECT(OpenHdvGetLastErrorText(text, sizeof text) > 1 && strstr(text, "failed") != NULL);
    }
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hdv_create_device_instance_callback_succeeds_with_another_code)
{
    struct device device;
    HDV_HOST host = open_host();
    device_reset(&device);
    device.results[CALL_INITIALIZE] = S_FALSE;
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

static void create_another(struct device* device)
{
    static struct device inner;
    device_reset(&inner);
    device->hook_result = device_create(device->host, &inner);
}

CHECK(hdv_create_device_instance_inside_callback)
{
    struct device device;
    HDV_HOST host = open_host();
    device_reset(&device);
    device.hook = create_another;
    device.hook_in = CALL_INITIALIZE;
    device.hook_result = E_FAIL;
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_RESULT(device.hook_result, S_OK);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
}

CHECK(hdv_pci_device_set_configuration_values)
{
    const PCWSTR values[] = {
#if defined(__SIZEOF_WCHAR_T__) && __SIZEOF_WCHAR_T__ == 2
        L"rate=100", L"", L"last"
#else
        u"rate=100", u"", u"last"
#endif
    };
    struct device device;
    HDV_HOST host = NULL;
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = open_system();
    EXPECT_RESULT(OpenHdvSetConfiguration(compute_system, &instance, 3, values), S_OK);
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &host), S_OK);
    device_reset(&device);
    EXPECT_RESULT(device_create_as(host, &device, &instance), S_OK);
    EXPECT(device.value_count == 3);
    EXPECT(strcmp(device.values[0], "rate=100") == 0);
    EXPECT(strcmp(device.values[1], "") == 0);
    EXPECT(strcmp(device.values[2], "last") == 0);
    /* Not another's. */
    device_reset(&device);
    device.value_count = 7;
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT(device.value_count == 0 && device.calls[CALL_SET_CONFIGURATION] == 1);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    HcsCloseComputeSystem(compute_system);
}

CHECK(two_hosts_and_eight_devices)
{
    struct device devices[8];
    HDV_HOST hosts[2] = { open_host(), open_host() };
    for (int i = 0; i < 8; i++) {
        device_reset(&devices[i]);
        EXPECT_RESULT(device_create(hosts[i % 2], &devices[i]), S_OK);
    }
    EXPECT_RESULT(HdvTeardownDeviceHost(hosts[0]), S_OK);
    for (int i = 0; i < 8; i++) {
        EXPECT(devices[i].calls[CALL_TEARDOWN] == (i % 2 == 0));
        EXPECT_RESULT(HdvUnregisterDoorbell(devices[i].handle, HDV_PCI_BAR0, 0, 0, 0),
                      i % 2 == 0 ? E_HANDLE : WIN32(NOT_FOUND));
    }
    EXPECT_RESULT(HdvTeardownDeviceHost(hosts[1]), S_OK);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(hdv_initialize_device_host_success);
    RUN(hdv_initialize_device_host_ex_success);
    RUN(hcs_close_compute_system_keeps_hosts);
    RUN(hdv_teardown_device_host_twice);
    RUN(hdv_teardown_device_host_tears_down_devices);
    RUN(hdv_teardown_device_host_removes_sockets);
    RUN(hdv_teardown_device_host_inside_callback);
    RUN(hdv_teardown_device_host_of_another_inside_callback);
    RUN(hdv_create_device_instance_success);
    RUN(hdv_create_device_instance_copies_the_table);
    RUN(hdv_create_device_instance_null_context);
    RUN(hdv_create_device_instance_already_exists);
    RUN(hdv_create_device_instance_callback_fails);
    RUN(hdv_create_device_instance_callback_succeeds_with_another_code);
    RUN(hdv_create_device_instance_inside_callback);
    RUN(hdv_pci_device_set_configuration_values);
    RUN(two_hosts_and_eight_devices);
    FINISH();
}
