/*
 * Base types of the Host Compute System and Host Device Virtualization interfaces, and what
 * sources written for Windows take for granted: integer types, GUIDs, result codes, IUnknown
 * and the marks of the source-code annotation language, which say nothing here.
 *
 * C11 and C++17. Strings of the interfaces are UTF-16 with a terminating zero: WCHAR is wchar_t
 * where that has 16 bits (-fshort-wchar, so that L"..." works), otherwise char16_t (u"...").
 *
 * What is specific to OpenHDV is in openhdv.h.
 */
#ifndef OPENHDV_COMPUTEDEFS_H
#define OPENHDV_COMPUTEDEFS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if !defined(__cplusplus)
#include <uchar.h>
#endif

/* ---- Calling conventions and linkage: there is one of each here. ---- */

#ifdef __cplusplus
#define EXTERN_C extern "C"
#define EXTERN_C_START extern "C" {
#define EXTERN_C_END }
#else
#define EXTERN_C extern
#define EXTERN_C_START
#define EXTERN_C_END
#endif

#define WINAPI
#define APIENTRY
#define CALLBACK
#define NTAPI
#define STDAPICALLTYPE
#define STDMETHODCALLTYPE
#define STDMETHODIMP HRESULT
#define STDMETHODIMP_(type) type
#define STDAPI EXTERN_C HRESULT

/* Names of the old annotation language (two underscores, lower case) are not defined: the C++
 * standard library uses them for variables of its own. */
#define _In_
#define _In_opt_
#define _In_z_
#define _In_opt_z_
#define _In_range_(low, high)
#define _In_reads_(count)
#define _In_reads_opt_(count)
#define _In_reads_z_(count)
#define _In_reads_or_z_(count)
#define _In_reads_bytes_(count)
#define _In_reads_bytes_opt_(count)
#define _Out_
#define _Out_opt_
#define _Out_range_(low, high)
#define _Out_writes_(count)
#define _Out_writes_opt_(count)
#define _Out_writes_z_(count)
#define _Out_writes_all_(count)
#define _Out_writes_to_(count, written)
#define _Out_writes_to_opt_(count, written)
#define _Out_writes_bytes_(count)
#define _Out_writes_bytes_opt_(count)
#define _Out_writes_bytes_all_(count)
#define _Out_writes_bytes_to_(count, written)
#define _Outptr_
#define _Outptr_opt_
#define _Outptr_result_maybenull_
#define _Outptr_opt_result_maybenull_
#define _Outptr_result_z_
#define _Outptr_opt_result_z_
#define _Outptr_result_buffer_(count)
#define _Outptr_result_bytebuffer_(count)
#define _COM_Outptr_
#define _COM_Outptr_opt_
#define _Inout_
#define _Inout_opt_
#define _Inout_z_
#define _Inout_updates_(count)
#define _Inout_updates_opt_(count)
#define _Inout_updates_bytes_(count)
#define _Inout_updates_bytes_opt_(count)
#define _Reserved_
#define _Null_
#define _Notnull_
#define _Maybenull_
#define _Pre_
#define _Post_
#define _Pre_maybenull_
#define _Post_invalid_
#define _Post_ptr_invalid_
#define _Post_writable_byte_size_(count)
#define _Ret_maybenull_
#define _Ret_notnull_
#define _Ret_range_(low, high)
#define _Check_return_
#define _Must_inspect_result_
#define _Success_(condition)
#define _On_failure_(annotations)
#define _When_(condition, annotations)
#define _At_(target, annotations)
#define _Field_size_(count)
#define _Field_size_opt_(count)
#define _Field_size_bytes_(count)
#define _Struct_size_bytes_(count)
#define _Field_range_(low, high)
#define _Frees_ptr_
#define _Frees_ptr_opt_
#define _Function_class_(name)
#define _Printf_format_string_
#define _Strict_type_match_
#define _Use_decl_annotations_
#define _Acquires_lock_(lock)
#define _Releases_lock_(lock)
#define _Requires_lock_held_(lock)
#define _Requires_lock_not_held_(lock)
#define _Guarded_by_(lock)
#define _Analysis_assume_(condition)

/* ---- Integers, of the same widths everywhere. ---- */

typedef int8_t INT8;
typedef int16_t INT16;
typedef int32_t INT32;
typedef int64_t INT64;
typedef uint8_t UINT8;
typedef uint16_t UINT16;
typedef uint32_t UINT32;
typedef uint64_t UINT64;

typedef char CHAR;
typedef unsigned char UCHAR;
typedef uint8_t BYTE;
typedef uint8_t BOOLEAN;
typedef int16_t SHORT;
typedef uint16_t USHORT;
typedef uint16_t WORD;
typedef int32_t INT;
typedef uint32_t UINT;
typedef int32_t LONG;     /* 32 bits, whatever the compiler's long has */
typedef uint32_t ULONG;   /* 32 bits */
typedef uint32_t DWORD;
typedef int32_t LONG32;
typedef uint32_t ULONG32;
typedef uint32_t DWORD32;
typedef int64_t LONG64;
typedef uint64_t ULONG64;
typedef uint64_t DWORD64;
typedef int64_t LONGLONG;
typedef uint64_t ULONGLONG;
typedef size_t SIZE_T;
typedef intptr_t INT_PTR;
typedef uintptr_t UINT_PTR;
typedef intptr_t LONG_PTR;
typedef uintptr_t ULONG_PTR;
typedef uintptr_t DWORD_PTR;
typedef int BOOL;

#ifndef FALSE
#define FALSE 0
#endif
#ifndef TRUE
#define TRUE 1
#endif

#ifndef VOID
#define VOID void
#endif
#ifndef CONST
#define CONST const
#endif

typedef void* PVOID;
typedef void* LPVOID;
typedef const void* LPCVOID;
typedef BYTE* PBYTE;
typedef BYTE* LPBYTE;
typedef UCHAR* PUCHAR;
typedef BOOL* PBOOL;
typedef USHORT* PUSHORT;
typedef WORD* PWORD;
typedef LONG* PLONG;
typedef ULONG* PULONG;
typedef DWORD* PDWORD;
typedef DWORD* LPDWORD;
typedef UINT8* PUINT8;
typedef UINT16* PUINT16;
typedef UINT32* PUINT32;
typedef UINT64* PUINT64;
typedef ULONG64* PULONG64;
typedef SIZE_T* PSIZE_T;
typedef CHAR* PSTR;
typedef CHAR* LPSTR;
typedef const CHAR* PCSTR;
typedef const CHAR* LPCSTR;

/* ---- UTF-16 strings. ---- */

#if defined(__SIZEOF_WCHAR_T__) && __SIZEOF_WCHAR_T__ == 2
typedef wchar_t WCHAR;
#else
typedef char16_t WCHAR;
#endif
typedef WCHAR* PWCHAR;
typedef WCHAR* PWSTR;
typedef WCHAR* LPWSTR;
typedef const WCHAR* PCWSTR;
typedef const WCHAR* LPCWSTR;

/* ---- Handles. ---- */

/* An event is an eventfd, a section a descriptor that can be mapped; the handle is the descriptor's
 * number, as in (HANDLE)(intptr_t)fd. Descriptor 0 is none. */
typedef void* HANDLE;
typedef HANDLE* PHANDLE;

#ifndef INVALID_HANDLE_VALUE
#define INVALID_HANDLE_VALUE ((HANDLE)(intptr_t)-1)
#endif

/* A compute system, and an operation on one. */
typedef void* HCS_SYSTEM;
typedef void* HCS_OPERATION;

/* A process in a compute system. There are none here. */
typedef void* HCS_PROCESS;

/* Where one is asked for, null. */
typedef struct _SECURITY_DESCRIPTOR SECURITY_DESCRIPTOR;

/* All rights, for HcsOpenComputeSystem. */
#define GENERIC_ALL 0x10000000u

/* For waits in milliseconds: without an end. */
#define INFINITE 0xFFFFFFFFu

/* ---- Enumerations. ----
 *
 * They have 32 bits in C++ too, so that flags can be combined. */
#ifdef __cplusplus
#define OPENHDV_ENUM(name) enum name : int
#define OPENHDV_ENUM_FLAG_OPERATORS(name)                                                        \
    extern "C++" {                                                                               \
    constexpr name operator|(name left, name right)                                              \
    {                                                                                            \
        return static_cast<name>(static_cast<int>(left) | static_cast<int>(right));              \
    }                                                                                            \
    constexpr name operator&(name left, name right)                                              \
    {                                                                                            \
        return static_cast<name>(static_cast<int>(left) & static_cast<int>(right));              \
    }                                                                                            \
    constexpr name operator~(name value)                                                         \
    {                                                                                            \
        return static_cast<name>(~static_cast<int>(value));                                      \
    }                                                                                            \
    inline name& operator|=(name& left, name right)                                              \
    {                                                                                            \
        return left = left | right;                                                              \
    }                                                                                            \
    inline name& operator&=(name& left, name right)                                              \
    {                                                                                            \
        return left = left & right;                                                              \
    }                                                                                            \
    }
#else
#define OPENHDV_ENUM(name) enum name
#define OPENHDV_ENUM_FLAG_OPERATORS(name)
#endif

/* ---- GUIDs. ---- */

#ifndef GUID_DEFINED
#define GUID_DEFINED
typedef struct _GUID {
    UINT32 Data1;
    UINT16 Data2;
    UINT16 Data3;
    UINT8 Data4[8];
} GUID;
#endif

typedef GUID IID;
typedef GUID CLSID;
typedef GUID* LPGUID;
typedef const GUID* LPCGUID;

#ifdef __cplusplus
typedef const GUID& REFGUID;
typedef const IID& REFIID;
typedef const CLSID& REFCLSID;

/* Also where this is included with C linkage. */
extern "C++" {
inline bool IsEqualGUID(REFGUID left, REFGUID right)
{
    return memcmp(&left, &right, sizeof(GUID)) == 0;
}

inline bool operator==(REFGUID left, REFGUID right)
{
    return IsEqualGUID(left, right);
}

inline bool operator!=(REFGUID left, REFGUID right)
{
    return !IsEqualGUID(left, right);
}
}
#else
typedef const GUID* REFGUID;
typedef const IID* REFIID;
typedef const CLSID* REFCLSID;

#define IsEqualGUID(left, right) (memcmp((left), (right), sizeof(GUID)) == 0)
#endif
#define IsEqualIID(left, right) IsEqualGUID(left, right)
#define IsEqualCLSID(left, right) IsEqualGUID(left, right)

#if defined(__GNUC__)
#define OPENHDV_MAYBE_UNUSED __attribute__((unused))
/* Interfaces of COM have no destructor: objects end in Release. */
#define OPENHDV_BEGIN_INTERFACES                                                                 \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wnon-virtual-dtor\"")
#define OPENHDV_END_INTERFACES _Pragma("GCC diagnostic pop")
#else
#define OPENHDV_MAYBE_UNUSED
#define OPENHDV_BEGIN_INTERFACES
#define OPENHDV_END_INTERFACES
#endif

/* Every file that includes the definition has its own copy: INITGUID is not needed. */
#ifndef DEFINE_GUID
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8)                             \
    static const GUID name OPENHDV_MAYBE_UNUSED = {                                              \
        l, w1, w2, { b1, b2, b3, b4, b5, b6, b7, b8 }                                            \
    }
#endif

/* ---- Results. ---- */

typedef LONG HRESULT;

#define SUCCEEDED(result) (((HRESULT)(result)) >= 0)
#define FAILED(result) (((HRESULT)(result)) < 0)
#define HRESULT_CODE(result) ((result) & 0xFFFF)

#ifndef FACILITY_WIN32
#define FACILITY_WIN32 7
#endif

/* A Win32 error code (1 to 0xFFFF) as a result; a result stays what it is. */
#define HRESULT_FROM_WIN32(code)                                                                 \
    ((HRESULT)(code) <= 0                                                                        \
         ? (HRESULT)(code)                                                                       \
         : (HRESULT)(((UINT32)(code) & 0x0000FFFFu) | ((UINT32)FACILITY_WIN32 << 16)             \
                     | 0x80000000u))

#define S_OK ((HRESULT)0)
#define S_FALSE ((HRESULT)1)
#define E_NOTIMPL ((HRESULT)0x80004001u)
#define E_NOINTERFACE ((HRESULT)0x80004002u)
#define E_POINTER ((HRESULT)0x80004003u)
#define E_ABORT ((HRESULT)0x80004004u)
#define E_FAIL ((HRESULT)0x80004005u)
#define E_UNEXPECTED ((HRESULT)0x8000FFFFu)
#define E_ACCESSDENIED ((HRESULT)0x80070005u)
#define E_HANDLE ((HRESULT)0x80070006u)
#define E_OUTOFMEMORY ((HRESULT)0x8007000Eu)
#define E_INVALIDARG ((HRESULT)0x80070057u)

/* Of compute systems. */
#define HCS_E_TERMINATED_DURING_START ((HRESULT)0x80370100u)
#define HCS_E_IMAGE_MISMATCH ((HRESULT)0x80370101u)
#define HCS_E_HYPERV_NOT_INSTALLED ((HRESULT)0x80370102u)
#define HCS_E_INVALID_STATE ((HRESULT)0x80370105u)
#define HCS_E_UNEXPECTED_EXIT ((HRESULT)0x80370106u)
#define HCS_E_TERMINATED ((HRESULT)0x80370107u)
#define HCS_E_CONNECT_FAILED ((HRESULT)0x80370108u)
#define HCS_E_CONNECTION_TIMEOUT ((HRESULT)0x80370109u)
#define HCS_E_CONNECTION_CLOSED ((HRESULT)0x8037010Au)
#define HCS_E_UNKNOWN_MESSAGE ((HRESULT)0x8037010Bu)
#define HCS_E_UNSUPPORTED_PROTOCOL_VERSION ((HRESULT)0x8037010Cu)
#define HCS_E_INVALID_JSON ((HRESULT)0x8037010Du)
#define HCS_E_SYSTEM_NOT_FOUND ((HRESULT)0x8037010Eu)
#define HCS_E_SYSTEM_ALREADY_EXISTS ((HRESULT)0x8037010Fu)
#define HCS_E_SYSTEM_ALREADY_STOPPED ((HRESULT)0x80370110u)
#define HCS_E_PROTOCOL_ERROR ((HRESULT)0x80370111u)
#define HCS_E_INVALID_LAYER ((HRESULT)0x80370112u)
#define HCS_E_WINDOWS_INSIDER_REQUIRED ((HRESULT)0x80370113u)
#define HCS_E_SERVICE_NOT_AVAILABLE ((HRESULT)0x80370114u)
#define HCS_E_OPERATION_NOT_STARTED ((HRESULT)0x80370115u)
#define HCS_E_OPERATION_ALREADY_STARTED ((HRESULT)0x80370116u)
#define HCS_E_OPERATION_PENDING ((HRESULT)0x80370117u)
#define HCS_E_OPERATION_TIMEOUT ((HRESULT)0x80370118u)
#define HCS_E_OPERATION_SYSTEM_CALLBACK_ALREADY_SET ((HRESULT)0x80370119u)
#define HCS_E_OPERATION_RESULT_ALLOCATION_FAILED ((HRESULT)0x8037011Au)
#define HCS_E_ACCESS_DENIED ((HRESULT)0x8037011Bu)
#define HCS_E_GUEST_CRITICAL_ERROR ((HRESULT)0x8037011Cu)
#define HCS_E_PROCESS_INFO_NOT_AVAILABLE ((HRESULT)0x8037011Du)
#define HCS_E_SERVICE_DISCONNECT ((HRESULT)0x8037011Eu)
#define HCS_E_PROCESS_ALREADY_STOPPED ((HRESULT)0x8037011Fu)
#define HCS_E_SYSTEM_NOT_CONFIGURED_FOR_OPERATION ((HRESULT)0x80370120u)
#define HCS_E_OPERATION_ALREADY_CANCELLED ((HRESULT)0x80370121u)

/* For HRESULT_FROM_WIN32. */
#define ERROR_SUCCESS 0
#define ERROR_FILE_NOT_FOUND 2
#define ERROR_ACCESS_DENIED 5
#define ERROR_INVALID_HANDLE 6
#define ERROR_OUTOFMEMORY 14
#define ERROR_NOT_READY 21
#define ERROR_INVALID_PARAMETER 87
#define ERROR_BUSY 170
#define ERROR_ALREADY_EXISTS 183
#define ERROR_INVALID_ADDRESS 487
#define ERROR_POSSIBLE_DEADLOCK 1131
#define ERROR_NOT_FOUND 1168
#define ERROR_RETRY 1237

/* ---- Memory that the library gives away. ---- */

typedef void* HLOCAL;

#ifdef __cplusplus
extern "C" {
#endif

/* Frees a result document; null is none. Gives null. */
HLOCAL WINAPI LocalFree(_Frees_ptr_opt_ HLOCAL Memory);

#ifdef __cplusplus
}
#endif

/* ---- IUnknown: a pointer to a pointer to a table that begins with these three. ---- */

#ifdef __cplusplus
OPENHDV_BEGIN_INTERFACES
extern "C++" {
struct IUnknown {
    virtual HRESULT STDMETHODCALLTYPE QueryInterface(REFIID riid, void** object) = 0;
    virtual ULONG STDMETHODCALLTYPE AddRef() = 0;
    virtual ULONG STDMETHODCALLTYPE Release() = 0;
};
}
OPENHDV_END_INTERFACES
#else
typedef struct IUnknown IUnknown;

typedef struct IUnknownVtbl {
    HRESULT(STDMETHODCALLTYPE* QueryInterface)(IUnknown* This, REFIID riid, void** object);
    ULONG(STDMETHODCALLTYPE* AddRef)(IUnknown* This);
    ULONG(STDMETHODCALLTYPE* Release)(IUnknown* This);
} IUnknownVtbl;

struct IUnknown {
    const IUnknownVtbl* lpVtbl;
};
#endif
typedef IUnknown* LPUNKNOWN;

/* {00000000-0000-0000-C000-000000000046} */
DEFINE_GUID(IID_IUnknown, 0x00000000, 0x0000, 0x0000, 0xC0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
            0x46);

#endif /* OPENHDV_COMPUTEDEFS_H */
