/*
 * What <windows.h> has for sources written for Windows.
 */
#include <windows.h>

#include "check.h"

struct outer {
    UINT32 first;
    UINT16 inner;
};

CHECK(windows_h_memory)
{
    BYTE bytes[8];
    FillMemory(bytes, sizeof bytes, 0xab);
    RtlZeroMemory(bytes, 4);
    CopyMemory(bytes + 6, bytes + 2, 2);
    EXPECT(memcmp(bytes, "\0\0\0\0\xab\xab\0\0", sizeof bytes) == 0);
    RtlFillMemory(bytes, 2, 7);
    RtlMoveMemory(bytes + 1, bytes, 4);
    EXPECT(memcmp(bytes, "\7\7\7\0\0\xab\0\0", sizeof bytes) == 0);
    MoveMemory(bytes, bytes + 5, 1);
    RtlCopyMemory(bytes + 1, bytes, 1);
    ZeroMemory(bytes + 5, 1);
    EXPECT(memcmp(bytes, "\xab\xab\7\0\0\0\0\0", sizeof bytes) == 0);
}

CHECK(windows_h_macros)
{
    UINT32 numbers[3] = { 0, 0, 0 };
    struct outer outer = { 1, 2 };
    UNREFERENCED_PARAMETER(numbers);
    EXPECT(ARRAYSIZE(numbers) == 3);
    EXPECT(CONTAINING_RECORD(&outer.inner, struct outer, inner) == &outer);
}

CHECK(windows_h_results)
{
    EXPECT(WIN32(NOT_ENOUGH_MEMORY) == (HRESULT)0x80070008u);
    EXPECT(WIN32(NOT_SUPPORTED) == (HRESULT)0x80070032u);
    EXPECT(WIN32(INSUFFICIENT_BUFFER) == (HRESULT)0x8007007au);
    EXPECT(WIN32(INVALID_STATE) == (HRESULT)0x8007139fu);
}

int main(int argc, char** argv)
{
    BEGIN(argc, argv);
    RUN(windows_h_memory);
    RUN(windows_h_macros);
    RUN(windows_h_results);
    FINISH();
}
