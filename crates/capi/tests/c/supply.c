/*
 * What SupplyVirtualFunction and the callbacks of virtual functions may do besides, and what is refused to
 * them. What becomes of it otherwise is in virtualization.c.
 */
#include <sys/resource.h>

#include "virtualization.h"

static HDV_HOST host;
static struct pf* pf;
static PCI_VIRTUALIZATION_INTERFACE table;

static void open_pf(const OPENHDV_PHYSICAL_FUNCTION* description)
{
    host = open_host();
    pf = new_pf();
    EXPECT_RESULT(pf_create(host, pf, description), S_OK);
    EXPECT_STATUS(query(pf->device.handle, &table), STATUS_SUCCESS);
}

static void close_pf(void)
{
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(pf->device.calls[CALL_TEARDOWN] == 1);
    table.InterfaceDereference(table.Context);
    free_pf(pf);
}

static ULONG read_vf(UINT16 vf, void* bytes, ULONG offset, ULONG length)
{
    return table.GetVirtualFunctionData(table.Context, vf, bytes, offset, length);
}

/* ---- The host's end. ---- */

static void tear_host_down(struct device* device)
{
    device->hook_result = HdvTeardownDeviceHost(device->host);
}

static void tear_host_down_while_supplied(struct pf* of, HDV_DEVICE vf)
{
    (void)vf;
    tear_host_down(&of->device);
}

CHECK(hdv_teardown_device_host_inside_callbacks_of_vfs)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    const enum call calls[] = { CALL_INITIALIZE, CALL_SET_CONFIGURATION, CALL_GET_DETAILS, CALL_READ_CONFIG,
                                CALL_WRITE_CONFIG, CALL_TEARDOWN };
    BYTE bytes[4] = { 0 };
    open_pf(&description);
    pf->supply_hook = tear_host_down_while_supplied;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        pf->device.hook_result = S_OK;
        EXPECT_STATUS(enable_vfs(&table, 1), STATUS_SUCCESS);
        EXPECT_RESULT(pf->device.hook_result, WIN32(POSSIBLE_DEADLOCK));
        pf->vfs[0].hook = tear_host_down;
        pf->vfs[0].hook_in = calls[i];
        EXPECT(read_vf(0, bytes, 0x40, 4) == 4);
        EXPECT(table.SetVirtualFunctionData(table.Context, 0, bytes, 0x40, 4) == 4);
        EXPECT_STATUS(disable_vfs(&table), STATUS_SUCCESS);
        EXPECT_RESULT(pf->vfs[0].hook_result, WIN32(POSSIBLE_DEADLOCK));
    }
    close_pf();
}

/* Also in the Teardown of VFs that were supplied in vain, and of VFs that their PF takes with it. */
CHECK(hdv_teardown_device_host_inside_teardown_of_vfs)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    open_pf(&description);
    pf->fail_at = 2;
    pf->failure = E_ABORT;
    EXPECT_STATUS(enable_vfs(&table, 7), STATUS_UNSUCCESSFUL);
    pf->fail_at = NO_VF;
    EXPECT_STATUS(enable_vfs(&table, 2), STATUS_SUCCESS);
    for (int vf = 0; vf < 2; vf++) {
        pf->vfs[vf].hook = tear_host_down;
        pf->vfs[vf].hook_in = CALL_TEARDOWN;
    }
    /* The host's handle ends first. */
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    for (int vf = 0; vf < 2; vf++) {
        EXPECT_RESULT(pf->vfs[vf].hook_result, E_HANDLE);
    }
    table.InterfaceDereference(table.Context);
    free_pf(pf);
}

/* ---- Devices inside. ---- */

static struct device inner_device;
static struct pf* inner_pf;
static PCI_VIRTUALIZATION_INTERFACE inner_table;

static void create_devices(struct pf* of, HDV_DEVICE vf)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    (void)vf;
    of->supply_hook = NULL;
    EXPECT_RESULT(device_create(of->device.host, &inner_device), S_OK);
    EXPECT_RESULT(pf_create(of->device.host, inner_pf, &description), S_OK);
    EXPECT_STATUS(query(inner_pf->device.handle, &inner_table), STATUS_SUCCESS);
    /* Of the same host. */
    EXPECT_STATUS(enable_vfs(&inner_table, 1), STATUS_POSSIBLE_DEADLOCK);
}

CHECK(devices_are_created_while_a_vf_is_supplied)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    inner_pf = new_pf();
    device_reset(&inner_device);
    open_pf(&description);
    pf->supply_hook = create_devices;
    EXPECT_STATUS(enable_vfs(&table, 2), STATUS_SUCCESS);
    EXPECT(strcmp(inner_device.order, "ICD") == 0 && strcmp(inner_pf->device.order, "ICD") == 0);
    EXPECT_STATUS(enable_vfs(&inner_table, 2), STATUS_SUCCESS);
    EXPECT(inner_pf->supplied == 2);
    close_pf();
    EXPECT(inner_device.calls[CALL_TEARDOWN] == 1 && inner_pf->device.calls[CALL_TEARDOWN] == 1);
    inner_table.InterfaceDereference(inner_table.Context);
    free_pf(inner_pf);
}

static void enable_inside(struct pf* of, HDV_DEVICE vf)
{
    (void)vf;
    of->supply_hook = NULL;
    EXPECT_STATUS(enable_vfs(&inner_table, 3), STATUS_SUCCESS);
    EXPECT_STATUS(disable_vfs(&inner_table), STATUS_SUCCESS);
}

CHECK(vfs_of_another_host_are_enabled_while_a_vf_is_supplied)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    HDV_HOST other = open_host();
    inner_pf = new_pf();
    EXPECT_RESULT(pf_create(other, inner_pf, &description), S_OK);
    EXPECT_STATUS(query(inner_pf->device.handle, &inner_table), STATUS_SUCCESS);
    open_pf(&description);
    pf->supply_hook = enable_inside;
    EXPECT_STATUS(enable_vfs(&table, 2), STATUS_SUCCESS);
    EXPECT(inner_pf->supplied == 3);
    close_pf();
    EXPECT_RESULT(HdvTeardownDeviceHost(other), S_OK);
    inner_table.InterfaceDereference(inner_table.Context);
    free_pf(inner_pf);
}

/* ---- Handles. ---- */

static HDV_DEVICE kept;
static PCI_VIRTUALIZATION_INTERFACE kept_table;

static void keep_handle(struct pf* of, HDV_DEVICE vf)
{
    (void)of;
    kept = vf;
    EXPECT_STATUS(query(vf, &kept_table), STATUS_SUCCESS);
}

CHECK(the_handle_of_a_vf_that_was_not_supplied_ends)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    PCI_VIRTUALIZATION_INTERFACE again;
    ULONG bars[6];
    void* mapped;
    BYTE bytes[4];
    open_pf(&description);
    pf->supply_hook = keep_handle;
    pf->fail_at = 0;
    for (int way = 0; way < 2; way++) {
        /* A failure, and no table. */
        pf->failure = way == 0 ? E_ABORT : S_OK;
        pf->bad_table = NULL;
        EXPECT_STATUS(enable_vfs(&table, 1), STATUS_UNSUCCESSFUL);
        EXPECT_RESULT(HdvReadGuestMemory(kept, 0, 4, bytes), E_HANDLE);
        EXPECT_RESULT(HdvCreateGuestMemoryAperture(kept, 0, 4, 0, &mapped), E_HANDLE);
        EXPECT_RESULT(HdvDeliverGuestInterrupt(kept, 1, 1), E_HANDLE);
        EXPECT_RESULT(HdvUnregisterDoorbell(kept, HDV_PCI_BAR0, 0, 0, 0), E_HANDLE);
        EXPECT_STATUS(query(kept, &again), STATUS_INVALID_HANDLE);
        EXPECT_STATUS(kept_table.GetVirtualFunctionProbedBars(kept_table.Context, bars),
                      STATUS_INVALID_DEVICE_STATE);
        kept_table.InterfaceDereference(kept_table.Context);
    }
    close_pf();
}

static void use_first_vf(struct pf* of, HDV_DEVICE vf)
{
    HDV_DEVICE first = of->vfs[0].handle;
    BYTE bytes[4];
    if (first != NULL && first != vf) {
        EXPECT_RESULT(HdvRegisterDoorbell(first, HDV_PCI_BAR0, 8, 1, 0, OPENHDV_HANDLE_FROM_DESCRIPTOR(-1)),
                      E_HANDLE);
        EXPECT_RESULT(HdvUnregisterDoorbell(first, HDV_PCI_BAR0, 8, 1, 0), WIN32(NOT_FOUND));
        EXPECT_RESULT(HdvReadGuestMemory(first, 0, 4, bytes), WIN32(NOT_READY));
        EXPECT_RESULT(HdvDeliverGuestInterrupt(first, 1, 1), WIN32(NOT_READY));
    }
}

CHECK(a_vf_is_used_while_the_next_one_is_supplied)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    open_pf(&description);
    pf->supply_hook = use_first_vf;
    EXPECT_STATUS(enable_vfs(&table, 2), STATUS_SUCCESS);
    close_pf();
}

/* ---- Supplied twice. ---- */

static HRESULT CALLBACK supply_the_same(void* context, UINT16 vf, HDV_DEVICE handle, const VOID** interface_,
                                        void** vf_context)
{
    struct pf* of = (struct pf*)context;
    (void)vf;
    (void)handle;
    *interface_ = &vf_interface;
    *vf_context = &of->vfs[0];
    return S_OK;
}

CHECK(vfs_may_have_one_context)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    BYTE bytes[4];
    description.SupplyVirtualFunction = supply_the_same;
    open_pf(&description);
    EXPECT_STATUS(enable_vfs(&table, 3), STATUS_SUCCESS);
    EXPECT(read_vf(0, bytes, 0, 4) == 4 && read_vf(2, bytes, 0, 4) == 4);
    EXPECT(pf->vfs[0].calls[CALL_INITIALIZE] == 2);
    EXPECT_STATUS(disable_vfs(&table), STATUS_SUCCESS);
    EXPECT(pf->vfs[0].calls[CALL_TEARDOWN] == 3);
    close_pf();
}

/* ---- Capabilities. ---- */

static UINT32 message_control;

static HRESULT CALLBACK read_capabilities(void* context, UINT32 offset, UINT32* value)
{
    (void)context;
    /* MSI-X of 2 vectors, PCI Express with function level reset, a serial number. */
    switch (offset) {
    case 0x34: *value = 0x40; break;
    case 0x40: *value = message_control << 16 | 0x7011; break;
    case 0x44: *value = 0x800; break;
    case 0x48: *value = 0xc00; break;
    case 0x70: *value = 0x00020010; break;
    case 0x74: *value = 0x10008000; break;
    case 0x100: *value = 0x00010003; break;
    case 0x104: *value = 0x01020304; break;
    default: *value = 0; break;
    }
    return S_OK;
}

static HRESULT CALLBACK write_capabilities(void* context, UINT32 offset, UINT32 value)
{
    (void)context;
    if (offset == 0x40) {
        /* Table Size is not to be written. */
        message_control = (value >> 16 & 0xc000) | 1;
    }
    return S_OK;
}

static HRESULT CALLBACK supply_with_capabilities(void* context, UINT16 vf, HDV_DEVICE handle,
                                                 const VOID** interface_, void** vf_context)
{
    static HDV_PCI_DEVICE_INTERFACE interface_with;
    HRESULT result = pf_supply(context, vf, handle, interface_, vf_context);
    interface_with = vf_interface;
    interface_with.ReadConfigSpace = read_capabilities;
    interface_with.WriteConfigSpace = write_capabilities;
    message_control = 1;
    *interface_ = &interface_with;
    return result;
}

/* No virtual machine ever had it. */
CHECK(get_virtual_device_data_has_capabilities_before_the_first_start)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    BYTE bytes[64] = { 0 };
    BYTE serial[8];
    BYTE control[2] = { 0x00, 0xc0 };
    description.SupplyVirtualFunction = supply_with_capabilities;
    open_pf(&description);
    EXPECT_STATUS(enable_vfs(&table, 1), STATUS_SUCCESS);
    EXPECT(read_vf(0, bytes, 0x40, 64) == 64);
    EXPECT(bytes[0] == 0x11 && bytes[1] == 0x70 && bytes[2] == 0x01);
    EXPECT(bytes[0x30] == 0x10 && (bytes[0x37] & 0x10) != 0);
    EXPECT(read_vf(0, bytes, 0x34, 1) == 1 && bytes[0] == 0x40);
    /* Status: there is a list. */
    EXPECT(read_vf(0, bytes, 6, 2) == 2 && (bytes[0] & 0x10) != 0);
    EXPECT(read_vf(0, serial, 0x100, 8) == 8 && serial[0] == 3 && serial[4] == 4);
    /* MSI-X Enable and Function Mask are there to write, the size is not. */
    EXPECT(table.SetVirtualFunctionData(table.Context, 0, control, 0x42, 2) == 2);
    EXPECT(read_vf(0, bytes, 0x42, 2) == 2 && bytes[0] == 0x01 && bytes[1] == 0xc0);
    EXPECT(pf->vfs[0].calls[CALL_START] == 0);
    close_pf();
}

/* ---- Limits. ---- */

/* More than this process may have sockets for: none is enabled, and each is torn down. */
CHECK(enable_virtualization_without_descriptors)
{
    enum { VFS = 2000, DESCRIPTORS = 1000 };
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    struct rlimit before;
    struct rlimit few;
    description.SupplyVirtualFunction = supply_the_same;
    description.TotalVFs = VFS;
    description.SubordinateBus = 0xff;
    description.AriForwarding = TRUE;
    open_pf(&description);
    EXPECT(getrlimit(RLIMIT_NOFILE, &before) == 0);
    few = before;
    few.rlim_cur = DESCRIPTORS;
    EXPECT(setrlimit(RLIMIT_NOFILE, &few) == 0);
    EXPECT_STATUS(enable_vfs(&table, VFS), STATUS_UNSUCCESSFUL);
    EXPECT(pf->vfs[0].calls[CALL_TEARDOWN] == VFS && pf->vfs[0].calls[CALL_INITIALIZE] == 0);
    EXPECT_STATUS(disable_vfs(&table), STATUS_INVALID_DEVICE_STATE);
    EXPECT_STATUS(enable_vfs(&table, 3), STATUS_SUCCESS);
    EXPECT(setrlimit(RLIMIT_NOFILE, &before) == 0);
    close_pf();
}

/* Their BARs are one after the other below 2^64, or 2^32. */
CHECK(open_hdv_create_physical_function_bars_that_do_not_fit)
{
    OPENHDV_PHYSICAL_FUNCTION description = pf_description();
    host = open_host();
    pf = new_pf();
    description.ProbedBars[0] = 0x80000000;
    EXPECT_RESULT(pf_create(host, pf, &description), E_INVALIDARG);
    description.ProbedBars[0] = 0x0000000c;
    description.ProbedBars[1] = 0x80000000;
    EXPECT_RESULT(pf_create(host, pf, &description), E_INVALIDARG);
    EXPECT(pf->device.handle == NULL && pf->device.order[0] == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    EXPECT(pf->device.order[0] == 0);
    free_pf(pf);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(hdv_teardown_device_host_inside_callbacks_of_vfs);
    RUN(hdv_teardown_device_host_inside_teardown_of_vfs);
    RUN(devices_are_created_while_a_vf_is_supplied);
    RUN(vfs_of_another_host_are_enabled_while_a_vf_is_supplied);
    RUN(the_handle_of_a_vf_that_was_not_supplied_ends);
    RUN(a_vf_is_used_while_the_next_one_is_supplied);
    RUN(vfs_may_have_one_context);
    RUN(get_virtual_device_data_has_capabilities_before_the_first_start);
    RUN(enable_virtualization_without_descriptors);
    RUN(open_hdv_create_physical_function_bars_that_do_not_fit);
    FINISH();
}
