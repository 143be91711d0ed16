/*
 * Physical functions whose VFs are devices of device.h, which can be told where to fail.
 */
#ifndef VIRTUALIZATION_H
#define VIRTUALIZATION_H

#include "device.h"

#include <pcivirt.h>

enum { VFS_MAX = 256, VF_DEVICE_ID = 0x7f02, NO_VF = 0xffff };

#define EXPECT_STATUS(call, expected)                                                            \
    do {                                                                                         \
        NTSTATUS expect_status = (call);                                                         \
        if (expect_status != (expected)) {                                                       \
            char expect_text[512];                                                               \
            OpenHdvGetLastErrorText(expect_text, sizeof expect_text);                            \
            printf("%s:%d: %s gave %08" PRIx32 ", not %08" PRIx32 " (%s)\n", __FILE__, __LINE__, \
                   #call, (uint32_t)expect_status, (uint32_t)(expected), expect_text);           \
            check_failed = 1;                                                                    \
        }                                                                                        \
    } while (0)

struct pf {
    /* First: it is the context of the PF's callbacks too. */
    struct device device;
    struct device vfs[VFS_MAX];
    /* The VF that cannot be supplied, and with what. */
    UINT16 fail_at;
    HRESULT failure;
    /* What is supplied for it instead, if failure is S_OK. */
    const void* bad_table;
    unsigned supplied;
    /* The VFs in the order of their Teardown, and then the PF. */
    unsigned torn_down_count;
    UINT16 torn_down[VFS_MAX + 1];
    /* What the handle of the last VF gave while it was being supplied. */
    HRESULT early;
    /* Called while a VF is being supplied, unless null. */
    void (*supply_hook)(struct pf* pf, HDV_DEVICE vf);
};

/* The PF that a VF's Teardown is noted for. */
static struct pf* noting_pf;

static inline void CALLBACK vf_teardown(void* context)
{
    UINT16 number = NO_VF;
    if (noting_pf != NULL) {
        for (UINT16 vf = 0; vf < VFS_MAX; vf++) {
            if (context == &noting_pf->vfs[vf]) {
                number = vf;
            }
        }
        if (noting_pf->torn_down_count <= VFS_MAX) {
            noting_pf->torn_down[noting_pf->torn_down_count++] = number;
        }
    }
    device_teardown(context);
}

static inline HRESULT CALLBACK vf_get_details(void* context, HDV_PCI_PNP_ID* id, UINT32 count,
                                              UINT32* bars)
{
    HRESULT result = device_get_details(context, id, count, bars);
    id->DeviceID = VF_DEVICE_ID;
    return result;
}

static const HDV_PCI_DEVICE_INTERFACE vf_interface = {
    HdvPciDeviceInterfaceVersion1, device_initialize,  vf_teardown,        device_set_configuration,
    vf_get_details,                device_start,       device_stop,        device_read_config,
    device_write_config,           device_read_memory, device_write_memory,
};

/* A PF tells its own Teardown as that of NO_VF. */
static const HDV_PCI_DEVICE_INTERFACE pf_interface = {
    HdvPciDeviceInterfaceVersion1, device_initialize,  vf_teardown,         device_set_configuration,
    device_get_details,            device_start,       device_stop,         device_read_config,
    device_write_config,           device_read_memory, device_write_memory,
};

static inline HRESULT CALLBACK pf_supply(void* context, UINT16 vf, HDV_DEVICE handle,
                                         const VOID** interface_, void** vf_context)
{
    struct pf* pf = (struct pf*)context;
    pf->early = HdvUnregisterDoorbell(handle, HDV_PCI_BAR0, 0, 0, 0);
    if (pf->supply_hook != NULL) {
        pf->supply_hook(pf, handle);
    }
    if (vf == pf->fail_at) {
        if (pf->failure != S_OK) {
            return pf->failure;
        }
        *interface_ = pf->bad_table;
        return S_OK;
    }
    pf->supplied++;
    device_reset(&pf->vfs[vf]);
    pf->vfs[vf].handle = handle;
    pf->vfs[vf].host = pf->device.host;
    *interface_ = &vf_interface;
    *vf_context = &pf->vfs[vf];
    return S_OK;
}

static inline struct pf* new_pf(void)
{
    struct pf* pf = (struct pf*)calloc(1, sizeof *pf);
    pf->fail_at = NO_VF;
    pf->early = S_OK;
    noting_pf = pf;
    return pf;
}

static inline void free_pf(struct pf* pf)
{
    noting_pf = NULL;
    free(pf);
}

/* Device 0, function 0, on bus 1 of segment 0; TotalVFs 7, which fit behind it. */
static inline OPENHDV_PHYSICAL_FUNCTION pf_description(void)
{
    OPENHDV_PHYSICAL_FUNCTION description;
    memset(&description, 0, sizeof description);
    description.Version = OpenHdvPhysicalFunctionVersion1;
    description.ProbedBars[0] = 0xfffff000;
    description.TotalVFs = 7;
    description.VirtualFunctionDeviceID = VF_DEVICE_ID;
    description.SecondaryBus = 1;
    description.SubordinateBus = 1;
    description.SupplyVirtualFunction = pf_supply;
    return description;
}

static inline HRESULT pf_create_as(HDV_HOST host, struct pf* pf, const GUID* instance,
                                   const OPENHDV_PHYSICAL_FUNCTION* description)
{
    pf->device.host = host;
    return OpenHdvCreatePhysicalFunction(host, &device_class, instance, &pf_interface, pf,
                                         description, &pf->device.handle);
}

static inline HRESULT pf_create(HDV_HOST host, struct pf* pf,
                                const OPENHDV_PHYSICAL_FUNCTION* description)
{
    GUID instance = next_instance();
    return pf_create_as(host, pf, &instance, description);
}

static inline NTSTATUS query(HDV_DEVICE device, PCI_VIRTUALIZATION_INTERFACE* interface_)
{
    return OpenHdvQueryPciVirtualizationInterface(device, &GUID_PCI_VIRTUALIZATION_INTERFACE,
                                                  sizeof *interface_,
                                                  OPENHDV_PCI_VIRTUALIZATION_INTERFACE_VERSION,
                                                  interface_);
}

static inline NTSTATUS enable_vfs(const PCI_VIRTUALIZATION_INTERFACE* of, UINT16 count)
{
    return of->EnableVirtualization(of->Context, count, FALSE, FALSE, TRUE);
}

static inline NTSTATUS disable_vfs(const PCI_VIRTUALIZATION_INTERFACE* of)
{
    return of->EnableVirtualization(of->Context, 0, FALSE, FALSE, FALSE);
}

#endif
