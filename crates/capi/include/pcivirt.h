/*
 * The virtual functions (VFs) of a physical function (PF) with SR-IOV: PCI_VIRTUALIZATION_INTERFACE of
 * wdm.h, over a PF of this process or a real one of this machine.
 *
 * Two functions here, at the end, stand for the IRP_MN_QUERY_INTERFACE of a Windows driver. PFs of this
 * process are made by OpenHdvCreatePhysicalFunction (openhdv.h). VFs are counted from 0. What fails leaves
 * a text for OpenHdvGetLastErrorText (openhdv.h) on its thread.
 *
 * A child of fork has no device of its parent's: in an interface that it inherited the device is gone, and a
 * handle gives STATUS_INVALID_HANDLE.
 */
#ifndef OPENHDV_PCIVIRT_H
#define OPENHDV_PCIVIRT_H

#include "computedefs.h"
#include "hypervdevicevirtualization.h"

/* ---- Results. ---- */

typedef LONG NTSTATUS;

#define NT_SUCCESS(status) (((NTSTATUS)(status)) >= 0)

#ifndef STATUS_SUCCESS
#define STATUS_SUCCESS ((NTSTATUS)0)
#endif
#ifndef STATUS_UNSUCCESSFUL
#define STATUS_UNSUCCESSFUL ((NTSTATUS)0xC0000001u)
#endif
#ifndef STATUS_INVALID_HANDLE
#define STATUS_INVALID_HANDLE ((NTSTATUS)0xC0000008u)
#endif
#ifndef STATUS_INVALID_PARAMETER
#define STATUS_INVALID_PARAMETER ((NTSTATUS)0xC000000Du)
#endif
#ifndef STATUS_ACCESS_DENIED
#define STATUS_ACCESS_DENIED ((NTSTATUS)0xC0000022u)
#endif
#ifndef STATUS_BUFFER_TOO_SMALL
#define STATUS_BUFFER_TOO_SMALL ((NTSTATUS)0xC0000023u)
#endif
#ifndef STATUS_NOT_SUPPORTED
#define STATUS_NOT_SUPPORTED ((NTSTATUS)0xC00000BBu)
#endif
#ifndef STATUS_INVALID_DEVICE_STATE
#define STATUS_INVALID_DEVICE_STATE ((NTSTATUS)0xC0000184u)
#endif
#ifndef STATUS_POSSIBLE_DEADLOCK
#define STATUS_POSSIBLE_DEADLOCK ((NTSTATUS)0xC0000194u)
#endif

/* ---- The interface. ---- */

/* {64897B47-3A4A-4D75-BC74-89DD6C078293} */
DEFINE_GUID(GUID_PCI_VIRTUALIZATION_INTERFACE, 0x64897B47, 0x3A4A, 0x4D75, 0xBC, 0x74, 0x89, 0xDD,
            0x6C, 0x07, 0x82, 0x93);

/* The version of PCI_VIRTUALIZATION_INTERFACE that is here. */
#define OPENHDV_PCI_VIRTUALIZATION_INTERFACE_VERSION 1

#ifdef __cplusplus
extern "C" {
#endif

/* The routines. Context is the member of that name of the table that the routine is in.
 *
 * There are no IRQLs here: routines may be called on any thread, several at once, and may block. They may also
 * be called from inside callbacks. There, those that would wait for a call into a device of the PF's host
 * (EnableVirtualization, SetVirtualFunctionData, GetVirtualFunctionData) fail: STATUS_POSSIBLE_DEADLOCK, or
 * 0 bytes.
 *
 * Parameters are checked before state: STATUS_INVALID_PARAMETER also for a null pointer. But when the
 * device is gone, and after the last InterfaceDereference, whatever is asked gives
 * STATUS_INVALID_DEVICE_STATE, 0 bytes or 0 buses. On a failure nothing is written, but for the buses of
 * GetResources, which are 0 then. */

/* Adds to how often InterfaceDereference must be called. */
typedef VOID(NTAPI* PINTERFACE_REFERENCE)(_In_opt_ PVOID Context);

/* Takes back one InterfaceReference, or what the query counted. The last one ends Context. */
typedef VOID(NTAPI* PINTERFACE_DEREFERENCE)(_In_opt_ PVOID Context);

/* Writes Length bytes of Buffer to a VF's own config space, from byte Offset on. What goes beyond its 4096
 * bytes is left out; neither needs an alignment. Returns how many bytes were written: 0 if there is no such
 * VF now, if it could not be powered on, if Length is 0 or Offset 4096 or more. Powers the VF on if nobody
 * has yet. */
typedef ULONG NTAPI SET_VIRTUAL_DEVICE_DATA(_In_opt_ PVOID Context,
                                            _In_ USHORT VirtualFunction,
                                            _In_reads_bytes_(Length) PVOID Buffer,
                                            _In_ ULONG Offset,
                                            _In_ ULONG Length);
typedef SET_VIRTUAL_DEVICE_DATA* PSET_VIRTUAL_DEVICE_DATA;

/* Reads a VF's own config space, as SET_VIRTUAL_DEVICE_DATA writes it. By the rules of SR-IOV its vendor and
 * device id read 0xFFFF, its BARs 0. */
typedef ULONG NTAPI GET_VIRTUAL_DEVICE_DATA(_In_opt_ PVOID Context,
                                            _In_ USHORT VirtualFunction,
                                            _Out_writes_bytes_(Length) PVOID Buffer,
                                            _In_ ULONG Offset,
                                            _In_ ULONG Length);
typedef GET_VIRTUAL_DEVICE_DATA* PGET_VIRTUAL_DEVICE_DATA;

/* Tells where a VF is or, while it is not enabled, would be. The function number is that of ARI, 0 to 255 on
 * the bus; without ARI its bits 7:3 are the device number, bits 2:0 the function number. Buses can be
 * renumbered: do not keep it.
 *
 * STATUS_INVALID_PARAMETER if VirtualFunction is TotalVFs or more, STATUS_NOT_SUPPORTED in a Linux domain above
 * 0xFFFF, which no segment number is, STATUS_INVALID_DEVICE_STATE for a VF of a real PF that leaves First VF
 * Offset and VF Stride open until VFs are enabled. */
typedef NTSTATUS NTAPI GET_VIRTUAL_DEVICE_LOCATION(_In_opt_ PVOID Context,
                                                   _In_ USHORT VirtualFunction,
                                                   _Out_ PUINT16 SegmentNumber,
                                                   _Out_ PUINT8 BusNumber,
                                                   _Out_ PUINT8 FunctionNumber);
typedef GET_VIRTUAL_DEVICE_LOCATION* PGET_VIRTUAL_DEVICE_LOCATION;

/* Tells how many buses are captured for the PF beyond its own: subordinate minus secondary bus number of the
 * port above; 0 without SR-IOV. */
typedef VOID NTAPI GET_VIRTUAL_DEVICE_RESOURCES(_In_opt_ PVOID Context,
                                                _Out_ PUINT8 CapturedBusNumbers);
typedef GET_VIRTUAL_DEVICE_RESOURCES* PGET_VIRTUAL_DEVICE_RESOURCES;

/* Writes NumVFs and sets or clears VF Enable. NumVFs is 1 to TotalVFs to enable, 0 to disable; any BOOLEAN but
 * 0 is TRUE. When it returns, either all NumVFs VFs are there or none is. Disabling stops VFs that are in use,
 * and tears all of them down.
 *
 * STATUS_INVALID_PARAMETER for another NumVFs, for a migration interrupt without migration, for migration that
 * the device does not have. STATUS_INVALID_DEVICE_STATE if VFs are enabled, or disabled, already, if a PF of
 * this process is not powered on, if the device has no SR-IOV. STATUS_UNSUCCESSFUL if a PF of this process
 * could not make its VFs, or the kernel or a real PF's driver refused. STATUS_ACCESS_DENIED for a real PF
 * without permission. */
typedef NTSTATUS NTAPI ENABLE_VIRTUALIZATION(_In_opt_ PVOID Context,
                                             _In_ UINT16 NumVFs,
                                             _In_ BOOLEAN EnableVfMigration,
                                             _In_ BOOLEAN EnableMigrationInterrupt,
                                             _In_ BOOLEAN EnableVirtualization);
typedef ENABLE_VIRTUALIZATION* PENABLE_VIRTUALIZATION;

/* Gives what each VF BAR of the PF's SR-IOV capability read after all ones were written to it, when the device
 * was found: six values, of which a 64-bit BAR has two, and one that is not there is 0.
 * STATUS_INVALID_DEVICE_STATE if the device has no SR-IOV. */
typedef NTSTATUS NTAPI GET_VIRTUAL_FUNCTION_PROBED_BARS(
    _In_opt_ PVOID Context, _Out_writes_(HDV_PCI_BAR_COUNT) PULONG BaseRegisterValues);
typedef GET_VIRTUAL_FUNCTION_PROBED_BARS* PGET_VIRTUAL_FUNCTION_PROBED_BARS;

/* What every interface begins with. */
typedef struct _INTERFACE {
    USHORT Size;
    USHORT Version;
    PVOID Context;
    PINTERFACE_REFERENCE InterfaceReference;
    PINTERFACE_DEREFERENCE InterfaceDereference;
} INTERFACE, *PINTERFACE;

/* An INTERFACE with the routines for VFs. */
typedef struct _PCI_VIRTUALIZATION_INTERFACE {
    USHORT Size;
    USHORT Version;
    PVOID Context;
    PINTERFACE_REFERENCE InterfaceReference;
    PINTERFACE_DEREFERENCE InterfaceDereference;
    PSET_VIRTUAL_DEVICE_DATA SetVirtualFunctionData;
    PGET_VIRTUAL_DEVICE_DATA GetVirtualFunctionData;
    PGET_VIRTUAL_DEVICE_LOCATION GetLocation;
    PGET_VIRTUAL_DEVICE_RESOURCES GetResources;
    PENABLE_VIRTUALIZATION EnableVirtualization;
    PGET_VIRTUAL_FUNCTION_PROBED_BARS GetVirtualFunctionProbedBars;
} PCI_VIRTUALIZATION_INTERFACE, *PPCI_VIRTUALIZATION_INTERFACE;

/* ---- How it is had. ---- */

/* Fills an interface of a device of this process, a PF or any other: without SR-IOV it has 0 bytes of data, 0
 * buses and no locations, and EnableVirtualization and GetVirtualFunctionProbedBars give
 * STATUS_INVALID_DEVICE_STATE. Size is that of *Interface in bytes, Version the newest that the caller
 * knows; the members of these names tell what was filled in. It is referenced once for the caller, and stays
 * safe to use when the device is gone.
 *
 * Checked in this order: STATUS_INVALID_PARAMETER for a null pointer, STATUS_INVALID_HANDLE for what is no
 * handle of a device, STATUS_NOT_SUPPORTED for another interface than
 * GUID_PCI_VIRTUALIZATION_INTERFACE or a version above 1, STATUS_BUFFER_TOO_SMALL for a Size that
 * is less than the interface has. After a failure *Interface is as it was. */
NTSTATUS WINAPI OpenHdvQueryPciVirtualizationInterface(_In_ HDV_DEVICE Device,
                                                       _In_ const GUID* InterfaceType,
                                                       _In_ USHORT Size,
                                                       _In_ USHORT Version,
                                                       _Out_ PPCI_VIRTUALIZATION_INTERFACE Interface);

/* The same for a PCI function of this machine, by its address in sysfs: "0000:01:00.0", or without the domain
 * "01:00.0", in hexadecimal. STATUS_INVALID_PARAMETER also for a text that is no address; where
 * there is no such function what the kernel said, as STATUS_UNSUCCESSFUL or STATUS_ACCESS_DENIED. */
NTSTATUS WINAPI OpenHdvQueryPciVirtualizationInterfaceAt(_In_z_ const char* Address,
                                                         _In_ const GUID* InterfaceType,
                                                         _In_ USHORT Size,
                                                         _In_ USHORT Version,
                                                         _Out_ PPCI_VIRTUALIZATION_INTERFACE Interface);

#ifdef __cplusplus
}
#endif

#endif /* OPENHDV_PCIVIRT_H */
