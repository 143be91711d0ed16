/* Drives the VFs of a real PF by its address in sysfs, and prints a line for each check: "ok NAME" or "FAILED NAME: why".
 * What Linux says of the PF is what the answers are compared with. VFs are disabled at the beginning and at the end.
 *
 *     pf_sysfs ADDRESS [COUNT [vanish]]
 *
 * COUNT, 2 if it is left out, VFs are enabled. By "vanish" the PF is taken from the machine in the end, and found again by a
 * rescan. Without root's rights only their lack is checked; a function without SR-IOV is checked for having no VFs.
 */
#define _POSIX_C_SOURCE 200809L /* for readlink */

#include <pcivirt.h>
#include <openhdv.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *pf_address;
static PCI_VIRTUALIZATION_INTERFACE table;
static int failed;
/* Why the check that is under way failed; empty if it did not. */
static char why[1024];

/* Notes why a check failed, the first reason only. */
static void wrong(const char *format, ...)
{
    va_list arguments;

    if (why[0] != '\0')
        return;
    va_start(arguments, format);
    vsnprintf(why, sizeof why, format, arguments);
    va_end(arguments);
}

/* Ends a check. */
static void checked(const char *name)
{
    if (why[0] == '\0')
        printf("ok %s\n", name);
    else
        printf("FAILED %s: %s\n", name, why);
    fflush(stdout);
    failed |= why[0] != '\0';
    why[0] = '\0';
}

static const char *text(void)
{
    static char buffer[768];

    OpenHdvGetLastErrorText(buffer, sizeof buffer);
    return buffer;
}

static void expect(const char *what, NTSTATUS status, NTSTATUS expected)
{
    if (status != expected)
        wrong("%s gave 0x%08" PRIx32 ", not 0x%08" PRIx32 " (%s)", what, (uint32_t)status,
              (uint32_t)expected, text());
    else if (!NT_SUCCESS(status) && text()[0] == '\0')
        wrong("%s left no text", what);
}

static NTSTATUS enable(unsigned count)
{
    return table.EnableVirtualization(table.Context, (UINT16)count, FALSE, FALSE, TRUE);
}

static NTSTATUS disable(void)
{
    return table.EnableVirtualization(table.Context, 0, FALSE, FALSE, FALSE);
}

static ULONG get(unsigned vf, void *buffer, ULONG offset, ULONG length)
{
    return table.GetVirtualFunctionData(table.Context, (USHORT)vf, buffer, offset, length);
}

static ULONG set(unsigned vf, void *buffer, ULONG offset, ULONG length)
{
    return table.SetVirtualFunctionData(table.Context, (USHORT)vf, buffer, offset, length);
}

static void path_of(char *path, size_t size, const char *name)
{
    snprintf(path, size, "/sys/bus/pci/devices/%s/%s", pf_address, name);
}

/* The number in an attribute of the PF; -1 if there is none. */
static long attribute(const char *name)
{
    char path[256];
    long number = -1;
    FILE *file;

    path_of(path, sizeof path, name);
    file = fopen(path, "r");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%ld", &number) != 1)
        number = -1;
    fclose(file);
    return number;
}

static int write_one(const char *path)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        return 0;
    /* The kernel answers when the buffer goes out. */
    return (fputs("1\n", file) >= 0) & (fclose(file) == 0);
}

/* Where Linux says that a VF is; empty if nowhere. */
static void linux_location(unsigned vf, char *address, size_t size)
{
    char path[256], name[32], target[256];
    const char *slash;
    ssize_t length;

    snprintf(name, sizeof name, "virtfn%u", vf);
    path_of(path, sizeof path, name);
    length = readlink(path, target, sizeof target - 1);
    target[length < 0 ? 0 : length] = '\0';
    slash = strrchr(target, '/');
    snprintf(address, size, "%.*s", (int)size - 1, slash == NULL ? target : slash + 1);
}

static NTSTATUS locate(unsigned vf, char *address, size_t size)
{
    UINT16 segment = 0;
    UINT8 bus = 0, function = 0;
    NTSTATUS status =
        table.GetLocation(table.Context, (USHORT)vf, &segment, &bus, &function);

    snprintf(address, size, "%04x:%02x:%02x.%x", segment, bus, function >> 3, function & 7);
    return status;
}

/* TotalVFs: the first VF that there cannot be. */
static unsigned total_vfs(void)
{
    char address[32];
    unsigned vf = 0;

    while (vf < 0xffff && locate(vf, address, sizeof address) != STATUS_INVALID_PARAMETER)
        vf++;
    return vf;
}

static void expect_no_data(const char *what, unsigned vf, void *buffer, ULONG offset, ULONG length)
{
    if (get(vf, buffer, offset, length) != 0 || set(vf, buffer, offset, length) != 0)
        wrong("data of %s were moved", what);
    else if (text()[0] == '\0')
        wrong("%s left no text", what);
}

static void check_query(void)
{
    GUID other = GUID_PCI_VIRTUALIZATION_INTERFACE;
    PCI_VIRTUALIZATION_INTERFACE place;

    other.Data1 ^= 1;
    expect("another interface",
           OpenHdvQueryPciVirtualizationInterfaceAt(pf_address, &other, sizeof place, 1, &place),
           STATUS_NOT_SUPPORTED);
    expect("a newer version",
           OpenHdvQueryPciVirtualizationInterfaceAt(
               pf_address, &GUID_PCI_VIRTUALIZATION_INTERFACE, sizeof place, 2, &place),
           STATUS_NOT_SUPPORTED);
    expect("a short size",
           OpenHdvQueryPciVirtualizationInterfaceAt(
               pf_address, &GUID_PCI_VIRTUALIZATION_INTERFACE, sizeof place - 1, 1, &place),
           STATUS_BUFFER_TOO_SMALL);
    expect("an address where nothing is",
           OpenHdvQueryPciVirtualizationInterfaceAt(
               "ffff:ff:1f.7", &GUID_PCI_VIRTUALIZATION_INTERFACE, sizeof place, 1, &place),
           STATUS_UNSUCCESSFUL);
    expect("what is no address",
           OpenHdvQueryPciVirtualizationInterfaceAt(
               "pf", &GUID_PCI_VIRTUALIZATION_INTERFACE, sizeof place, 1, &place),
           STATUS_INVALID_PARAMETER);
    expect("the query",
           OpenHdvQueryPciVirtualizationInterfaceAt(
               pf_address, &GUID_PCI_VIRTUALIZATION_INTERFACE, sizeof table, 1, &table),
           STATUS_SUCCESS);
    if (table.Size != 80 || table.Version != 1)
        wrong("Size is %u, Version %u", table.Size, table.Version);
    checked("query");
}

static void check_without_sriov(void)
{
    char address[32];
    ULONG bars[HDV_PCI_BAR_COUNT];
    BYTE bytes[4];
    UINT8 buses = 9;

    expect("probed BARs", table.GetVirtualFunctionProbedBars(table.Context, bars),
           STATUS_INVALID_DEVICE_STATE);
    expect("enabling", enable(1), STATUS_INVALID_DEVICE_STATE);
    expect("disabling", disable(), STATUS_INVALID_DEVICE_STATE);
    expect("a location", locate(0, address, sizeof address), STATUS_INVALID_PARAMETER);
    expect_no_data("a function without SR-IOV", 0, bytes, 0, 4);
    table.GetResources(table.Context, &buses);
    if (buses != 0)
        wrong("%u buses are captured", buses);
    checked("without-sriov");
}

static void check_probed_bars(void)
{
    ULONG bars[HDV_PCI_BAR_COUNT];
    UINT8 buses = 0;

    expect("probed BARs", table.GetVirtualFunctionProbedBars(table.Context, bars), STATUS_SUCCESS);
    expect("probed BARs to nowhere", table.GetVirtualFunctionProbedBars(table.Context, NULL),
           STATUS_INVALID_PARAMETER);
    if (why[0] == '\0')
        for (int bar = 0; bar < HDV_PCI_BAR_COUNT; bar++)
            printf("bar %d 0x%08" PRIx32 "\n", bar, bars[bar]);
    table.GetResources(table.Context, &buses);
    printf("captured %u\n", buses);
    checked("probed-bars");
}

static void check_refused_parameters(unsigned total)
{
    char address[32];

    expect("enabling 0", enable(0), STATUS_INVALID_PARAMETER);
    expect("enabling TotalVFs + 1", enable(total + 1), STATUS_INVALID_PARAMETER);
    expect("enabling 65535", enable(0xffff), STATUS_INVALID_PARAMETER);
    expect("disabling with a number",
           table.EnableVirtualization(table.Context, 1, FALSE, FALSE, FALSE),
           STATUS_INVALID_PARAMETER);
    expect("a migration interrupt without migration",
           table.EnableVirtualization(table.Context, 1, FALSE, TRUE, TRUE),
           STATUS_INVALID_PARAMETER);
    expect("migration", table.EnableVirtualization(table.Context, 1, TRUE, FALSE, TRUE),
           STATUS_INVALID_PARAMETER);
    expect("disabling with migration",
           table.EnableVirtualization(table.Context, 0, TRUE, FALSE, FALSE),
           STATUS_INVALID_PARAMETER);
    expect("the location of VF TotalVFs", locate(total, address, sizeof address),
           STATUS_INVALID_PARAMETER);
    expect("a location to nowhere", table.GetLocation(table.Context, 0, NULL, NULL, NULL),
           STATUS_INVALID_PARAMETER);
}

static void check_disabled(void)
{
    BYTE bytes[4];

    expect("disabling what is disabled", disable(), STATUS_INVALID_DEVICE_STATE);
    expect_no_data("a VF that is not enabled", 0, bytes, 0, 4);
    if (attribute("sriov_numvfs") != 0)
        wrong("Linux has %ld VFs", attribute("sriov_numvfs"));
}

static void check_locations(unsigned count)
{
    for (unsigned vf = 0; vf < count; vf++) {
        char ours[32], theirs[32];

        expect("a location", locate(vf, ours, sizeof ours), STATUS_SUCCESS);
        linux_location(vf, theirs, sizeof theirs);
        if (strcmp(ours, theirs) != 0)
            wrong("VF %u is at %s, but Linux says %s", vf, ours, theirs);
        printf("vf %u %s\n", vf, ours);
    }
    checked("locations");
}

static void check_data(unsigned count)
{
    const BYTE zeroes[24] = { 0 };

    for (unsigned vf = 0; vf < count; vf++) {
        BYTE space[4096], command[2], before[2];

        memset(space, 0, sizeof space);
        if (get(vf, space, 0, sizeof space) != sizeof space)
            wrong("not all of the config space of VF %u was read (%s)", vf, text());
        if (memcmp(space, "\xff\xff\xff\xff", 4) != 0)
            wrong("the ids of VF %u are %02x%02x:%02x%02x", vf, space[1], space[0], space[3], space[2]);
        if (memcmp(space + 0x10, zeroes, sizeof zeroes) != 0)
            wrong("the BARs of VF %u are not 0", vf);
        memcpy(before, space + 4, 2);
        for (int on = 1; on >= 0; on--) {
            /* With I/O and memory enable, which a VF does not have. */
            command[0] = on ? (BYTE)(before[0] | 7) : (BYTE)(before[0] & ~4);
            command[1] = before[1];
            if (set(vf, command, 4, 2) != 2 || get(vf, command, 4, 2) != 2)
                wrong("the command register of VF %u: %s", vf, text());
            if ((command[0] & 7) != (on ? 4 : 0))
                wrong("the command register of VF %u reads %02x, Bus Master Enable was %d", vf,
                      command[0], on);
        }
        if (set(vf, before, 4, 2) != 2)
            wrong("the command register of VF %u: %s", vf, text());
        if (get(vf, space, 4094, 16) != 2)
            wrong("the end of config space of VF %u was not cut", vf);
        expect_no_data("a range behind config space", vf, space, 4096, 4);
        expect_no_data("an empty range", vf, space, 0, 0);
        expect_no_data("no buffer", vf, NULL, 0, 4);
    }
    checked("config-space");
}

static void check_driver_refuses(unsigned total)
{
    long offered = attribute("sriov_totalvfs");

    if (offered < 0 || (unsigned)offered >= total)
        return;
    expect("enabling more than Linux offers", enable(total), STATUS_UNSUCCESSFUL);
    printf("refused: %s\n", text());
    if (attribute("sriov_numvfs") != 0)
        wrong("%ld VFs are enabled", attribute("sriov_numvfs"));
    checked("refused-by-linux");
}

static void check_vanished(void)
{
    char path[256], address[32];
    ULONG bars[HDV_PCI_BAR_COUNT];
    BYTE bytes[4];
    UINT8 buses = 9;

    path_of(path, sizeof path, "remove");
    if (!write_one(path))
        wrong("Linux does not remove the PF");
    expect("enabling", enable(1), STATUS_INVALID_DEVICE_STATE);
    expect("enabling 0", enable(0), STATUS_INVALID_DEVICE_STATE);
    expect("a location", locate(0xffff, address, sizeof address), STATUS_INVALID_DEVICE_STATE);
    expect("a location to nowhere", table.GetLocation(table.Context, 0, NULL, NULL, NULL),
           STATUS_INVALID_DEVICE_STATE);
    expect("probed BARs", table.GetVirtualFunctionProbedBars(table.Context, bars),
           STATUS_INVALID_DEVICE_STATE);
    expect("probed BARs to nowhere", table.GetVirtualFunctionProbedBars(table.Context, NULL),
           STATUS_INVALID_DEVICE_STATE);
    expect_no_data("a PF that is gone", 0, bytes, 0, 4);
    table.GetResources(table.Context, &buses);
    if (buses != 0)
        wrong("%u buses are captured", buses);
    if (!write_one("/sys/bus/pci/rescan"))
        wrong("Linux does not rescan");
    checked("vanished");
}

static void check_all(unsigned count, int vanish)
{
    unsigned total = total_vfs();

    printf("total %u\n", total);
    if (attribute("sriov_numvfs") > 0)
        disable();
    check_probed_bars();
    check_refused_parameters(total);
    check_disabled();
    checked("refusals-while-disabled");
    check_driver_refuses(total);
    expect("enabling", enable(count), STATUS_SUCCESS);
    if (attribute("sriov_numvfs") != (long)count)
        wrong("Linux has %ld VFs, not %u", attribute("sriov_numvfs"), count);
    checked("enable");
    check_refused_parameters(total);
    expect("enabling the same", enable(count), STATUS_INVALID_DEVICE_STATE);
    expect("enabling another number", enable(1), STATUS_INVALID_DEVICE_STATE);
    if (count < total) {
        BYTE bytes[4];
        expect_no_data("a VF that is not enabled", count, bytes, 0, 4);
    }
    checked("refusals-while-enabled");
    check_locations(count);
    check_data(count);
    expect("disabling", disable(), STATUS_SUCCESS);
    check_disabled();
    checked("disable");
    /* It can be done again. */
    expect("enabling", enable(1), STATUS_SUCCESS);
    expect("disabling", disable(), STATUS_SUCCESS);
    checked("once-more");
    if (vanish)
        check_vanished();
}

int main(int argc, char **argv)
{
    ULONG bars[HDV_PCI_BAR_COUNT];
    unsigned count = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 2;
    int vanish = argc > 3 && strcmp(argv[3], "vanish") == 0;

    if (argc < 2 || argc > 4 || count == 0 || (argc > 3 && !vanish)) {
        fprintf(stderr, "usage: pf_sysfs ADDRESS [COUNT [vanish]]\n");
        return 2;
    }
    pf_address = argv[1];
    check_query();
    if (table.Context == NULL)
        return 1;
    if (attribute("sriov_numvfs") < 0) {
        check_without_sriov();
    } else if (geteuid() != 0) {
        expect("enabling without permission", enable(1), STATUS_ACCESS_DENIED);
        printf("refused: %s\n", text());
        checked("no-permission");
    } else {
        check_all(count, vanish);
    }
    table.InterfaceDereference(table.Context);
    expect("what has ended", table.GetVirtualFunctionProbedBars(table.Context, bars),
           STATUS_INVALID_DEVICE_STATE);
    checked("dereferenced");
    return failed;
}
