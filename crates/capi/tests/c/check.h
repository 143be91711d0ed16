/*
 * Checks of one area: each is a function of its own, named for the function under test and the
 * condition. The program prints "ok <name>" for each that held.
 */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "openhdv.h"

static int check_failed;
static int check_any_failed;

#define EXPECT(condition)                                                                        \
    do {                                                                                         \
        if (!(condition)) {                                                                      \
            printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                       \
            check_failed = 1;                                                                    \
        }                                                                                        \
    } while (0)

#define EXPECT_RESULT(call, expected)                                                            \
    do {                                                                                         \
        HRESULT expect_result = (call);                                                          \
        if (expect_result != (HRESULT)(expected)) {                                              \
            char expect_text[512];                                                               \
            OpenHdvGetLastErrorText(expect_text, sizeof expect_text);                            \
            printf("%s:%d: %s gave %08" PRIx32 ", not %08" PRIx32 " (%s)\n", __FILE__, __LINE__, \
                   #call, (uint32_t)expect_result, (uint32_t)(expected), expect_text);           \
            check_failed = 1;                                                                    \
        }                                                                                        \
    } while (0)

#define CHECK(name) static void name(void)

#define RUN(name)                                                                                \
    do {                                                                                         \
        check_failed = 0;                                                                        \
        name();                                                                                  \
        printf("%s %s\n", check_failed ? "FAILED" : "ok", #name);                                \
        fflush(stdout);                                                                          \
        check_any_failed |= check_failed;                                                        \
    } while (0)

#define FINISH() return check_any_failed

#define WIN32(name) HRESULT_FROM_WIN32(ERROR_##name)

/* Where the sockets of this program go; from the command line. */
static const char* check_directory;

#define BEGIN(argc, argv)                                                                        \
    do {                                                                                         \
        if ((argc) != 2) {                                                                       \
            fprintf(stderr, "usage: %s DIRECTORY\n", (argv)[0]);                                 \
            return 2;                                                                            \
        }                                                                                        \
        check_directory = (argv)[1];                                                             \
    } while (0)

static inline HCS_SYSTEM open_system(void)
{
    HCS_SYSTEM compute_system = NULL;
    EXPECT_RESULT(OpenHdvOpenSocketSystem(check_directory, &compute_system), S_OK);
    return compute_system;
}

static inline HDV_HOST open_host(void)
{
    HCS_SYSTEM compute_system = open_system();
    HDV_HOST host = NULL;
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &host), S_OK);
    HcsCloseComputeSystem(compute_system);
    return host;
}

/* A fresh instance id each time. */
static inline GUID next_instance(void)
{
    static UINT32 number;
    GUID guid = { 0x0d0d0000, 0x1111, 0x4222, { 0x83, 0x33, 0, 0, 0, 0, 0, 0 } };
    guid.Data1 += ++number;
    return guid;
}

#endif
