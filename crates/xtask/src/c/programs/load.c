/* Loads the library at run time under both of its names: all functions are there under either, and what one
 * made the other knows. Takes a directory for a system of sockets and the two names, in the order in which they
 * are loaded. Ends with 0 if all of it works. */
#include <openhdv.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static const char *const names[] = {
    "HdvInitializeDeviceHost",
    "HdvInitializeDeviceHostEx",
    "HdvInitializeDeviceHostForProxy",
    "HdvInitializeDeviceHostForProxyEx",
    "HdvProxyDeviceHost",
    "HdvTeardownDeviceHost",
    "HdvCreateDeviceInstance",
    "HdvReadGuestMemory",
    "HdvWriteGuestMemory",
    "HdvCreateGuestMemoryAperture",
    "HdvDestroyGuestMemoryAperture",
    "HdvDeliverGuestInterrupt",
    "HdvRegisterDoorbell",
    "HdvUnregisterDoorbell",
    "HdvRegisterDoorbellPage",
    "HdvUnregisterDoorbellPage",
    "HdvCreateSectionBackedMmioRange",
    "HdvDestroySectionBackedMmioRange",
};

#define COUNT (sizeof names / sizeof names[0])

typedef HRESULT(WINAPI *open_system)(const char *, HCS_SYSTEM *);
typedef HRESULT(WINAPI *initialize_host)(HCS_SYSTEM, HDV_HOST *);
typedef HRESULT(WINAPI *teardown_host)(HDV_HOST);
typedef void(WINAPI *close_system)(HCS_SYSTEM);

/* The standards have no cast from what dlsym gives to a function. */
static int find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);

    if (found == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 0;
    }
    memcpy(function, &found, sizeof found);
    return 1;
}

int main(int argc, char **argv)
{
    void *first, *second;
    open_system open = NULL;
    initialize_host initialize = NULL;
    teardown_host teardown = NULL;
    close_system close = NULL;
    HCS_SYSTEM system;
    HDV_HOST host;
    HRESULT result;
    size_t index;

    if (argc != 4) {
        fprintf(stderr, "usage: load DIRECTORY LIBRARY LIBRARY\n");
        return 2;
    }
    first = dlopen(argv[2], RTLD_NOW | RTLD_LOCAL);
    second = first == NULL ? NULL : dlopen(argv[3], RTLD_NOW | RTLD_LOCAL);
    if (second == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    for (index = 0; index < COUNT; index++) {
        void *one = NULL, *other = NULL;

        if (!find(first, names[index], &one) || !find(second, names[index], &other))
            return 1;
        if (one != other) {
            fprintf(stderr, "there are two of %s\n", names[index]);
            return 1;
        }
    }
    if (!find(first, "OpenHdvOpenSocketSystem", &open) ||
        !find(second, "HdvInitializeDeviceHost", &initialize) ||
        !find(first, "HdvTeardownDeviceHost", &teardown) ||
        !find(second, "HcsCloseComputeSystem", &close))
        return 1;
    result = open(argv[1], &system);
    if (SUCCEEDED(result))
        result = initialize(system, &host);
    if (SUCCEEDED(result))
        result = teardown(host);
    if (FAILED(result)) {
        fprintf(stderr, "what one made the other does not know: %#lx\n",
                (unsigned long)(result & 0xffffffff));
        return 1;
    }
    close(system);
    printf("%d functions\n", (int)COUNT);
    return 0;
}
