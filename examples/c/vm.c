/*
 * Makes a virtual machine with a device of this program, looks at it through the guest's console, plugs a second device in while it
 * runs, takes the first one out, pauses, resumes and ends it. It boots the guest lab, which `cargo xtask lab` makes.
 */
#include <openhdv.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLASS "0c0d7e55-3b1a-4c6e-9d02-6f1b50e27a33"
#define SETTINGS "{\"EmulatorId\": \"" CLASS "\", \"HostingModel\": \"External\"}"
#define FIRST "5f3c6d1e-0000-4000-8000-000000000c01"
#define SECOND "5f3c6d1e-0000-4000-8000-000000000c02"
#define DEVICE(name, type) \
    "{\"ResourcePath\": \"VirtualMachine/Devices/FlexibleIov/" name "\", \"RequestType\": \"" type "\", \"Settings\": " SETTINGS "}"

/* The devices: a vendor and a device id, and a page that reads as zeroes. The context is a device's name. */
static HRESULT told(void* context, const char* what) { return printf("    %s: %s\n", (char*)context, what) > 0 ? S_OK : E_FAIL; }
static HRESULT CALLBACK initialize(void* context) { return told(context, "Initialize"); }
static void CALLBACK teardown(void* context) { told(context, "Teardown"); }
static HRESULT CALLBACK configure(void* context, UINT32 count, const PCWSTR* values) { return (void)count, (void)values, told(context, "SetConfiguration"); }
static HRESULT CALLBACK start(void* context) { return told(context, "Start"); }
static void CALLBACK stop(void* context) { told(context, "Stop"); }
static HRESULT CALLBACK read_config(void* context, UINT32 offset, UINT32* value) { return (void)context, (void)offset, *value = 0, S_OK; }
static HRESULT CALLBACK write_config(void* context, UINT32 offset, UINT32 value) { return (void)context, (void)offset, (void)value, S_OK; }

static HRESULT CALLBACK get_details(void* context, HDV_PCI_PNP_ID* id, UINT32 count, UINT32* bars)
{
    const HDV_PCI_PNP_ID mine = { 0x4f48, 0x7f02, 1, 0, 0, 0xff, 0x4f48, 1 };
    *id = mine;
    bars[0] = count > 0 ? 0xfffff000 : 0; /* 4 KiB */
    return told(context, "GetDetails");
}

static HRESULT CALLBACK read_bar(void* context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length, BYTE* value)
{
    return (void)context, (void)bar, (void)offset, memset(value, 0, (size_t)length), S_OK;
}

static HRESULT CALLBACK write_bar(void* context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length, const BYTE* value)
{
    return (void)context, (void)bar, (void)offset, (void)length, (void)value, S_OK;
}

static const HDV_PCI_DEVICE_INTERFACE device_interface = {
    HdvPciDeviceInterfaceVersion1, initialize, teardown, configure, get_details, start, stop, read_config, write_config, read_bar, write_bar,
};

/* ASCII as UTF-16; good until two more have been made. */
static PCWSTR wide(const char* text)
{
    static WCHAR buffers[2][4096];
    static unsigned next;
    WCHAR* buffer = buffers[next++ % 2];
    for (size_t at = 0; at < 4096 && (buffer[at] = (WCHAR)text[at]) != 0; at++) {
    }
    return buffer;
}

static void check(const char* what, HRESULT result)
{
    char text[1024];
    OpenHdvGetLastErrorText(text, sizeof text);
    printf("%s: %s\n", what, SUCCEEDED(result) ? "done" : text);
    if (FAILED(result)) {
        exit(1);
    }
}

/* One operation will do: it tracks one call after another. */
static HCS_OPERATION operation;

static void finish(const char* what, HRESULT begun)
{
    check(what, FAILED(begun) ? begun : HcsWaitForOperationResult(operation, INFINITE, NULL));
}

static void create_device(HDV_HOST host, const char* name, const char* instance_text)
{
    GUID class_id, instance;
    HDV_DEVICE device;
    OpenHdvParseGuid(CLASS, &class_id);
    OpenHdvParseGuid(instance_text, &instance);
    check(name, HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &class_id, &instance, &device_interface, (void*)name, &device));
}

/* Types a command, if there is one, and reads the console until it says something. */
static void console_says(int console, const char* command, const char* expected)
{
    static char said[65536];
    size_t length = 0;
    ssize_t more = write(console, command, strlen(command));
    while ((more = read(console, said + length, sizeof said - 1 - length)) > 0) {
        said[length += (size_t)more] = 0;
        if (strstr(said, expected) != NULL) {
            printf("guest: %s\n", expected);
            return;
        }
    }
    check("the console", E_FAIL);
}

#define COUNT(number) /* of our devices, until it is that */ \
    "until [ $(cat /sys/bus/pci/devices/*/device | grep -c 0x7f02) = " #number " ]; do sleep 0.1; done; echo I see $((" #number "))\n"

int main(void)
{
    struct sockaddr_un address;
    char id[32], document[4096];
    HCS_SYSTEM vm = NULL;
    HDV_HOST host = NULL;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    address.sun_family = AF_UNIX;
    snprintf(address.sun_path, sizeof address.sun_path, "/tmp/vm-example-%d.console", (int)getpid());
    snprintf(id, sizeof id, "vm-example-%d", (int)getpid());
    snprintf(document, sizeof document,
             "{\"Owner\": \"vm.c\", \"SchemaVersion\": {\"Major\": 2, \"Minor\": 7}, \"ShouldTerminateOnLastHandleClosed\": true,"
             " \"VirtualMachine\": {\"Chipset\": {\"LinuxKernelDirect\": {\"KernelFilePath\": \"${OPENHDV_LAB}/vmlinuz\","
             " \"InitRdPath\": \"${OPENHDV_LAB}/initrd\", \"KernelCmdLine\": \"console=ttyS0 quiet\"}},"
             " \"ComputeTopology\": {\"Memory\": {\"SizeInMB\": 512}, \"Processor\": {\"Count\": 1}},"
             " \"Devices\": {\"ComPorts\": {\"0\": {\"NamedPipe\": \"%s\"}}, \"FlexibleIov\": {\"" FIRST "\": " SETTINGS "}}}}",
             address.sun_path);

    operation = HcsCreateOperation(NULL, NULL);
    finish("create", HcsCreateComputeSystem(wide(id), wide(document), operation, NULL, &vm));
    check("host devices", HdvInitializeDeviceHost(vm, &host));
    create_device(host, "first device", FIRST);
    create_device(host, "second device", SECOND);
    finish("start", HcsStartComputeSystem(vm, operation, NULL));

    int console = socket(AF_UNIX, SOCK_STREAM, 0);
    check("console", connect(console, (struct sockaddr*)&address, sizeof address) == 0 ? S_OK : E_FAIL);
    console_says(console, "", "# ");
    console_says(console, COUNT(1), "I see 1");
    finish("add the second device", HcsModifyComputeSystem(vm, operation, wide(DEVICE(SECOND, "Add")), NULL));
    console_says(console, COUNT(2), "I see 2");
    finish("remove the first device", HcsModifyComputeSystem(vm, operation, wide(DEVICE(FIRST, "Remove")), NULL));
    console_says(console, COUNT(1), "I see 1");
    finish("paused", HcsPauseComputeSystem(vm, operation, NULL));
    finish("resumed", HcsResumeComputeSystem(vm, operation, NULL));
    console_says(console, COUNT(1), "I see 1");

    finish("terminate", HcsTerminateComputeSystem(vm, operation, NULL));
    check("its end", HcsWaitForComputeSystemExit(vm, INFINITE, NULL));
    check("tear down", HdvTeardownDeviceHost(host));
    close(console);
    HcsCloseComputeSystem(vm);
    HcsCloseOperation(operation);
    return 0;
}
