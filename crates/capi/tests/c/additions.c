/*
 * What openhdv.h adds.
 */
#include <unistd.h>

#include "device.h"

CHECK(open_hdv_open_socket_system_not_found)
{
    char path[4096];
    HCS_SYSTEM compute_system = (HCS_SYSTEM)path;
    snprintf(path, sizeof path, "%s/nowhere", check_directory);
    EXPECT_RESULT(OpenHdvOpenSocketSystem(path, &compute_system), HCS_E_SYSTEM_NOT_FOUND);
    EXPECT(compute_system == NULL);
    EXPECT_RESULT(OpenHdvOpenSocketSystem("", &compute_system), HCS_E_SYSTEM_NOT_FOUND);
    EXPECT_RESULT(OpenHdvOpenSocketSystem("/dev/null", &compute_system), HCS_E_SYSTEM_NOT_FOUND);
}

CHECK(open_hdv_open_socket_system_null)
{
    HCS_SYSTEM compute_system = NULL;
    EXPECT_RESULT(OpenHdvOpenSocketSystem(NULL, &compute_system), E_POINTER);
    EXPECT_RESULT(OpenHdvOpenSocketSystem(check_directory, NULL), E_POINTER);
}

CHECK(hdv_create_device_instance_directory_gone)
{
    char path[4096];
    struct device device;
    HCS_SYSTEM compute_system = NULL;
    HDV_HOST host = NULL;
    snprintf(path, sizeof path, "%s/goneXXXXXX", check_directory);
    EXPECT(mkdtemp(path) != NULL);
    EXPECT_RESULT(OpenHdvOpenSocketSystem(path, &compute_system), S_OK);
    EXPECT_RESULT(HdvInitializeDeviceHost(compute_system, &host), S_OK);
    EXPECT(rmdir(path) == 0);
    device_reset(&device);
    EXPECT_RESULT(device_create(host, &device), HCS_E_SYSTEM_NOT_FOUND);
    EXPECT(device.handle == NULL && device.order[0] == 0);
    EXPECT_RESULT(HdvTeardownDeviceHost(host), S_OK);
    HcsCloseComputeSystem(compute_system);
}

CHECK(open_hdv_set_configuration_bad_arguments)
{
    const WCHAR half[] = { 0xd83d, 0 };
    PCWSTR values[] = { half };
    PCWSTR missing[] = { NULL };
    GUID instance = next_instance();
    HCS_SYSTEM compute_system = open_system();
    EXPECT_RESULT(OpenHdvSetConfiguration(compute_system, NULL, 0, NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvSetConfiguration(compute_system, &instance, 1, NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvSetConfiguration(compute_system, &instance, 1, missing), E_POINTER);
    EXPECT_RESULT(OpenHdvSetConfiguration(compute_system, &instance, 1, values), E_INVALIDARG);
    EXPECT_RESULT(OpenHdvSetConfiguration(compute_system, &instance, 0, NULL), S_OK);
    HcsCloseComputeSystem(compute_system);
}

CHECK(open_hdv_create_event_is_an_eventfd)
{
    HANDLE event = NULL;
    uint64_t count = 3;
    int fd;
    EXPECT_RESULT(OpenHdvCreateEvent(NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvCreateEvent(&event), S_OK);
    fd = OPENHDV_DESCRIPTOR_FROM_HANDLE(event);
    EXPECT(fd > 0 && OPENHDV_HANDLE_FROM_DESCRIPTOR(fd) == event);
    EXPECT(read(fd, &count, sizeof count) == -1);
    EXPECT(write(fd, &count, sizeof count) == sizeof count);
    EXPECT(write(fd, &count, sizeof count) == sizeof count);
    EXPECT(read(fd, &count, sizeof count) == sizeof count && count == 6);
    EXPECT_RESULT(OpenHdvCloseHandle(event), S_OK);
}

CHECK(open_hdv_create_event_never_null)
{
    HANDLE event = NULL;
    int kept = dup(0);
    close(0);
    EXPECT_RESULT(OpenHdvCreateEvent(&event), S_OK);
    EXPECT(event != NULL);
    EXPECT_RESULT(OpenHdvCloseHandle(event), S_OK);
    if (kept >= 0) {
        EXPECT(dup2(kept, 0) == 0);
        close(kept);
    }
}

CHECK(open_hdv_create_section_is_zeroes)
{
    HANDLE section = NULL;
    char bytes[8] = { 1 };
    int fd;
    EXPECT_RESULT(OpenHdvCreateSection(4096, NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvCreateSection(0, &section), E_INVALIDARG);
    EXPECT_RESULT(OpenHdvCreateSection(UINT64_MAX, &section), E_INVALIDARG);
    EXPECT(section == NULL);
    EXPECT_RESULT(OpenHdvCreateSection(4096, &section), S_OK);
    fd = OPENHDV_DESCRIPTOR_FROM_HANDLE(section);
    EXPECT(lseek(fd, 0, SEEK_END) == 4096);
    EXPECT(pread(fd, bytes, sizeof bytes, 4088) == sizeof bytes && bytes[0] == 0);
    EXPECT_RESULT(OpenHdvCloseHandle(section), S_OK);
}

CHECK(open_hdv_get_last_error_text_says_what_was_wrong)
{
    char text[512];
    char start[6];
    size_t size;
    HCS_SYSTEM compute_system = NULL;
    EXPECT_RESULT(OpenHdvOpenSocketSystem("/nowhere/at/all", &compute_system),
                  HCS_E_SYSTEM_NOT_FOUND);
    size = OpenHdvGetLastErrorText(NULL, 0);
    EXPECT(size > 1 && size < sizeof text);
    EXPECT(OpenHdvGetLastErrorText(text, sizeof text) == size);
    EXPECT(strlen(text) + 1 == size);
    EXPECT(strstr(text, "/nowhere/at/all") != NULL);
    EXPECT(OpenHdvGetLastErrorText(start, sizeof start) == size);
    EXPECT(strlen(start) == 5 && strncmp(start, text, 5) == 0);
    /* What succeeds leaves it. */
    compute_system = open_system();
    EXPECT(OpenHdvGetLastErrorText(NULL, 0) == size);
    HcsCloseComputeSystem(compute_system);
}

CHECK(open_hdv_get_last_error_text_cuts_between_characters)
{
    char text[512];
    HCS_SYSTEM compute_system = NULL;
    EXPECT_RESULT(OpenHdvOpenSocketSystem("/\xc3\xa4\xc3\xa4\xc3\xa4", &compute_system),
                  HCS_E_SYSTEM_NOT_FOUND);
    EXPECT(OpenHdvGetLastErrorText(text, sizeof text) > 1);
    for (size_t size = 1; size < strlen(text) + 2; size++) {
        char cut[512];
        size_t length;
        OpenHdvGetLastErrorText(cut, size);
        length = strlen(cut);
        EXPECT(length < size && size - length <= 4 && strncmp(cut, text, length) == 0);
        EXPECT((text[length] & 0xc0) != 0x80);
        if (size > strlen(text)) {
            EXPECT(length == strlen(text));
        }
    }
}

CHECK(open_hdv_format_guid_and_back)
{
    const GUID guid = { 0x01234567, 0x89ab, 0xcdef, { 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10 } };
    const char* good[] = { "01234567-89ab-cdef-fedc-ba9876543210",
                           "{01234567-89AB-CDEF-FEDC-BA9876543210}" };
    const char* bad[] = { "", "01234567", "01234567-89ab-cdef-fedc-ba987654321g" };
    char text[OPENHDV_GUID_TEXT_SIZE];
    GUID parsed;
    EXPECT_RESULT(OpenHdvFormatGuid(&guid, text), S_OK);
    EXPECT(strcmp(text, good[0]) == 0);
    for (int i = 0; i < 2; i++) {
        memset(&parsed, 0, sizeof parsed);
        EXPECT_RESULT(OpenHdvParseGuid(good[i], &parsed), S_OK);
        EXPECT(memcmp(&parsed, &guid, sizeof guid) == 0);
    }
    for (int i = 0; i < 3; i++) {
        EXPECT_RESULT(OpenHdvParseGuid(bad[i], &parsed), E_INVALIDARG);
    }
    EXPECT_RESULT(OpenHdvFormatGuid(NULL, text), E_POINTER);
    EXPECT_RESULT(OpenHdvFormatGuid(&guid, NULL), E_POINTER);
    EXPECT_RESULT(OpenHdvParseGuid(NULL, &parsed), E_POINTER);
    EXPECT_RESULT(OpenHdvParseGuid(good[0], NULL), E_POINTER);
}

struct log {
    unsigned lines;
    char last[512];
    OPENHDV_LOG_LEVEL level;
    HRESULT inside;
};

static void CALLBACK write_log(void* context, OPENHDV_LOG_LEVEL level, const char* message)
{
    struct log* log = (struct log*)context;
    log->lines++;
    log->level = level;
    snprintf(log->last, sizeof log->last, "%s", message);
    /* What this logs is not delivered to us again. */
    HcsCloseComputeSystem(NULL);
    log->inside = OpenHdvSetLogCallback(OpenHdvLogLevelOff, NULL, NULL);
}

CHECK(open_hdv_set_log_callback_gets_lines)
{
    struct log log;
    memset(&log, 0, sizeof log);
    EXPECT_RESULT(OpenHdvSetLogCallback(OpenHdvLogLevelWarning, write_log, &log), S_OK);
    /* A handle that is none: nothing else can say so. */
    HcsCloseComputeSystem((HCS_SYSTEM)&log);
    EXPECT(log.lines == 1 && log.level == OpenHdvLogLevelWarning);
    EXPECT(strstr(log.last, "HcsCloseComputeSystem") != NULL && strchr(log.last, '\n') == NULL);
    EXPECT_RESULT(log.inside, WIN32(POSSIBLE_DEADLOCK));
    EXPECT_RESULT(OpenHdvSetLogCallback(OpenHdvLogLevelError, write_log, &log), S_OK);
    HcsCloseComputeSystem((HCS_SYSTEM)&log);
    EXPECT(log.lines == 1);
    EXPECT_RESULT(OpenHdvSetLogCallback(OpenHdvLogLevelTrace, NULL, NULL), S_OK);
    HcsCloseComputeSystem((HCS_SYSTEM)&log);
    EXPECT(log.lines == 1);
    EXPECT_RESULT(OpenHdvSetLogCallback((OPENHDV_LOG_LEVEL)6, write_log, &log), E_INVALIDARG);
    EXPECT_RESULT(OpenHdvSetLogCallback((OPENHDV_LOG_LEVEL)-1, write_log, &log), E_INVALIDARG);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(open_hdv_open_socket_system_not_found);
    RUN(open_hdv_open_socket_system_null);
    RUN(hdv_create_device_instance_directory_gone);
    RUN(open_hdv_set_configuration_bad_arguments);
    RUN(open_hdv_create_event_is_an_eventfd);
    RUN(open_hdv_create_event_never_null);
    RUN(open_hdv_create_section_is_zeroes);
    RUN(open_hdv_get_last_error_text_says_what_was_wrong);
    RUN(open_hdv_get_last_error_text_cuts_between_characters);
    RUN(open_hdv_format_guid_and_back);
    RUN(open_hdv_set_log_callback_gets_lines);
    FINISH();
}
