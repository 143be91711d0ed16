/*
 * Loads the library, uses it on a thread, and unloads it: it must stay, since its handler of SIGBUS does, and
 * threads of it may.
 *
 *     unload LIBRARY DIRECTORY
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "openhdv.h"

static const char* library_path;
static const char* directory;
static void* library;

/* POSIX lets a pointer to an object be one to a function; C does not. */
static void find(const char* name, void* function)
{
    void* symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
}

static void* use(void* good)
{
    HRESULT (*open_system)(const char*, HCS_SYSTEM*);
    HRESULT (*initialize)(HCS_SYSTEM, HDV_HOST*);
    HRESULT (*tear_down)(HDV_HOST);
    void (*close_system)(HCS_SYSTEM);
    HCS_SYSTEM compute_system = NULL;
    HDV_HOST host = NULL;

    library = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return NULL;
    }
    find("OpenHdvOpenSocketSystem", &open_system);
    find("HdvInitializeDeviceHost", &initialize);
    find("HdvTeardownDeviceHost", &tear_down);
    find("HcsCloseComputeSystem", &close_system);
    *(int*)good = open_system(directory, &compute_system) == S_OK
        && initialize(compute_system, &host) == S_OK && tear_down(host) == S_OK;
    close_system(compute_system);
    return NULL;
}

int main(int argc, char** argv)
{
    if (argc != 3) {
        return 2;
    }
    library_path = argv[1];
    directory = argv[2];
    /* Twice: what the library set up the first time must still be good. */
    for (int round = 0; round < 2; round++) {
        pthread_t thread;
        int good = 0;
        if (pthread_create(&thread, NULL, use, &good) != 0 || pthread_join(thread, NULL) != 0 || !good) {
            fprintf(stderr, "round %d: it could not be used\n", round);
            return 1;
        }
        if (dlclose(library) != 0) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
        if (dlopen(library_path, RTLD_NOW | RTLD_NOLOAD) == NULL) {
            fprintf(stderr, "round %d: it was unmapped\n", round);
            return 1;
        }
    }
    return 0;
}
