/*
 * PCI_VIRTUALIZATION_INTERFACE and physical functions, before any virtual machine connects.
 */
#include <dirent.h>
#include <unistd.h>

#include "virtualization.h"

/* A host with one PF, and the interface to its VFs. */
struct bench {
    HDV_HOST host;
    struct pf* pf;
    PCI_VIRTUALIZATION_INTERFACE table;
};

static struct bench open_bench_of(const OPENHDV_PHYSICAL_FUNCTION* description)
{
    struct bench bench;
    memset(&bench, 0, sizeof bench);
    bench.host = open_host();
    bench.pf = new_pf();
    EXPECT_RESULT(pf_create(bench.host, bench.pf, description), S_OK);
    EXPECT_STATUS(query(bench.pf->device.handle, &bench.table), STATUS_SUCCESS);
    return bench;
}

static struct bench open_bench(UINT16 total_vfs)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    description.TotalVFs = total_vfs;
    if (total_vfs > 7) {
        description.SubordinateBus = 0xff;
        description.AriForwarding = TRUE;
    }
    return open_bench_of(&description);
}

static void close_bench(struct bench* bench)
{
    EXPECT_RESULT(HdvTeardownDeviceHost(bench->host), S_OK);
    bench->table.InterfaceDereference(bench->table.Context);
    EXPECT(bench->pf->device.calls[CALL_TEARDOWN] == 1);
    free_pf(bench->pf);
}

/* What a failure left; until the next one. */
static const char* last_text(void)
{
    static char text[512];
    OpenHdvGetLastErrorText(text, sizeof text);
    return text;
}

/* Forgets the text of the last failure, which must be another one. */
static void forget_text(void)
{
    GUID guid;
    EXPECT_RESULT(OpenHdvParseGuid("forgotten", &guid), E_INVALIDARG);
}

#define EXPECT_TEXT(part)                                                                        \
    do {                                                                                         \
        EXPECT(strstr(last_text(), (part)) != NULL);                                             \
        if (check_failed) {                                                                      \
            printf("the text is %s\n", last_text());                                             \
        }                                                                                        \
        forget_text();                                                                           \
    } while (0)

/* ---- The query. ---- */

CHECK(open_hdv_query_pci_virtualization_interface_fills_the_table)
{
    struct bench bench = open_bench(7);
    struct {
        PCI_VIRTUALIZATION_INTERFACE table;
        BYTE behind[16];
    } large;
    PCI_VIRTUALIZATION_INTERFACE older;
    const PCI_VIRTUALIZATION_INTERFACE* table = &bench.table;
    EXPECT(table->Size == 80 && table->Version == 1 && table->Context != NULL);
    EXPECT(table->InterfaceReference != NULL && table->InterfaceDereference != NULL);
    EXPECT(table->SetVirtualFunctionData != NULL && table->GetVirtualFunctionData != NULL);
    EXPECT(table->GetLocation != NULL && table->GetResources != NULL);
    EXPECT(table->EnableVirtualization != NULL && table->GetVirtualFunctionProbedBars != NULL);
    memset(&large, 0x5a, sizeof large);
    EXPECT_STATUS(OpenHdvQueryPciVirtualizationInterface(bench.pf->device.handle,
                                                         &GUID_PCI_VIRTUALIZATION_INTERFACE,
                                                         sizeof large, 1, &large.table),
                  STATUS_SUCCESS);
    EXPECT(large.table.Size == 80 && large.behind[0] == 0x5a && large.behind[15] == 0x5a);
    EXPECT(large.table.Context != table->Context);
    EXPECT_STATUS(OpenHdvQueryPciVirtualizationInterface(bench.pf->device.handle,
                                                         &GUID_PCI_VIRTUALIZATION_INTERFACE,
                                                         sizeof older, 0, &older),
                  STATUS_SUCCESS);
    EXPECT(older.Version == 1);
    large.table.InterfaceDereference(large.table.Context);
    older.InterfaceDereference(older.Context);
    close_bench(&bench);
}

CHECK(open_hdv_query_pci_virtualization_interface_bad_arguments)
{
    const GUID* type = &GUID_PCI_VIRTUALIZATION_INTERFACE;
    struct bench bench = open_bench(7);
    HDV_DEVICE device = bench.pf->device.handle;
    PCI_VIRTUALIZATION_INTERFACE table;
    PCI_VIRTUALIZATION_INTERFACE before;
    GUID other = *type;
    USHORT size = sizeof table;
    other.Data4[7] ^= 1;
    memset(&table, 0x5a, sizeof table);
    before = table;
#define ASK(device, type, size, version, place)                                                  \
    OpenHdvQueryPciVirtualizationInterface(device, type, size, version, place)
    EXPECT_STATUS(ASK(device, NULL, size, 1, &table), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("InterfaceType is null");
    EXPECT_STATUS(ASK(device, type, size, 1, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("Interface is null");
    EXPECT_STATUS(ASK(device, &other, size, 1, &table), STATUS_NOT_SUPPORTED);
    EXPECT_TEXT("64897b47-3a4a-4d75-bc74-89dd6c078292");
    EXPECT_STATUS(ASK(device, type, size, 2, &table), STATUS_NOT_SUPPORTED);
    EXPECT_TEXT("version 2");
    EXPECT_STATUS(ASK(device, type, size, 0xffff, &table), STATUS_NOT_SUPPORTED);
    EXPECT_STATUS(ASK(device, type, 79, 1, &table), STATUS_BUFFER_TOO_SMALL);
    EXPECT_TEXT("Size is 79");
    EXPECT_STATUS(ASK(device, type, 0, 1, &table), STATUS_BUFFER_TOO_SMALL);
    /* In this order. */
    EXPECT_STATUS(ASK(NULL, NULL, 0, 2, &table), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(ASK(NULL, &other, 0, 2, &table), STATUS_INVALID_HANDLE);
    EXPECT_STATUS(ASK(device, &other, 0, 1, &table), STATUS_NOT_SUPPORTED);
    EXPECT_STATUS(ASK(device, type, 0, 2, &table), STATUS_NOT_SUPPORTED);
#undef ASK
    EXPECT(memcmp(&table, &before, sizeof table) == 0);
    close_bench(&bench);
}

CHECK(open_hdv_query_pci_virtualization_interface_bad_device)
{
    struct bench gone = open_bench(7);
    struct bench bench = open_bench(7);
    HDV_DEVICE stale = gone.pf->device.handle;
    PCI_VIRTUALIZATION_INTERFACE table;
    close_bench(&gone);
    noting_pf = bench.pf;
    {
        void* list[] = { NULL,  stale, bench.host,           bench.table.Context,
                         &gone, bench.pf, (void*)(intptr_t)-1, (void*)(intptr_t)1 };
        for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
            memset(&table, 0, sizeof table);
            EXPECT_STATUS(query(list[i], &table), STATUS_INVALID_HANDLE);
            EXPECT_TEXT("not the handle of a device");
            EXPECT(table.Size == 0 && table.Context == NULL);
        }
    }
    close_bench(&bench);
}

CHECK(open_hdv_query_pci_virtualization_interface_at_bad_arguments)
{
    const GUID* type = &GUID_PCI_VIRTUALIZATION_INTERFACE;
    const char* bad[] = { "", "x", "00:00", "00:20.0", "00:00.8", "0000:00:00.0 ", "/sys", "\xff" };
    /* No machine has it: bus 255 of domain 0xfffffffe. */
    const char* nowhere = "fffffffe:ff:1f.7";
    PCI_VIRTUALIZATION_INTERFACE table;
    PCI_VIRTUALIZATION_INTERFACE before;
    GUID other = *type;
    USHORT size = sizeof table;
    other.Data1 ^= 1;
    memset(&table, 0x5a, sizeof table);
    before = table;
#define ASK(address, type, size, version, place)                                                 \
    OpenHdvQueryPciVirtualizationInterfaceAt(address, type, size, version, place)
    EXPECT_STATUS(ASK(NULL, type, size, 1, &table), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("Address is null");
    EXPECT_STATUS(ASK(nowhere, NULL, size, 1, &table), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("InterfaceType is null");
    EXPECT_STATUS(ASK(nowhere, type, size, 1, NULL), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("Interface is null");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        EXPECT_STATUS(ASK(bad[i], type, size, 1, &table), STATUS_INVALID_PARAMETER);
        EXPECT_TEXT("is no PCI address");
    }
    EXPECT_STATUS(ASK(nowhere, &other, size, 1, &table), STATUS_NOT_SUPPORTED);
    EXPECT_TEXT("64897b46-");
    EXPECT_STATUS(ASK(nowhere, type, size, 2, &table), STATUS_NOT_SUPPORTED);
    EXPECT_TEXT("version 2");
    EXPECT_STATUS(ASK(nowhere, type, size - 1, 1, &table), STATUS_BUFFER_TOO_SMALL);
    EXPECT_TEXT("Size is 79");
    EXPECT_STATUS(ASK(nowhere, type, size, 1, &table), STATUS_UNSUCCESSFUL);
    EXPECT_TEXT("fffffffe:ff:1f.7");
#undef ASK
    EXPECT(memcmp(&table, &before, sizeof table) == 0);
}

/* Nothing is changed: every function of this machine is asked, if it shows any. */
CHECK(open_hdv_query_pci_virtualization_interface_at_fills_the_table)
{
    DIR* directory = opendir("/sys/bus/pci/devices");
    struct dirent* entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        PCI_VIRTUALIZATION_INTERFACE table;
        UINT8 buses = 0;
        ULONG bars[6];
        if (entry->d_name[0] == '.') {
            continue;
        }
        memset(&table, 0, sizeof table);
        EXPECT_STATUS(OpenHdvQueryPciVirtualizationInterfaceAt(entry->d_name,
                                                               &GUID_PCI_VIRTUALIZATION_INTERFACE,
                                                               sizeof table, 1, &table),
                      STATUS_SUCCESS);
        if (check_failed) {
            break;
        }
        EXPECT(table.Size == 80 && table.Version == 1 && table.Context != NULL);
        EXPECT_STATUS(table.EnableVirtualization(table.Context, 1, FALSE, FALSE, FALSE),
                      table.GetVirtualFunctionProbedBars(table.Context, bars)
                              == STATUS_INVALID_DEVICE_STATE
                          ? STATUS_INVALID_DEVICE_STATE
                          : STATUS_INVALID_PARAMETER);
        table.GetResources(table.Context, &buses);
        table.InterfaceDereference(table.Context);
        EXPECT_STATUS(table.GetVirtualFunctionProbedBars(table.Context, bars),
                      STATUS_INVALID_DEVICE_STATE);
    }
    if (directory != NULL) {
        closedir(directory);
    }
}

/* ---- References. ---- */

CHECK(pinterface_reference_keeps_the_context)
{
    struct bench bench = open_bench(7);
    PCI_VIRTUALIZATION_INTERFACE table;
    ULONG bars[6];
    EXPECT_STATUS(query(bench.pf->device.handle, &table), STATUS_SUCCESS);
    for (int i = 0; i < 3; i++) {
        table.InterfaceReference(table.Context);
    }
    for (int i = 0; i < 3; i++) {
        table.InterfaceDereference(table.Context);
        EXPECT_STATUS(table.GetVirtualFunctionProbedBars(table.Context, bars), STATUS_SUCCESS);
    }
    table.InterfaceDereference(table.Context);
    EXPECT_STATUS(table.GetVirtualFunctionProbedBars(table.Context, bars),
                  STATUS_INVALID_DEVICE_STATE);
    /* The other one is counted alone. */
    EXPECT_STATUS(bench.table.GetVirtualFunctionProbedBars(bench.table.Context, bars),
                  STATUS_SUCCESS);
    close_bench(&bench);
}

/* Whatever is asked, with right parameters and with wrong ones: as when the device is gone. */
static void expect_nothing(const PCI_VIRTUALIZATION_INTERFACE* table, void* context)
{
    UINT16 segment = 0x5a5a;
    UINT8 bus = 0x5a;
    UINT8 function = 0x5a;
    UINT8 buses = 0x5a;
    ULONG bars[6] = { 1, 2, 3, 4, 5, 6 };
    BYTE bytes[4] = { 1, 2, 3, 4 };
    const BYTE before[4] = { 1, 2, 3, 4 };
    const UINT16 numbers[] = { 0, 1, 8, 0xffff };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        UINT16 number = numbers[i];
        forget_text();
        EXPECT(table->GetVirtualFunctionData(context, number, bytes, 0, 4) == 0);
        EXPECT(strstr(last_text(), "gone") != NULL);
        EXPECT(table->SetVirtualFunctionData(context, number, bytes, 4, 4) == 0);
        EXPECT(table->GetVirtualFunctionData(context, number, NULL, 0, 4) == 0);
        EXPECT_STATUS(table->GetLocation(context, number, &segment, &bus, &function),
                      STATUS_INVALID_DEVICE_STATE);
        EXPECT_STATUS(table->GetLocation(context, number, NULL, NULL, NULL),
                      STATUS_INVALID_DEVICE_STATE);
        for (int flags = 0; flags < 8; flags++) {
            EXPECT_STATUS(table->EnableVirtualization(context, number, flags & 1, flags & 2, flags & 4),
                          STATUS_INVALID_DEVICE_STATE);
        }
    }
    EXPECT_STATUS(table->GetVirtualFunctionProbedBars(context, bars), STATUS_INVALID_DEVICE_STATE);
    EXPECT_STATUS(table->GetVirtualFunctionProbedBars(context, NULL), STATUS_INVALID_DEVICE_STATE);
    EXPECT(strstr(last_text(), "gone") != NULL);
    table->GetResources(context, &buses);
    table->GetResources(context, NULL);
    EXPECT(buses == 0);
    EXPECT(segment == 0x5a5a && bus == 0x5a && function == 0x5a && bars[0] == 1 && bars[5] == 6);
    EXPECT(memcmp(bytes, before, sizeof bytes) == 0);
}

CHECK(pinterface_dereference_ends_the_context)
{
    struct bench bench = open_bench(7);
    PCI_VIRTUALIZATION_INTERFACE table;
    EXPECT_STATUS(query(bench.pf->device.handle, &table), STATUS_SUCCESS);
    table.InterfaceDereference(table.Context);
    expect_nothing(&table, table.Context);
    /* Once too often, and of what is none. */
    table.InterfaceDereference(table.Context);
    table.InterfaceReference(table.Context);
    expect_nothing(&table, table.Context);
    {
        void* list[] = { NULL, bench.host, bench.pf->device.handle, &bench, (void*)(intptr_t)-1 };
        for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
            table.InterfaceReference(list[i]);
            table.InterfaceDereference(list[i]);
            expect_nothing(&table, list[i]);
        }
    }
    close_bench(&bench);
}

CHECK(the_interface_outlives_its_device)
{
    struct bench bench = open_bench(7);
    struct device plain;
    PCI_VIRTUALIZATION_INTERFACE without;
    EXPECT_STATUS(enable_vfs(&bench.table, 2), STATUS_SUCCESS);
    device_reset(&plain);
    EXPECT_RESULT(device_create(bench.host, &plain), S_OK);
    EXPECT_STATUS(query(plain.handle, &without), STATUS_SUCCESS);
    EXPECT_RESULT(HdvTeardownDeviceHost(bench.host), S_OK);
    expect_nothing(&bench.table, bench.table.Context);
    expect_nothing(&without, without.Context);
    bench.table.InterfaceReference(bench.table.Context);
    bench.table.InterfaceDereference(bench.table.Context);
    expect_nothing(&bench.table, bench.table.Context);
    bench.table.InterfaceDereference(bench.table.Context);
    without.InterfaceDereference(without.Context);
    free_pf(bench.pf);
}

/* ---- A device without SR-IOV. ---- */

static void expect_without_sriov(const PCI_VIRTUALIZATION_INTERFACE* table)
{
    UINT16 segment = 0x5a5a;
    UINT8 bus = 0x5a;
    UINT8 function = 0x5a;
    UINT8 buses = 0x5a;
    ULONG bars[6] = { 1, 2, 3, 4, 5, 6 };
    BYTE bytes[4] = { 1, 2, 3, 4 };
    EXPECT(table->GetVirtualFunctionData(table->Context, 0, bytes, 0, 4) == 0 && bytes[0] == 1);
    EXPECT_TEXT("no SR-IOV");
    EXPECT(table->SetVirtualFunctionData(table->Context, 0, bytes, 4, 4) == 0);
    EXPECT_TEXT("no SR-IOV");
    EXPECT_STATUS(table->GetLocation(table->Context, 0, &segment, &bus, &function),
                  STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("there is no VF 0");
    EXPECT_STATUS(table->GetVirtualFunctionProbedBars(table->Context, bars),
                  STATUS_INVALID_DEVICE_STATE);
    EXPECT_TEXT("no SR-IOV");
    EXPECT_STATUS(table->EnableVirtualization(table->Context, 1, FALSE, FALSE, TRUE),
                  STATUS_INVALID_DEVICE_STATE);
    EXPECT_TEXT("no SR-IOV");
    EXPECT_STATUS(disable_vfs(table), STATUS_INVALID_DEVICE_STATE);
    table->GetResources(table->Context, &buses);
    EXPECT(buses == 0 && segment == 0x5a5a && bus == 0x5a && function == 0x5a && bars[0] == 1);
}

CHECK(a_device_without_sriov_has_no_vfs)
{
    PCI_VIRTUALIZATION_INTERFACE table;
    struct device device;
    HDV_HOST host = open_host();
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), S_OK);
    EXPECT_STATUS(query(device.handle, &table), STATUS_SUCCESS);
    expect_without_sriov(&table);
    EXPECT(device.calls[CALL_READ_CONFIG] == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    table.InterfaceDereference(table.Context);
}

CHECK(a_vf_has_no_vfs)
{
    struct bench bench = open_bench(7);
    PCI_VIRTUALIZATION_INTERFACE table;
    EXPECT_STATUS(enable_vfs(&bench.table, 1), STATUS_SUCCESS);
    EXPECT_STATUS(query(bench.pf->vfs[0].handle, &table), STATUS_SUCCESS);
    expect_without_sriov(&table);
    EXPECT(bench.pf->vfs[0].order[0] == 0);
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    expect_nothing(&table, table.Context);
    table.InterfaceDereference(table.Context);
    close_bench(&bench);
}

/* ---- EnableVirtualization. ---- */

CHECK(enable_virtualization_success)
{
    struct bench bench = open_bench(7);
    const PCI_VIRTUALIZATION_INTERFACE* table = &bench.table;
    for (UINT16 count = 1; count <= 7; count++) {
        EXPECT_STATUS(enable_vfs(table, count), STATUS_SUCCESS);
        EXPECT_STATUS(disable_vfs(table), STATUS_SUCCESS);
    }
    EXPECT(bench.pf->supplied == 1 + 2 + 3 + 4 + 5 + 6 + 7);
    EXPECT(bench.pf->torn_down_count == bench.pf->supplied);
    /* Any value but 0. */
    EXPECT_STATUS(table->EnableVirtualization(table->Context, 3, 0, 0, 0x80), STATUS_SUCCESS);
    EXPECT_STATUS(disable_vfs(table), STATUS_SUCCESS);
    close_bench(&bench);
}

/* In either state the parameters come first. */
static void expect_bad_parameters(const PCI_VIRTUALIZATION_INTERFACE* table)
{
    void* context = table->Context;
#define ENABLE table->EnableVirtualization
    EXPECT_STATUS(ENABLE(context, 0, 0, 0, 1), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("1 to 7");
    EXPECT_STATUS(ENABLE(context, 8, 0, 0, 1), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("8 VFs");
    EXPECT_STATUS(ENABLE(context, 0xffff, 0, 0, 1), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(ENABLE(context, 1, 0, 0, 0), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("NumVFs 0, not 1");
    EXPECT_STATUS(ENABLE(context, 8, 0, 0, 0), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(ENABLE(context, 1, 0, 1, 1), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("migration");
    EXPECT_STATUS(ENABLE(context, 0, 0, 0x80, 0), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("migration");
    EXPECT_STATUS(ENABLE(context, 1, 0x80, 0, 1), STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("migration");
    EXPECT_STATUS(ENABLE(context, 1, 1, 1, 1), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(ENABLE(context, 0, 1, 0, 0), STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(ENABLE(context, 0, 1, 1, 0), STATUS_INVALID_PARAMETER);
#undef ENABLE
}

CHECK(enable_virtualization_bad_parameters)
{
    struct bench bench = open_bench(7);
    expect_bad_parameters(&bench.table);
    EXPECT(bench.pf->supplied == 0);
    EXPECT_STATUS(enable_vfs(&bench.table, 2), STATUS_SUCCESS);
    expect_bad_parameters(&bench.table);
    EXPECT(bench.pf->supplied == 2 && bench.pf->torn_down_count == 0);
    close_bench(&bench);
}

CHECK(enable_virtualization_already_so)
{
    struct bench bench = open_bench(7);
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_INVALID_DEVICE_STATE);
    EXPECT_TEXT("disabled already");
    EXPECT_STATUS(enable_vfs(&bench.table, 2), STATUS_SUCCESS);
    EXPECT_STATUS(enable_vfs(&bench.table, 2), STATUS_INVALID_DEVICE_STATE);
    EXPECT_TEXT("2 VFs are enabled already");
    EXPECT_STATUS(enable_vfs(&bench.table, 3), STATUS_INVALID_DEVICE_STATE);
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_INVALID_DEVICE_STATE);
    close_bench(&bench);
}

CHECK(enable_virtualization_256_at_once)
{
    struct bench bench = open_bench(256);
    EXPECT_STATUS(enable_vfs(&bench.table, 256), STATUS_SUCCESS);
    EXPECT(bench.pf->supplied == 256);
    for (int vf = 0; vf < 256; vf++) {
        /* A socket each, and nothing of it was called yet. */
        EXPECT(bench.pf->vfs[vf].order[0] == 0 && bench.pf->vfs[vf].handle != NULL);
        EXPECT_RESULT(HdvUnregisterDoorbell(bench.pf->vfs[vf].handle, HDV_PCI_BAR0, 0, 0, 0),
                      WIN32(NOT_FOUND));
    }
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    EXPECT(bench.pf->torn_down_count == 256);
    for (UINT16 vf = 0; vf < 256; vf++) {
        EXPECT(strcmp(bench.pf->vfs[vf].order, "T") == 0 && bench.pf->torn_down[vf] == vf);
        EXPECT_RESULT(HdvUnregisterDoorbell(bench.pf->vfs[vf].handle, HDV_PCI_BAR0, 0, 0, 0),
                      E_HANDLE);
    }
    close_bench(&bench);
}

/* ---- The life of VFs. ---- */

CHECK(vfs_are_powered_on_at_first_use_and_torn_down_in_order)
{
    struct bench bench = open_bench(7);
    BYTE bytes[4];
    EXPECT_STATUS(enable_vfs(&bench.table, 3), STATUS_SUCCESS);
    EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 1, bytes, 0, 4) == 4);
    EXPECT(strncmp(bench.pf->vfs[1].order, "ICD", 3) == 0);
    EXPECT(bench.pf->vfs[1].calls[CALL_INITIALIZE] == 1 && bench.pf->vfs[1].value_count == 0);
    EXPECT(bench.pf->vfs[0].order[0] == 0 && bench.pf->vfs[2].order[0] == 0);
    EXPECT(bench.table.SetVirtualFunctionData(bench.table.Context, 1, bytes, 0, 4) == 4);
    EXPECT(bench.pf->vfs[1].calls[CALL_INITIALIZE] == 1);
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    EXPECT(bench.pf->torn_down_count == 3);
    for (UINT16 vf = 0; vf < 3; vf++) {
        EXPECT(bench.pf->torn_down[vf] == vf && bench.pf->vfs[vf].calls[CALL_TEARDOWN] == 1);
        EXPECT(bench.pf->vfs[vf].calls[CALL_START] == 0);
    }
    EXPECT(strcmp(bench.pf->vfs[0].order, "T") == 0);
    close_bench(&bench);
}

CHECK(hdv_teardown_device_host_with_vfs)
{
    struct bench bench = open_bench(7);
    struct pf* pf = bench.pf;
    BYTE bytes[4];
    EXPECT_STATUS(enable_vfs(&bench.table, 4), STATUS_SUCCESS);
    EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 2, bytes, 0, 4) == 4);
    EXPECT_RESULT(HdvTeardownDeviceHost(bench.host), S_OK);
    /* No VF outlives its PF. */
    EXPECT(pf->torn_down_count == 5 && pf->torn_down[4] == NO_VF);
    for (UINT16 vf = 0; vf < 4; vf++) {
        EXPECT(pf->torn_down[vf] == vf && pf->vfs[vf].calls[CALL_TEARDOWN] == 1);
        EXPECT_RESULT(HdvDeliverGuestInterrupt(pf->vfs[vf].handle, 1, 1), E_HANDLE);
    }
    EXPECT(pf->device.calls[CALL_TEARDOWN] == 1);
    bench.table.InterfaceDereference(bench.table.Context);
    free_pf(pf);
}

CHECK(the_handle_of_a_vf_lives_from_supply_to_teardown)
{
    struct bench bench = open_bench(7);
    HDV_DEVICE handle;
    HANDLE event = NULL;
    BYTE bytes[4];
    EXPECT_RESULT(OpenHdvCreateEvent(&event), S_OK);
    EXPECT_STATUS(enable_vfs(&bench.table, 1), STATUS_SUCCESS);
    EXPECT_RESULT(bench.pf->early, WIN32(NOT_READY));
    handle = bench.pf->vfs[0].handle;
    EXPECT_RESULT(HdvRegisterDoorbell(handle, HDV_PCI_BAR0, 8, 1, 0, event), S_OK);
    EXPECT_RESULT(HdvRegisterDoorbell(handle, HDV_PCI_BAR0, 8, 1, 0, event), WIN32(ALREADY_EXISTS));
    EXPECT_RESULT(HdvReadGuestMemory(handle, 0, 4, bytes), WIN32(NOT_READY));
    EXPECT_RESULT(HdvDeliverGuestInterrupt(handle, 1, 1), WIN32(NOT_READY));
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    EXPECT_RESULT(HdvUnregisterDoorbell(handle, HDV_PCI_BAR0, 8, 1, 0), E_HANDLE);
    /* The next one is another one. */
    EXPECT_STATUS(enable_vfs(&bench.table, 1), STATUS_SUCCESS);
    EXPECT(bench.pf->vfs[0].handle != handle);
    EXPECT_RESULT(HdvUnregisterDoorbell(handle, HDV_PCI_BAR0, 8, 1, 0), E_HANDLE);
    EXPECT_RESULT(OpenHdvCloseHandle(event), S_OK);
    close_bench(&bench);
}

/* ---- VFs that cannot be. ---- */

CHECK(openhdv_supply_virtual_function_fails)
{
    struct bench bench = open_bench(7);
    const UINT16 failing[] = { 0, 1, 3, 6 };
    for (size_t i = 0; i < sizeof failing / sizeof *failing; i++) {
        UINT16 fail_at = failing[i];
        BYTE bytes[4];
        bench.pf->fail_at = fail_at;
        bench.pf->failure = (HRESULT)0x8abc0007u;
        bench.pf->supplied = 0;
        bench.pf->torn_down_count = 0;
        EXPECT_STATUS(enable_vfs(&bench.table, 7), STATUS_UNSUCCESSFUL);
        EXPECT_TEXT("0x8abc0007");
        EXPECT(bench.pf->supplied == fail_at && bench.pf->torn_down_count == fail_at);
        for (UINT16 vf = 0; vf < fail_at; vf++) {
            EXPECT(strcmp(bench.pf->vfs[vf].order, "T") == 0);
            EXPECT_RESULT(HdvDeliverGuestInterrupt(bench.pf->vfs[vf].handle, 1, 1), E_HANDLE);
        }
        /* VF Enable is clear. */
        EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 0, bytes, 0, 4) == 0);
        EXPECT_STATUS(disable_vfs(&bench.table), STATUS_INVALID_DEVICE_STATE);
        bench.pf->fail_at = NO_VF;
        EXPECT_STATUS(enable_vfs(&bench.table, 7), STATUS_SUCCESS);
        EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    }
    close_bench(&bench);
}

CHECK(openhdv_supply_virtual_function_bad_table)
{
    struct bench bench = open_bench(7);
    HDV_PCI_DEVICE_INTERFACE version = vf_interface;
    HDV_PCI_DEVICE_INTERFACE missing = vf_interface;
    const void* tables[] = { NULL, &version, &missing };
    const char* texts[] = { "DeviceInterface is null", "version 0", "ReadConfigSpace is null" };
    version.Version = HdvPciDeviceInterfaceVersionInvalid;
    missing.ReadConfigSpace = NULL;
    bench.pf->fail_at = 2;
    for (int i = 0; i < 3; i++) {
        bench.pf->bad_table = tables[i];
        bench.pf->torn_down_count = 0;
        EXPECT_STATUS(enable_vfs(&bench.table, 3), STATUS_UNSUCCESSFUL);
        EXPECT(strstr(last_text(), "VF 2") != NULL);
        EXPECT_TEXT(texts[i]);
        EXPECT(bench.pf->torn_down_count == 2);
        EXPECT_STATUS(disable_vfs(&bench.table), STATUS_INVALID_DEVICE_STATE);
    }
    close_bench(&bench);
}

CHECK(a_vf_that_cannot_be_powered_on_fails_alone)
{
    struct bench bench = open_bench(7);
    BYTE bytes[4] = { 9, 9, 9, 9 };
    EXPECT_STATUS(enable_vfs(&bench.table, 2), STATUS_SUCCESS);
    bench.pf->vfs[0].results[CALL_INITIALIZE] = (HRESULT)0x8abc0001u;
    EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 0, bytes, 0, 4) == 0);
    EXPECT_TEXT("0x8abc0001");
    EXPECT(bytes[0] == 9);
    EXPECT(bench.table.SetVirtualFunctionData(bench.table.Context, 0, bytes, 0, 4) == 0);
    EXPECT(bench.pf->vfs[0].calls[CALL_INITIALIZE] == 1);
    EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 1, bytes, 0, 4) == 4);
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    EXPECT(strcmp(bench.pf->vfs[0].order, "IT") == 0);
    close_bench(&bench);
}

CHECK(a_vf_that_is_another_than_was_said_is_refused)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    struct bench bench;
    BYTE bytes[4];
    description.VirtualFunctionDeviceID = 0x1234;
    bench = open_bench_of(&description);
    EXPECT_STATUS(enable_vfs(&bench.table, 1), STATUS_SUCCESS);
    EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 0, bytes, 0, 4) == 0);
    EXPECT_TEXT("7f02");
    close_bench(&bench);
    description = pf_description();
    description.ProbedBars[0] = 0xffffe000;
    bench = open_bench_of(&description);
    EXPECT_STATUS(enable_vfs(&bench.table, 1), STATUS_SUCCESS);
    EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 0, bytes, 0, 4) == 0);
    EXPECT_TEXT("BAR0");
    close_bench(&bench);
}

/* ---- Data. ---- */

CHECK(get_virtual_device_data_is_what_sriov_leaves)
{
    struct bench bench = open_bench(7);
    const PCI_VIRTUALIZATION_INTERFACE* table = &bench.table;
    BYTE space[4096];
    const BYTE nothing[24] = { 0 };
    memset(space, 0x5a, sizeof space);
    EXPECT_STATUS(enable_vfs(table, 2), STATUS_SUCCESS);
    EXPECT(table->GetVirtualFunctionData(table->Context, 1, space, 0, 4096) == 4096);
    EXPECT(memcmp(space, "\xff\xff\xff\xff", 4) == 0);
    EXPECT(memcmp(space + 0x10, nothing, sizeof nothing) == 0);
    /* Class code and subsystem are the VF's. */
    EXPECT(space[0x0b] == 0xff && space[0x2c] == 0x48 && space[0x2d] == 0x4f);
    /* Each byte alone is what all of them are. */
    for (ULONG at = 0; at < 4096; at += 61) {
        BYTE byte = 0x5a;
        EXPECT(table->GetVirtualFunctionData(table->Context, 1, &byte, at, 1) == 1);
        EXPECT(byte == space[at]);
    }
    close_bench(&bench);
}

CHECK(set_virtual_device_data_writes_what_a_vf_has)
{
    struct bench bench = open_bench(7);
    const PCI_VIRTUALIZATION_INTERFACE* table = &bench.table;
    BYTE command[2] = { 7, 0 };
    BYTE bars[24];
    const BYTE nothing[24] = { 0 };
    memset(bars, 0xff, sizeof bars);
    EXPECT_STATUS(enable_vfs(table, 1), STATUS_SUCCESS);
    /* Bus Master Enable is there, I/O and memory enable are not. */
    EXPECT(table->SetVirtualFunctionData(table->Context, 0, command, 4, 2) == 2);
    EXPECT(table->GetVirtualFunctionData(table->Context, 0, command, 4, 2) == 2);
    EXPECT(command[0] == 4 && command[1] == 0);
    EXPECT(table->SetVirtualFunctionData(table->Context, 0, bars, 0x10, 24) == 24);
    EXPECT(table->GetVirtualFunctionData(table->Context, 0, bars, 0x10, 24) == 24);
    EXPECT(memcmp(bars, nothing, sizeof nothing) == 0);
    close_bench(&bench);
}

CHECK(virtual_device_data_bad_ranges)
{
    struct bench bench = open_bench(7);
    const PCI_VIRTUALIZATION_INTERFACE* table = &bench.table;
    const ULONG offsets[] = { 4096, 4097, 0x10000, 0xffffffff };
    BYTE bytes[16];
    for (int set = 0; set < 2; set++) {
        PGET_VIRTUAL_DEVICE_DATA transfer =
            set ? table->SetVirtualFunctionData : table->GetVirtualFunctionData;
        memset(bytes, 0x5a, sizeof bytes);
        EXPECT(transfer(table->Context, 0, bytes, 0, 4) == 0);
        EXPECT_TEXT("not enabled");
        EXPECT_STATUS(enable_vfs(table, 2), STATUS_SUCCESS);
        EXPECT(transfer(table->Context, 2, bytes, 0, 4) == 0);
        EXPECT_TEXT("VF 2 is not enabled: 2 are");
        EXPECT(transfer(table->Context, 7, bytes, 0, 4) == 0);
        EXPECT_TEXT("no VF 7");
        EXPECT(transfer(table->Context, 0xffff, bytes, 0, 4) == 0);
        EXPECT(transfer(table->Context, 0, NULL, 0, 4) == 0);
        EXPECT_TEXT("Buffer is null");
        EXPECT(transfer(table->Context, 0, bytes, 0, 0) == 0);
        EXPECT_TEXT("0 bytes at 0x0");
        for (int i = 0; i < 4; i++) {
            EXPECT(transfer(table->Context, 0, bytes, offsets[i], 4) == 0);
            EXPECT_TEXT("are not in the 4096 bytes");
        }
        EXPECT(bytes[0] == 0x5a);
        /* What is behind the end is left out. */
        EXPECT(transfer(table->Context, 0, bytes, 4092, 16) == 4);
        EXPECT(transfer(table->Context, 0, bytes, 4095, 16) == 1);
        EXPECT(bytes[4] == 0x5a);
        EXPECT_STATUS(disable_vfs(table), STATUS_SUCCESS);
    }
    close_bench(&bench);
}

/* ---- Location, resources, probed BARs. ---- */

static void expect_at(const PCI_VIRTUALIZATION_INTERFACE* table, UINT16 vf, UINT16 segment,
                      unsigned routing_id)
{
    UINT16 at = 0;
    UINT8 bus = 0;
    UINT8 function = 0;
    EXPECT_STATUS(table->GetLocation(table->Context, vf, &at, &bus, &function), STATUS_SUCCESS);
    EXPECT(at == segment && (bus << 8 | function) == (int)routing_id);
}

CHECK(get_virtual_device_location_success)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    struct bench bench;
    description.Segment = 0xffff;
    description.Device = 0;
    description.Function = 2;
    description.TotalVFs = 5;
    description.SecondaryBus = 0x40;
    description.SubordinateBus = 0x43;
    bench = open_bench_of(&description);
    for (int enabled = 0; enabled < 2; enabled++) {
        for (UINT16 vf = 0; vf < 5; vf++) {
            expect_at(&bench.table, vf, 0xffff, 0x4003u + vf);
        }
        EXPECT_STATUS(enable_vfs(&bench.table, 2),
                      enabled ? STATUS_INVALID_DEVICE_STATE : STATUS_SUCCESS);
    }
    close_bench(&bench);
    /* With ARI, and over the end of a bus. */
    description.AriForwarding = 2;
    description.Function = 0;
    description.TotalVFs = 600;
    bench = open_bench_of(&description);
    expect_at(&bench.table, 0, 0xffff, 0x4001);
    expect_at(&bench.table, 254, 0xffff, 0x40ff);
    expect_at(&bench.table, 255, 0xffff, 0x4100);
    expect_at(&bench.table, 599, 0xffff, 0x4258);
    close_bench(&bench);
}

CHECK(get_virtual_device_location_bad_parameters)
{
    struct bench bench = open_bench(7);
    const PCI_VIRTUALIZATION_INTERFACE* table = &bench.table;
    const UINT16 beyond[] = { 7, 8, 0xffff };
    UINT16 segment = 0x5a5a;
    UINT8 bus = 0x5a;
    UINT8 function = 0x5a;
    for (int i = 0; i < 3; i++) {
        EXPECT_STATUS(table->GetLocation(table->Context, beyond[i], &segment, &bus, &function),
                      STATUS_INVALID_PARAMETER);
        EXPECT_TEXT("TotalVFs is 7");
    }
    EXPECT_STATUS(table->GetLocation(table->Context, 0, NULL, &bus, &function),
                  STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("SegmentNumber is null");
    EXPECT_STATUS(table->GetLocation(table->Context, 0, &segment, NULL, &function),
                  STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("BusNumber is null");
    EXPECT_STATUS(table->GetLocation(table->Context, 0, &segment, &bus, NULL),
                  STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("FunctionNumber is null");
    EXPECT(segment == 0x5a5a && bus == 0x5a && function == 0x5a);
    close_bench(&bench);
}

CHECK(get_virtual_device_location_has_no_segment)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    struct bench bench;
    UINT16 segment = 0x5a5a;
    UINT8 bus = 0x5a;
    UINT8 function = 0x5a;
    description.Segment = 0x10000;
    bench = open_bench_of(&description);
    EXPECT_STATUS(bench.table.GetLocation(bench.table.Context, 0, &segment, &bus, &function),
                  STATUS_NOT_SUPPORTED);
    EXPECT_TEXT("0x10000");
    EXPECT(segment == 0x5a5a && bus == 0x5a && function == 0x5a);
    /* Parameters first. */
    EXPECT_STATUS(bench.table.GetLocation(bench.table.Context, 7, &segment, &bus, &function),
                  STATUS_INVALID_PARAMETER);
    EXPECT_STATUS(bench.table.GetLocation(bench.table.Context, 0, &segment, &bus, NULL),
                  STATUS_INVALID_PARAMETER);
    close_bench(&bench);
}

CHECK(get_virtual_device_resources_are_captured_buses)
{
    const UINT8 subordinate[] = { 1, 2, 0xff };
    for (int i = 0; i < 3; i++) {
        OPENHDV_PHYSICAL_FUNCTION description = pf_description();
        struct bench bench;
        UINT8 buses = 0x5a;
        description.SubordinateBus = subordinate[i];
        bench = open_bench_of(&description);
        bench.table.GetResources(bench.table.Context, &buses);
        EXPECT(buses == subordinate[i] - 1);
        forget_text();
        bench.table.GetResources(bench.table.Context, NULL);
        EXPECT_TEXT("CapturedBusNumbers is null");
        close_bench(&bench);
    }
}

CHECK(get_virtual_function_probed_bars_are_those_of_the_capability)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    struct bench bench;
    ULONG bars[6] = { 9, 9, 9, 9, 9, 9 };
    const ULONG expected[6] = { 0xfffff000, 0, 0xffff000c, 0xffffffff, 0, 0xffffe008 };
    memcpy(description.ProbedBars, expected, sizeof expected);
    bench = open_bench_of(&description);
    for (int enabled = 0; enabled < 2; enabled++) {
        EXPECT_STATUS(bench.table.GetVirtualFunctionProbedBars(bench.table.Context, bars),
                      STATUS_SUCCESS);
        EXPECT(memcmp(bars, expected, sizeof expected) == 0);
        if (!enabled) {
            EXPECT_STATUS(enable_vfs(&bench.table, 1), STATUS_SUCCESS);
        }
    }
    EXPECT_STATUS(bench.table.GetVirtualFunctionProbedBars(bench.table.Context, NULL),
                  STATUS_INVALID_PARAMETER);
    EXPECT_TEXT("BaseRegisterValues is null");
    close_bench(&bench);
}

/* ---- Inside callbacks. ---- */

/* The interface that hooks use, and what it gave them. */
static PCI_VIRTUALIZATION_INTERFACE hook_table;
static NTSTATUS hook_enable;
static NTSTATUS hook_disable;
static NTSTATUS hook_location;
static NTSTATUS hook_bars;
static ULONG hook_bytes;
static UINT8 hook_buses;

static void use_everything(struct device* device)
{
    UINT16 segment;
    UINT8 bus;
    UINT8 function;
    ULONG bars[6];
    BYTE bytes[4];
    (void)device;
    hook_enable = enable_vfs(&hook_table, 1);
    hook_disable = disable_vfs(&hook_table);
    hook_location = hook_table.GetLocation(hook_table.Context, 0, &segment, &bus, &function);
    hook_bars = hook_table.GetVirtualFunctionProbedBars(hook_table.Context, bars);
    hook_bytes = hook_table.GetVirtualFunctionData(hook_table.Context, 0, bytes, 0, 4);
    hook_table.GetResources(hook_table.Context, &hook_buses);
}

static void use_while_supplied(struct pf* pf, HDV_DEVICE vf)
{
    (void)vf;
    use_everything(&pf->device);
}

static void expect_refused(void)
{
    EXPECT_STATUS(hook_enable, STATUS_POSSIBLE_DEADLOCK);
    EXPECT_STATUS(hook_disable, STATUS_POSSIBLE_DEADLOCK);
    EXPECT_STATUS(hook_location, STATUS_SUCCESS);
    EXPECT_STATUS(hook_bars, STATUS_SUCCESS);
    EXPECT(hook_bytes == 0 && hook_buses == 0);
    hook_enable = hook_disable = STATUS_SUCCESS;
    hook_location = hook_bars = STATUS_UNSUCCESSFUL;
    hook_bytes = 9;
    hook_buses = 9;
}

CHECK(routines_inside_callbacks)
{
    struct bench bench = open_bench(7);
    struct device plain;
    struct device other;
    HDV_HOST other_host = open_host();
    BYTE bytes[4];
    hook_table = bench.table;
    /* While VFs are supplied, by a VF, by another device of the host. */
    bench.pf->supply_hook = use_while_supplied;
    EXPECT_STATUS(enable_vfs(&bench.table, 1), STATUS_SUCCESS);
    expect_refused();
    bench.pf->vfs[0].hook = use_everything;
    bench.pf->vfs[0].hook_in = CALL_INITIALIZE;
    EXPECT(bench.table.GetVirtualFunctionData(bench.table.Context, 0, bytes, 0, 4) == 4);
    expect_refused();
    bench.pf->vfs[0].hook_in = CALL_TEARDOWN;
    EXPECT_STATUS(disable_vfs(&bench.table), STATUS_SUCCESS);
    expect_refused();
    device_reset(&plain);
    plain.hook = use_everything;
    plain.hook_in = CALL_GET_DETAILS;
    EXPECT_RESULT(device_create(bench.host, &plain), S_OK);
    expect_refused();
    plain.hook = NULL;
    /* Inside a device of another host nothing waits for itself. */
    bench.pf->supply_hook = NULL;
    device_reset(&other);
    other.hook = use_everything;
    other.hook_in = CALL_INITIALIZE;
    EXPECT_RESULT(device_create(other_host, &other), S_OK);
    EXPECT_STATUS(hook_enable, STATUS_SUCCESS);
    EXPECT_STATUS(hook_disable, STATUS_SUCCESS);
    EXPECT_RESULT(HdvTeardownDeviceHost(other_host), S_OK);
    close_bench(&bench);
}

static void query_self(struct pf* pf, HDV_DEVICE vf)
{
    PCI_VIRTUALIZATION_INTERFACE table;
    EXPECT_STATUS(query(vf, &table), STATUS_SUCCESS);
    expect_without_sriov(&table);
    table.InterfaceDereference(table.Context);
    EXPECT_STATUS(query(pf->device.handle, &table), STATUS_SUCCESS);
    table.InterfaceDereference(table.Context);
}

CHECK(open_hdv_query_pci_virtualization_interface_inside_callbacks)
{
    struct bench bench = open_bench(7);
    bench.pf->supply_hook = query_self;
    EXPECT_STATUS(enable_vfs(&bench.table, 2), STATUS_SUCCESS);
    close_bench(&bench);
}

/* ---- The creation of PFs. ---- */

CHECK(open_hdv_create_physical_function_success)
{
    struct bench bench = open_bench(7);
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    struct pf* second = new_pf();
    EXPECT(strcmp(bench.pf->device.order, "ICD") == 0);
    /* The page sizes may be more, the numbers the largest that there are. */
    description.SupportedPageSizes = 0x553 | 1u << 31;
    description.Device = 0;
    description.Function = 0;
    description.TotalVFs = 0xffff;
    description.AriForwarding = TRUE;
    description.SecondaryBus = 0;
    description.SubordinateBus = 0xff;
    description.GuestControlsSriov = TRUE;
    memset(description.ProbedBars, 0, sizeof description.ProbedBars);
    EXPECT_RESULT(pf_create(bench.host, second, &description), S_OK);
    EXPECT(second->device.handle != NULL && strcmp(second->device.order, "ICD") == 0);
    /* It is a device like any other. */
    EXPECT_RESULT(HdvDeliverGuestInterrupt(second->device.handle, 1, 1), WIN32(NOT_READY));
    noting_pf = bench.pf;
    close_bench(&bench);
    EXPECT(second->device.calls[CALL_TEARDOWN] == 1);
    free_pf(second);
}

CHECK(open_hdv_create_physical_function_null)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST host = open_host();
    struct pf* pf = new_pf();
    GUID id = next_instance();
    HDV_DEVICE device = (HDV_DEVICE)pf;
#define CREATE(class_id, instance, table, description, place)                                    \
    OpenHdvCreatePhysicalFunction(host, class_id, instance, table, pf, description, place)
    EXPECT_RESULT(CREATE(NULL, &id, &pf_interface, &description, &device), E_POINTER);
    EXPECT(device == NULL);
    EXPECT_RESULT(CREATE(&id, NULL, &pf_interface, &description, &device), E_POINTER);
    EXPECT_RESULT(CREATE(&id, &id, NULL, &description, &device), E_POINTER);
    EXPECT_RESULT(CREATE(&id, &id, &pf_interface, NULL, &device), E_POINTER);
    EXPECT_TEXT("PhysicalFunction is null");
    EXPECT_RESULT(CREATE(&id, &id, &pf_interface, &description, NULL), E_POINTER);
    description.SupplyVirtualFunction = NULL;
    EXPECT_RESULT(CREATE(&id, &id, &pf_interface, &description, &device), E_POINTER);
    EXPECT_TEXT("SupplyVirtualFunction is null");
#undef CREATE
    EXPECT(pf->device.order[0] == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    free_pf(pf);
}

CHECK(open_hdv_create_physical_function_bad_host)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST stale = open_host();
    struct pf* pf = new_pf();
    EXPECT_RESULT(HdvTeardownDeviceHost(stale), S_OK);
    {
        void* list[] = { NULL, stale, pf, (void*)(intptr_t)-1 };
        for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
            pf->device.handle = (HDV_DEVICE)pf;
            EXPECT_RESULT(pf_create(list[i], pf, &description), E_HANDLE);
            EXPECT(pf->device.handle == NULL && pf->device.order[0] == 0);
        }
    }
    free_pf(pf);
}

/* One member changed, and what it is called in the text. */
#define BAD_MEMBER(change, name)                                                                 \
    do {                                                                                         \
        OPENHDV_PHYSICAL_FUNCTION description = pf_description();                                \
        change;                                                                                  \
        EXPECT_RESULT(pf_create(host, pf, &description), E_INVALIDARG);                          \
        EXPECT_TEXT(name);                                                                       \
        EXPECT(pf->device.handle == NULL);                                                       \
    } while (0)

CHECK(open_hdv_create_physical_function_bad_description)
{
    HDV_HOST host = open_host();
    struct pf* pf = new_pf();
    BAD_MEMBER(description.Version = OpenHdvPhysicalFunctionVersionInvalid, "Version");
    BAD_MEMBER(description.Version = (OPENHDV_PHYSICAL_FUNCTION_VERSION)2, "version 2");
    BAD_MEMBER(description.SupportedPageSizes = 1, "SupportedPageSizes");
    BAD_MEMBER(description.ProbedBars[0] = 0xfffff001, "ProbedBars[0]");
    BAD_MEMBER(description.ProbedBars[5] = 0xfffff004, "ProbedBars[5]");
    BAD_MEMBER(description.ProbedBars[3] = 0xff00f000, "ProbedBars[3]");
    BAD_MEMBER(description.TotalVFs = 0, "TotalVFs");
    BAD_MEMBER(description.TotalVFs = 8, "8 VFs do not fit");
    BAD_MEMBER(description.Function = 1, "7 VFs do not fit");
    BAD_MEMBER(description.Device = 32, "device 32");
    BAD_MEMBER(description.Function = 8, "function 8");
    BAD_MEMBER(description.SubordinateBus = 0, "SubordinateBus");
    BAD_MEMBER(description.Reserved = 1, "Reserved");
    EXPECT(pf->device.order[0] == 0 && pf->supplied == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    /* Nothing was made, so there is nothing to tear down. */
    EXPECT(pf->device.order[0] == 0);
    free_pf(pf);
}

CHECK(open_hdv_create_physical_function_already_exists)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST host = open_host();
    GUID instance = next_instance();
    struct pf* second = new_pf();
    struct pf* first = new_pf();
    EXPECT_RESULT(pf_create_as(host, first, &instance, &description), S_OK);
    EXPECT_RESULT(pf_create_as(host, second, &instance, &description), WIN32(ALREADY_EXISTS));
    EXPECT(second->device.handle == NULL && second->device.order[0] == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(first->device.calls[CALL_TEARDOWN] == 1);
    free_pf(second);
    free_pf(first);
}

CHECK(open_hdv_create_physical_function_callback_fails)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST host = open_host();
    struct pf* pf = new_pf();
    pf->device.results[CALL_GET_DETAILS] = (HRESULT)0x8abc0002u;
    EXPECT_RESULT(pf_create(host, pf, &description), (HRESULT)0x8abc0002u);
    EXPECT(pf->device.handle == NULL && strcmp(pf->device.order, "ICDT") == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    free_pf(pf);
}

CHECK(vfs_listen_beside_their_pf)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST host = open_host();
    struct pf* pf = new_pf();
    GUID instance = next_instance();
    PCI_VIRTUALIZATION_INTERFACE table;
    char text[OPENHDV_GUID_TEXT_SIZE];
    char path[4096];
    EXPECT_RESULT(OpenHdvFormatGuid(&instance, text), S_OK);
    EXPECT_RESULT(pf_create_as(host, pf, &instance, &description), S_OK);
    EXPECT_STATUS(query(pf->device.handle, &table), STATUS_SUCCESS);
    for (int there = 0; there < 2; there++) {
        for (int vf = 0; vf < 3; vf++) {
            snprintf(path, sizeof path, "%s/%s-vf%d.sock", check_directory, text, vf);
            EXPECT((access(path, F_OK) == 0) == (there && vf < 2));
        }
        EXPECT_STATUS(there ? disable_vfs(&table) : enable_vfs(&table, 2), STATUS_SUCCESS);
    }
    EXPECT(access(path, F_OK) != 0);
    table.InterfaceDereference(table.Context);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    free_pf(pf);
}

/* A socket is in the way of a VF: none is enabled. */
CHECK(enable_virtualization_without_a_place)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST host = open_host();
    struct pf* pf = new_pf();
    GUID instance = next_instance();
    PCI_VIRTUALIZATION_INTERFACE table;
    char text[OPENHDV_GUID_TEXT_SIZE];
    char path[4096];
    FILE* file;
    EXPECT_RESULT(OpenHdvFormatGuid(&instance, text), S_OK);
    EXPECT_RESULT(pf_create_as(host, pf, &instance, &description), S_OK);
    EXPECT_STATUS(query(pf->device.handle, &table), STATUS_SUCCESS);
    snprintf(path, sizeof path, "%s/%s-vf2.sock", check_directory, text);
    file = fopen(path, "w");
    EXPECT(file != NULL);
    fclose(file);
    EXPECT_STATUS(enable_vfs(&table, 4), STATUS_UNSUCCESSFUL);
    EXPECT_TEXT("-vf2.sock");
    EXPECT(pf->supplied == 4 && pf->torn_down_count == 4);
    EXPECT_STATUS(disable_vfs(&table), STATUS_INVALID_DEVICE_STATE);
    EXPECT(remove(path) == 0);
    EXPECT_STATUS(enable_vfs(&table, 4), STATUS_SUCCESS);
    table.InterfaceDereference(table.Context);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    free_pf(pf);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(open_hdv_query_pci_virtualization_interface_fills_the_table);
    RUN(open_hdv_query_pci_virtualization_interface_bad_arguments);
    RUN(open_hdv_query_pci_virtualization_interface_bad_device);
    RUN(open_hdv_query_pci_virtualization_interface_at_bad_arguments);
    RUN(open_hdv_query_pci_virtualization_interface_at_fills_the_table);
    RUN(pinterface_reference_keeps_the_context);
    RUN(pinterface_dereference_ends_the_context);
    RUN(the_interface_outlives_its_device);
    RUN(a_device_without_sriov_has_no_vfs);
    RUN(a_vf_has_no_vfs);
    RUN(enable_virtualization_success);
    RUN(enable_virtualization_bad_parameters);
    RUN(enable_virtualization_already_so);
    RUN(enable_virtualization_256_at_once);
    RUN(vfs_are_powered_on_at_first_use_and_torn_down_in_order);
    RUN(hdv_teardown_device_host_with_vfs);
    RUN(the_handle_of_a_vf_lives_from_supply_to_teardown);
    RUN(openhdv_supply_virtual_function_fails);
    RUN(openhdv_supply_virtual_function_bad_table);
    RUN(a_vf_that_cannot_be_powered_on_fails_alone);
    RUN(a_vf_that_is_another_than_was_said_is_refused);
    RUN(get_virtual_device_data_is_what_sriov_leaves);
    RUN(set_virtual_device_data_writes_what_a_vf_has);
    RUN(virtual_device_data_bad_ranges);
    RUN(get_virtual_device_location_success);
    RUN(get_virtual_device_location_bad_parameters);
    RUN(get_virtual_device_location_has_no_segment);
    RUN(get_virtual_device_resources_are_captured_buses);
    RUN(get_virtual_function_probed_bars_are_those_of_the_capability);
    RUN(routines_inside_callbacks);
    RUN(open_hdv_query_pci_virtualization_interface_inside_callbacks);
    RUN(open_hdv_create_physical_function_success);
    RUN(open_hdv_create_physical_function_null);
    RUN(open_hdv_create_physical_function_bad_host);
    RUN(open_hdv_create_physical_function_bad_description);
    RUN(open_hdv_create_physical_function_already_exists);
    RUN(open_hdv_create_physical_function_callback_fails);
    RUN(vfs_listen_beside_their_pf);
    RUN(enable_virtualization_without_a_place);
    FINISH();
}
