/* Linked with one of the library's two names: opens a system of sockets in the directory that it is given, and a
 * device host for it. Ends with 0 if all of it works. */
#include <openhdv.h>
#include <stdio.h>

static int failed(const char *what, HRESULT result)
{
    char text[256];
    OpenHdvGetLastErrorText(text, sizeof text);
    fprintf(stderr, "%s: %#lx: %s\n", what, (unsigned long)(result & 0xffffffff), text);
    return 1;
}

int main(int argc, char **argv)
{
    HCS_SYSTEM system;
    HDV_HOST host;
    HRESULT result;

    if (argc != 2) {
        fprintf(stderr, "usage: link DIRECTORY\n");
        return 2;
    }
    result = OpenHdvOpenSocketSystem(argv[1], &system);
    if (FAILED(result))
        return failed("OpenHdvOpenSocketSystem", result);
    result = HdvInitializeDeviceHost(system, &host);
    if (FAILED(result))
        return failed("HdvInitializeDeviceHost", result);
    result = HdvTeardownDeviceHost(host);
    if (FAILED(result))
        return failed("HdvTeardownDeviceHost", result);
    HcsCloseComputeSystem(system);
    return 0;
}
