/*
 * For device sources written for Windows, which include <windows.h> before the headers of HDV: what
 * they commonly take from it that has an equal here. There is no Win32 API behind it.
 */
#ifndef OPENHDV_WINDOWS_H
#define OPENHDV_WINDOWS_H

#include "../computedefs.h"

#define UNREFERENCED_PARAMETER(parameter) ((void)(parameter))
#define ARRAYSIZE(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINING_RECORD(address, type, field)                                                  \
    ((type*)((char*)(address) - offsetof(type, field)))

#define ZeroMemory(destination, length) ((void)memset((destination), 0, (length)))
#define FillMemory(destination, length, fill) ((void)memset((destination), (fill), (length)))
#define CopyMemory(destination, source, length) ((void)memcpy((destination), (source), (length)))
#define MoveMemory(destination, source, length) ((void)memmove((destination), (source), (length)))
#define RtlZeroMemory(destination, length) ZeroMemory((destination), (length))
#define RtlFillMemory(destination, length, fill) FillMemory((destination), (length), (fill))
#define RtlCopyMemory(destination, source, length) CopyMemory((destination), (source), (length))
#define RtlMoveMemory(destination, source, length) MoveMemory((destination), (source), (length))

#define DECLSPEC_NOVTABLE

/* Results that callbacks give, besides those of computedefs.h. */
#define ERROR_NOT_ENOUGH_MEMORY 8
#define ERROR_NOT_SUPPORTED 50
#define ERROR_INSUFFICIENT_BUFFER 122
#define ERROR_INVALID_STATE 5023

#endif /* OPENHDV_WINDOWS_H */
