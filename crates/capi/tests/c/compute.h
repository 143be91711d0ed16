/*
 * What the checks of compute systems share: wide strings, documents, operations that are waited for.
 */
#ifndef COMPUTE_H
#define COMPUTE_H

#include "device.h"

/* Text as the functions take it; good until some further ones have been made. */
static inline PCWSTR wide(const char* text)
{
    static WCHAR buffers[8][4096];
    static unsigned next;
    WCHAR* buffer = buffers[next++ % 8];
    size_t at = 0;
    for (; text[at] != 0 && at + 1 < 4096; at++) {
        buffer[at] = (WCHAR)(unsigned char)text[at];
    }
    buffer[at] = 0;
    return buffer;
}

/* A document that was given away, as text, "" for none; it is freed. Good until the next one. */
static inline const char* taken(PWSTR document)
{
    static char text[16384];
    size_t at = 0;
    if (document != NULL) {
        for (; document[at] != 0 && at + 1 < sizeof text; at++) {
            text[at] = (char)document[at];
        }
        EXPECT(LocalFree(document) == NULL);
    }
    text[at] = 0;
    return text;
}

/* How the call of an operation ended; its document is in `result_document`. */
static const char* result_document = "";

static inline HRESULT result_of(HCS_OPERATION operation)
{
    PWSTR document = (PWSTR)(intptr_t)1;
    HRESULT result = HcsWaitForOperationResult(operation, INFINITE, &document);
    result_document = taken(document);
    return result;
}

/* A call with an operation of its own, from its beginning to its end. */
#define CALL(result, call)                                                                       \
    do {                                                                                         \
        HCS_OPERATION operation = HcsCreateOperation(NULL, NULL);                                \
        (result) = (call);                                                                       \
        if ((result) == S_OK) {                                                                  \
            (result) = result_of(operation);                                                     \
        }                                                                                        \
        HcsCloseOperation(operation);                                                            \
    } while (0)

#define EXPECT_CALL(call, expected)                                                              \
    do {                                                                                         \
        HRESULT call_result;                                                                     \
        CALL(call_result, call);                                                                 \
        EXPECT_RESULT(call_result, expected);                                                    \
    } while (0)

/* A compute system with this text in its Devices; its guest stays in the firmware. */
static inline const char* document_with(const char* devices)
{
    static char text[4096];
    snprintf(text, sizeof text,
             "{\"Owner\":\"checks\",\"SchemaVersion\":{\"Major\":2,\"Minor\":1},"
             "\"ShouldTerminateOnLastHandleClosed\":true,\"VirtualMachine\":{\"ComputeTopology\":"
             "{\"Memory\":{\"SizeInMB\":64},\"Processor\":{\"Count\":1}},\"Devices\":{%s}}}",
             devices);
    return text;
}

static inline const char* guid_text(const GUID* guid)
{
    static char texts[4][OPENHDV_GUID_TEXT_SIZE];
    static unsigned next;
    char* text = texts[next++ % 4];
    EXPECT_RESULT(OpenHdvFormatGuid(guid, text), S_OK);
    return text;
}

/* The settings of a device of this program. */
static inline const char* settings_of(const char* hosting_model)
{
    static char text[512];
    snprintf(text, sizeof text,
             "{\"EmulatorId\":\"%s\",\"HostingModel\":\"%s\",\"Configuration\":[\"one\",\"two\"]}",
             guid_text(&device_class), hosting_model);
    return text;
}

/* Devices with one device of this program. */
static inline const char* devices_with(const GUID* instance, const char* hosting_model)
{
    static char text[1024];
    snprintf(text, sizeof text, "\"FlexibleIov\":{\"%s\":%s}", guid_text(instance),
             settings_of(hosting_model));
    return text;
}

static inline const char* request(const char* type, const GUID* instance)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"ResourcePath\":\"VirtualMachine/Devices/FlexibleIov/%s\",\"RequestType\":\"%s\"%s%s}",
             guid_text(instance), type, strcmp(type, "Add") == 0 ? ",\"Settings\":" : "",
             strcmp(type, "Add") == 0 ? settings_of("External") : "");
    return text;
}

/* An id that no other check has. */
static inline const char* next_id(void)
{
    static char text[64];
    static unsigned number;
    snprintf(text, sizeof text, "check %u", ++number);
    return text;
}

static inline HCS_SYSTEM create_with(const char* devices)
{
    HCS_SYSTEM compute_system = NULL;
    EXPECT_CALL(HcsCreateComputeSystem(wide(next_id()), wide(document_with(devices)), operation,
                                       NULL, &compute_system),
                S_OK);
    EXPECT(compute_system != NULL);
    return compute_system;
}

#endif
