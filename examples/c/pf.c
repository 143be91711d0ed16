/*
 * A physical function (PF) with virtual functions (VFs): counters that share a sum.
 *
 *     pf DIRECTORY INSTANCE-ID [VFS]
 *
 * serves the PF on <DIRECTORY>/<INSTANCE-ID>.sock until SIGINT or SIGTERM. Of its 64 VFs as many are enabled as
 * VFS says, each on <DIRECTORY>/<INSTANCE-ID>-vf<n>.sock for a virtual machine of its own; without VFS
 * none is: `hdv sriov enable` does it then. Where each VF is on the bus is printed.
 *
 * Registers of BAR 0, 4 bytes each, little-endian, in accesses of 4 bytes:
 *
 *   of the PF                                     of a VF
 *   0x000  RO  "CNPF"                             0x000  RO  "CNVF"
 *   0x004  RO  VFs that are enabled               0x004  RO  its number, from 0
 *   0x008  RO  the sum of what all VFs counted    0x008  RW  what it counted; a write adds to it
 *   0x100  RO  what VF n counted, at 0x100 + 4n   0x00c  RO  the sum of what all VFs counted
 *
 * A VF counts from 0 again when a virtual machine starts it; the sum goes on.
 */
#define _POSIX_C_SOURCE 200809L

#include <openhdv.h>
#include <pcivirt.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define VENDOR 0x4f48
#define PF_DEVICE 0x0105
#define VF_DEVICE 0x0106
#define TOTAL_VFS 64
#define BAR0_PROBED 0xfffff000u /* a page */

/* The PF, which its VFs share. Each function is called on threads of its own: `lock` is for what they share. */
struct pf {
    HDV_DEVICE device;
    pthread_mutex_t lock;
    uint32_t sum;
    uint32_t enabled;
    uint32_t counts[TOTAL_VFS];
};

struct vf {
    struct pf *pf;
    HDV_DEVICE device; /* for guest memory and interrupts, which this one does not need */
    UINT16 number;
};

/* ---- What both kinds do alike: nothing. ---- */

static HRESULT CALLBACK Initialize(void *context)
{
    (void)context;
    return S_OK;
}

static HRESULT CALLBACK SetConfiguration(void *context, UINT32 count, const PCWSTR *values)
{
    (void)context, (void)count, (void)values;
    return S_OK;
}

static void CALLBACK Stop(void *context)
{
    (void)context;
}

/* The host answers for identity, BARs and, of the PF, SR-IOV. Software looks for that in devices with the capability
 * of PCI Express, the only one here. */
static HRESULT CALLBACK ReadConfigSpace(void *context, UINT32 offset, UINT32 *value)
{
    (void)context;
    switch (offset) {
    case 0x34: /* where the capabilities begin */
        *value = 0x40;
        break;
    case 0x40: /* PCI Express, version 2, an endpoint; the last of the list */
        *value = 0x00020010;
        break;
    case 0x44: /* function level reset */
        *value = 1u << 28;
        break;
    default:
        *value = 0;
        break;
    }
    return S_OK;
}

static HRESULT CALLBACK WriteConfigSpace(void *context, UINT32 offset, UINT32 value)
{
    (void)context, (void)offset, (void)value;
    return S_OK;
}

static HRESULT details(HDV_PCI_PNP_ID *id, UINT16 device, UINT32 count, UINT32 *probed)
{
    memset(id, 0, sizeof *id);
    id->VendorID = VENDOR;
    id->DeviceID = device;
    id->BaseClass = 0xff; /* fits no class */
    memset(probed, 0, count * sizeof *probed);
    probed[HDV_PCI_BAR0] = BAR0_PROBED;
    return S_OK;
}

/* Gives a register to an access; what is no dword reads 0. */
static HRESULT answer(uint32_t value, UINT64 length, BYTE *bytes)
{
    memset(bytes, 0, length);
    for (UINT64 i = 0; length == 4 && i < 4; i++) {
        bytes[i] = (BYTE)(value >> 8 * i);
    }
    return S_OK;
}

/* ---- VFs. ---- */

static void CALLBACK VfTeardown(void *context)
{
    struct vf *vf = (struct vf *)context;
    pthread_mutex_lock(&vf->pf->lock);
    vf->pf->enabled--;
    vf->pf->counts[vf->number] = 0;
    pthread_mutex_unlock(&vf->pf->lock);
    free(vf);
}

/* Must say the same as the PF does of its VFs. */
static HRESULT CALLBACK VfGetDetails(void *context, HDV_PCI_PNP_ID *id, UINT32 count, UINT32 *probed)
{
    (void)context;
    return details(id, VF_DEVICE, count, probed);
}

static HRESULT CALLBACK VfStart(void *context)
{
    struct vf *vf = (struct vf *)context;
    pthread_mutex_lock(&vf->pf->lock);
    vf->pf->counts[vf->number] = 0;
    pthread_mutex_unlock(&vf->pf->lock);
    return S_OK;
}

static HRESULT CALLBACK VfRead(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length, BYTE *value)
{
    struct vf *vf = (struct vf *)context;
    uint32_t found = 0;
    (void)bar; /* there is one */
    pthread_mutex_lock(&vf->pf->lock);
    switch (offset) {
    case 0x000:
        found = 0x46564e43; /* "CNVF" */
        break;
    case 0x004:
        found = vf->number;
        break;
    case 0x008:
        found = vf->pf->counts[vf->number];
        break;
    case 0x00c:
        found = vf->pf->sum;
        break;
    default:
        break;
    }
    pthread_mutex_unlock(&vf->pf->lock);
    return answer(found, length, value);
}

static HRESULT CALLBACK VfWrite(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length,
                                const BYTE *value)
{
    struct vf *vf = (struct vf *)context;
    (void)bar;
    if (offset == 0x008 && length == 4) {
        uint32_t more =
            value[0] | (uint32_t)value[1] << 8 | (uint32_t)value[2] << 16 | (uint32_t)value[3] << 24;
        pthread_mutex_lock(&vf->pf->lock);
        vf->pf->counts[vf->number] += more;
        vf->pf->sum += more;
        pthread_mutex_unlock(&vf->pf->lock);
    }
    return S_OK;
}

static const HDV_PCI_DEVICE_INTERFACE vf_callbacks = {
    HdvPciDeviceInterfaceVersion1, Initialize, VfTeardown, SetConfiguration, VfGetDetails, VfStart, Stop,
    ReadConfigSpace, WriteConfigSpace, VfRead, VfWrite,
};

/* ---- The PF. ---- */

static void CALLBACK PfTeardown(void *context)
{
    (void)context; /* It is main's; its VFs are gone by now. */
}

static HRESULT CALLBACK PfGetDetails(void *context, HDV_PCI_PNP_ID *id, UINT32 count, UINT32 *probed)
{
    (void)context;
    return details(id, PF_DEVICE, count, probed);
}

static HRESULT CALLBACK PfStart(void *context)
{
    (void)context;
    return S_OK;
}

static HRESULT CALLBACK PfRead(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length, BYTE *value)
{
    struct pf *pf = (struct pf *)context;
    uint32_t found = 0;
    (void)bar;
    pthread_mutex_lock(&pf->lock);
    if (offset == 0x000) {
        found = 0x46504e43; /* "CNPF" */
    } else if (offset == 0x004) {
        found = pf->enabled;
    } else if (offset == 0x008) {
        found = pf->sum;
    } else if (offset >= 0x100 && offset < 0x100 + 4 * TOTAL_VFS) {
        found = pf->counts[(offset - 0x100) / 4];
    }
    pthread_mutex_unlock(&pf->lock);
    return answer(found, length, value);
}

static HRESULT CALLBACK PfWrite(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset, UINT64 length,
                                const BYTE *value)
{
    (void)context, (void)bar, (void)offset, (void)length, (void)value;
    return S_OK;
}

/* A VF is about to be enabled. Its Teardown comes when it is disabled, or at once if another one cannot be supplied. */
static HRESULT CALLBACK SupplyVirtualFunction(void *context, UINT16 number, HDV_DEVICE device,
                                              const VOID **callbacks, void **vf_context)
{
    struct pf *pf = (struct pf *)context;
    struct vf *vf = (struct vf *)calloc(1, sizeof *vf);
    if (vf == NULL) {
        return E_OUTOFMEMORY;
    }
    vf->pf = pf;
    vf->device = device;
    vf->number = number;
    pthread_mutex_lock(&pf->lock);
    pf->enabled++;
    pthread_mutex_unlock(&pf->lock);
    *callbacks = &vf_callbacks;
    *vf_context = vf;
    return S_OK;
}

static const HDV_PCI_DEVICE_INTERFACE pf_callbacks = {
    HdvPciDeviceInterfaceVersion1, Initialize, PfTeardown, SetConfiguration, PfGetDetails, PfStart, Stop,
    ReadConfigSpace, WriteConfigSpace, PfRead, PfWrite,
};

/* {0f4b5a0e-62f4-4a8d-9d5c-6b0b3f1c0105}: which emulator this is. */
static const GUID class_id = {
    0x0f4b5a0e, 0x62f4, 0x4a8d, {0x9d, 0x5c, 0x6b, 0x0b, 0x3f, 0x1c, 0x01, 0x05}};

/* Device 0, function 0 on bus 1, below a port that forwards ARI: its VFs are the next functions of that bus. */
static HRESULT create(HDV_HOST host, const GUID *instance_id, struct pf *pf)
{
    OPENHDV_PHYSICAL_FUNCTION description;
    memset(&description, 0, sizeof description);
    description.Version = OpenHdvPhysicalFunctionVersion1;
    description.ProbedBars[HDV_PCI_BAR0] = BAR0_PROBED;
    description.TotalVFs = TOTAL_VFS;
    description.VirtualFunctionDeviceID = VF_DEVICE;
    description.SecondaryBus = 1;
    description.SubordinateBus = 1;
    description.AriForwarding = TRUE;
    description.SupplyVirtualFunction = SupplyVirtualFunction;
    return OpenHdvCreatePhysicalFunction(host, &class_id, instance_id, &pf_callbacks, pf, &description,
                                         &pf->device);
}

/* ---- The program. ---- */

static int failed(const char *what, unsigned result)
{
    char text[512];
    OpenHdvGetLastErrorText(text, sizeof text);
    fprintf(stderr, "pf: %s: 0x%08x: %s\n", what, result, text);
    return 1;
}

/* Enables VFs and prints where they are. The interface may be kept longer than its device; here it is needed once. */
static int enable(struct pf *pf, UINT16 count, const char *directory, const char *instance)
{
    PCI_VIRTUALIZATION_INTERFACE vfs;
    NTSTATUS status = OpenHdvQueryPciVirtualizationInterface(
        pf->device, &GUID_PCI_VIRTUALIZATION_INTERFACE, sizeof vfs,
        OPENHDV_PCI_VIRTUALIZATION_INTERFACE_VERSION, &vfs);
    if (!NT_SUCCESS(status)) {
        return failed("PCI_VIRTUALIZATION_INTERFACE", (unsigned)status);
    }
    status = vfs.EnableVirtualization(vfs.Context, count, FALSE, FALSE, TRUE);
    for (UINT16 vf = 0; NT_SUCCESS(status) && vf < count; vf++) {
        UINT16 segment;
        UINT8 bus, function;
        status = vfs.GetLocation(vfs.Context, vf, &segment, &bus, &function);
        if (NT_SUCCESS(status)) {
            printf("device counting-vf %04x:%02x:%02x.%x %s/%s-vf%u.sock\n", segment, bus, function >> 3,
                   function & 7u, directory, instance, vf);
        }
    }
    int result = NT_SUCCESS(status) ? 0 : failed("enabling VFs", (unsigned)status);
    vfs.InterfaceDereference(vfs.Context);
    return result;
}

int main(int argc, char **argv)
{
    static struct pf pf;
    HCS_SYSTEM system = NULL;
    HDV_HOST host = NULL;
    GUID instance_id;
    char instance[OPENHDV_GUID_TEXT_SIZE];
    char *end = NULL;
    unsigned long vfs = argc == 4 ? strtoul(argv[3], &end, 10) : 0;

    if (argc < 3 || argc > 4 || (end != NULL && (*end != '\0' || vfs == 0 || vfs > TOTAL_VFS))) {
        fprintf(stderr, "usage: pf DIRECTORY INSTANCE-ID [VFS]; 1 to %d VFS\n", TOTAL_VFS);
        return 2;
    }

    /* Before there is any thread, so that every one inherits it and sigwait gets the signals. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_mutex_init(&pf.lock, NULL);

    HRESULT hr = OpenHdvParseGuid(argv[2], &instance_id);
    if (FAILED(hr)) {
        return failed(argv[2], (unsigned)hr);
    }
    hr = OpenHdvOpenSocketSystem(argv[1], &system);
    if (FAILED(hr)) {
        return failed(argv[1], (unsigned)hr);
    }
    hr = HdvInitializeDeviceHost(system, &host);
    HcsCloseComputeSystem(system);
    if (FAILED(hr)) {
        return failed("HdvInitializeDeviceHost", (unsigned)hr);
    }
    OpenHdvFormatGuid(&instance_id, instance);
    hr = create(host, &instance_id, &pf);
    int status = FAILED(hr) ? failed("OpenHdvCreatePhysicalFunction", (unsigned)hr) : 0;
    if (status == 0 && vfs != 0) {
        status = enable(&pf, (UINT16)vfs, argv[1], instance);
    }
    if (status == 0) {
        printf("ready %s/%s.sock\n", argv[1], instance);
        fflush(stdout);
        int signal;
        sigwait(&signals, &signal);
    }
    hr = HdvTeardownDeviceHost(host);
    return FAILED(hr) ? failed("HdvTeardownDeviceHost", (unsigned)hr) : status;
}
