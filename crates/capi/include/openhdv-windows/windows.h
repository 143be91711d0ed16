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

#endif /* OPENHDV_WINDOWS_H */
