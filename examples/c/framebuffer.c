/*
 * A display without a screen: the guest draws into memory, the host reads it from its own mapping, without
 * an exit per access.
 *
 *     framebuffer DIRECTORY INSTANCE-ID [--png FILE] [--late]
 *
 * serves one framebuffer on <DIRECTORY>/<INSTANCE-ID>.sock until SIGINT or SIGTERM. --png: each picture
 * that the guest presents is written to FILE. --late: the memory is put into the BAR only when the guest
 * has enabled the device, as devices do that wait for Memory Space Enable. No VMM maps it then, each access costs
 * an exit, and the guest sees the same.
 *
 * BAR 0: 16 MiB of prefetchable memory, the pixels, from the first line down. A pixel is 0x00RRGGBB,
 * little-endian; a line has `width` of them and the next follows at once.
 *
 * BAR 2: registers of 4 bytes, in accesses of 4 bytes:
 *
 *   0x00  RO  "FBUF"
 *   0x04  RO  1, the version of this list
 *   0x08  RO  features: bit 0, the memory was there before the virtual processors ran, so that it is likely
 *             mapped and fast
 *   0x0c  RO  "XR24", the format
 *   0x10  RW  width in pixels, 1 to 2048; any other is ignored
 *   0x14  RW  height in pixels, 1 to 2048; any other is ignored
 *   0x18  RO  bytes from one line to the next
 *   0x1c  RO  bytes of memory
 *   0x20  RW  present: what is written is kept, and the picture is shown: written to FILE
 *   0x24  RO  how many pictures were shown
 *   0x28  RO  checksum of the picture as the host sees it now: FNV-1a of 32 bits
 *   0x2c  RW  pattern: what is written is kept, and the host fills the picture with the pattern of that number
 *   0x30  RO  reads of BAR 0 that reached the device
 *   0x34  RO  writes of BAR 0 that reached the device
 *   0x38  RO  pictures that could not be written to FILE
 *
 * There are no interrupts and no capabilities: the host answers for all of config space.
 *
 * In this file, in order: the state, the picture, PNG, registers, the ten callbacks, main.
 */
#define _POSIX_C_SOURCE 200809L

#include <openhdv.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mman.h>

/* ---- State. Callbacks of one device never overlap, and nobody else uses it: there is no lock. ---- */

#define MEMORY_BYTES 0x1000000u /* BAR 0 */
#define REGISTER_BYTES 0x1000u  /* BAR 2 */
#define PAGE_BYTES 0x1000u
#define SIDE_MAX 2048u /* the largest picture just fits into the memory */

struct framebuffer {
    HDV_DEVICE device;
    HANDLE section;
    BYTE *memory; /* the section, mapped here */
    const char *png;
    bool late;
    bool in_bar; /* the section is in the BAR */
    bool started;

    uint32_t width;
    uint32_t height;
    uint32_t present;
    uint32_t shown;
    uint32_t pattern;
    uint32_t reads;
    uint32_t writes;
    uint32_t not_written;
};

static void reset(struct framebuffer *fb)
{
    fb->width = 640;
    fb->height = 480;
    fb->present = 0;
    fb->shown = 0;
    fb->pattern = 0;
    fb->reads = 0;
    fb->writes = 0;
    fb->not_written = 0;
}

static HRESULT put_into_bar(struct framebuffer *fb)
{
    if (fb->in_bar) {
        return S_OK;
    }
    HRESULT hr = HdvCreateSectionBackedMmioRange(fb->device, HDV_PCI_BAR0, 0, MEMORY_BYTES / PAGE_BYTES,
                                                 HdvMmioMappingFlagWriteable, fb->section, 0);
    fb->in_bar = SUCCEEDED(hr);
    return hr;
}

/* ---- The picture. The guest may draw meanwhile: what is read is then a bit of either. ---- */

static size_t picture_bytes(const struct framebuffer *fb)
{
    return (size_t)fb->width * fb->height * 4;
}

static uint32_t checksum(const struct framebuffer *fb)
{
    uint32_t hash = 0x811c9dc5;
    for (size_t i = 0; i < picture_bytes(fb); i++) {
        hash = (hash ^ fb->memory[i]) * 0x01000193;
    }
    return hash;
}

static void draw_pattern(struct framebuffer *fb, uint32_t number)
{
    BYTE *at = fb->memory;
    for (uint32_t y = 0; y < fb->height; y++) {
        for (uint32_t x = 0; x < fb->width; x++) {
            uint32_t pixel = (x * 0x010203u ^ y * 0x030509u ^ number * 0x9e3779b1u) & 0xffffff;
            *at++ = (BYTE)pixel;
            *at++ = (BYTE)(pixel >> 8);
            *at++ = (BYTE)(pixel >> 16);
            *at++ = 0;
        }
    }
}

/* ---- PNG (ISO/IEC 15948), not compressed. ---- */

struct png {
    FILE *file;
    uint32_t crc;   /* of the chunk */
    uint32_t adler; /* of the uncompressed data */
};

static void png_bytes(struct png *png, const BYTE *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        png->crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            png->crc = png->crc >> 1 ^ (0xedb88320u & (0u - (png->crc & 1)));
        }
    }
    fwrite(bytes, 1, count, png->file);
}

static void png_u32(struct png *png, uint32_t value)
{
    BYTE bytes[4] = {(BYTE)(value >> 24), (BYTE)(value >> 16), (BYTE)(value >> 8), (BYTE)value};
    png_bytes(png, bytes, sizeof bytes);
}

static void png_begin_chunk(struct png *png, const char *type, uint32_t length)
{
    png_u32(png, length);
    png->crc = 0xffffffff;
    png_bytes(png, (const BYTE *)type, 4);
}

static void png_end_chunk(struct png *png)
{
    png_u32(png, ~png->crc);
}

/* One line: a stored block of deflate, with the byte that says that it is not filtered before it. */
static void png_line(struct png *png, const BYTE *pixels, uint32_t width, bool last)
{
    BYTE line[1 + SIDE_MAX * 3] = {0};
    uint32_t length = 1 + width * 3;
    for (uint32_t x = 0; x < width; x++) {
        line[1 + x * 3] = pixels[x * 4 + 2];
        line[2 + x * 3] = pixels[x * 4 + 1];
        line[3 + x * 3] = pixels[x * 4];
    }
    BYTE block[5] = {last, (BYTE)length, (BYTE)(length >> 8), (BYTE)~length, (BYTE)(~length >> 8)};
    png_bytes(png, block, sizeof block);
    png_bytes(png, line, length);
    uint32_t low = png->adler & 0xffff, high = png->adler >> 16;
    for (uint32_t i = 0; i < length; i++) {
        low = (low + line[i]) % 65521;
        high = (high + low) % 65521;
    }
    png->adler = high << 16 | low;
}

static bool write_png(const struct framebuffer *fb)
{
    static const BYTE signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const BYTE format[5] = {8, 2, 0, 0, 0}; /* 8 bits each of red, green and blue */
    static const BYTE zlib[2] = {0x78, 0x01};

    /* Whoever reads FILE sees a whole picture, the one before or this one. */
    char name[4096];
    int length = snprintf(name, sizeof name, "%s.new", fb->png);
    if (length < 0 || (size_t)length >= sizeof name) {
        return false;
    }
    struct png png = {fopen(name, "wb"), 0, 1};
    if (png.file == NULL) {
        return false;
    }
    fwrite(signature, 1, sizeof signature, png.file);
    png_begin_chunk(&png, "IHDR", 13);
    png_u32(&png, fb->width);
    png_u32(&png, fb->height);
    png_bytes(&png, format, sizeof format);
    png_end_chunk(&png);
    png_begin_chunk(&png, "IDAT", 2 + fb->height * (5 + 1 + fb->width * 3) + 4);
    png_bytes(&png, zlib, sizeof zlib);
    for (uint32_t y = 0; y < fb->height; y++) {
        png_line(&png, fb->memory + (size_t)y * fb->width * 4, fb->width, y + 1 == fb->height);
    }
    png_u32(&png, png.adler);
    png_end_chunk(&png);
    png_begin_chunk(&png, "IEND", 0);
    png_end_chunk(&png);
    bool good = ferror(png.file) == 0;
    good = fclose(png.file) == 0 && good;
    return good && rename(name, fb->png) == 0;
}

static void show(struct framebuffer *fb)
{
    fb->shown++;
    if (fb->png != NULL && !write_png(fb)) {
        perror(fb->png);
        fb->not_written++;
    }
}

/* ---- Registers. ---- */

static uint32_t read_register(const struct framebuffer *fb, uint64_t offset)
{
    switch (offset) {
    case 0x00:
        return 0x46554246; /* "FBUF" */
    case 0x04:
        return 1;
    case 0x08:
        return !fb->late;
    case 0x0c:
        return 0x34325258; /* "XR24" */
    case 0x10:
        return fb->width;
    case 0x14:
        return fb->height;
    case 0x18:
        return fb->width * 4;
    case 0x1c:
        return MEMORY_BYTES;
    case 0x20:
        return fb->present;
    case 0x24:
        return fb->shown;
    case 0x28:
        return checksum(fb);
    case 0x2c:
        return fb->pattern;
    case 0x30:
        return fb->reads;
    case 0x34:
        return fb->writes;
    case 0x38:
        return fb->not_written;
    default:
        return 0;
    }
}

static void write_register(struct framebuffer *fb, uint64_t offset, uint32_t value)
{
    bool side = value >= 1 && value <= SIDE_MAX;
    switch (offset) {
    case 0x10:
        fb->width = side ? value : fb->width;
        break;
    case 0x14:
        fb->height = side ? value : fb->height;
        break;
    case 0x20:
        fb->present = value;
        show(fb);
        break;
    case 0x2c:
        fb->pattern = value;
        draw_pattern(fb, value);
        break;
    default:
        break;
    }
}

/* ---- The callbacks. ---- */

static HRESULT CALLBACK Initialize(void *context)
{
    reset((struct framebuffer *)context);
    return S_OK;
}

static void CALLBACK Teardown(void *context)
{
    (void)context; /* what there is outlives the device */
}

static HRESULT CALLBACK SetConfiguration(void *context, UINT32 count, const PCWSTR *values)
{
    (void)context;
    (void)count;
    (void)values;
    return S_OK;
}

static HRESULT CALLBACK GetDetails(void *context, HDV_PCI_PNP_ID *id, UINT32 count, UINT32 *bars)
{
    (void)context;
    memset(id, 0, sizeof *id);
    id->VendorID = 0x4f48;
    id->DeviceID = 0x0103;
    id->RevisionID = 1;
    id->BaseClass = 0x03; /* display */
    id->SubClass = 0x80;  /* other, so that no driver for a VGA takes it */
    id->SubVendorID = id->VendorID;
    id->SubSystemID = id->DeviceID;
    memset(bars, 0, count * sizeof *bars);
    bars[HDV_PCI_BAR0] = ~(MEMORY_BYTES - 1) | 0xc; /* 64 bits wide, prefetchable */
    bars[HDV_PCI_BAR1] = UINT32_MAX;                /* its upper half */
    bars[HDV_PCI_BAR2] = ~(REGISTER_BYTES - 1);
    return S_OK;
}

/* Comes before the VMM asks what it can map. */
static HRESULT CALLBACK Start(void *context)
{
    struct framebuffer *fb = (struct framebuffer *)context;
    fb->started = true;
    return fb->late ? S_OK : put_into_bar(fb);
}

static void CALLBACK Stop(void *context)
{
    struct framebuffer *fb = (struct framebuffer *)context;
    fb->started = false;
}

static HRESULT CALLBACK ReadConfigSpace(void *context, UINT32 offset, UINT32 *value)
{
    (void)context;
    (void)offset;
    *value = 0;
    return S_OK;
}

static HRESULT CALLBACK WriteConfigSpace(void *context, UINT32 offset, UINT32 value)
{
    struct framebuffer *fb = (struct framebuffer *)context;
    if (offset != 0x04) {
        return S_OK;
    }
    if (!fb->started) {
        /* The table has no callback for a reset: it shows as a write to the command register while virtual
         * processors stand still, which no guest can make. */
        reset(fb);
    } else if ((value & 0x2) != 0) {
        return put_into_bar(fb); /* Memory Space Enable */
    }
    return S_OK;
}

static HRESULT CALLBACK ReadInterceptedMemory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset,
                                              UINT64 length, BYTE *value)
{
    struct framebuffer *fb = (struct framebuffer *)context;
    if (bar == HDV_PCI_BAR0) {
        /* The memory is not in the BAR yet. */
        fb->reads++;
        memcpy(value, fb->memory + offset, length);
        return S_OK;
    }
    memset(value, 0, length);
    if (length == 4) {
        uint32_t held = read_register(fb, offset);
        for (int i = 0; i < 4; i++) {
            value[i] = (BYTE)(held >> 8 * i);
        }
    }
    return S_OK;
}

static HRESULT CALLBACK WriteInterceptedMemory(void *context, HDV_PCI_BAR_SELECTOR bar, UINT64 offset,
                                               UINT64 length, const BYTE *value)
{
    struct framebuffer *fb = (struct framebuffer *)context;
    if (bar == HDV_PCI_BAR0) {
        fb->writes++;
        memcpy(fb->memory + offset, value, length);
    } else if (length == 4) {
        write_register(fb, offset,
                       value[0] | (uint32_t)value[1] << 8 | (uint32_t)value[2] << 16
                           | (uint32_t)value[3] << 24);
    }
    return S_OK;
}

/* ---- The program. ---- */

/* {0f4b5a0e-62f4-4a8d-9d5c-6b0b3f1c0103}: which emulator this is. */
static const GUID class_id = {
    0x0f4b5a0e, 0x62f4, 0x4a8d, {0x9d, 0x5c, 0x6b, 0x0b, 0x3f, 0x1c, 0x01, 0x03}};

static int failed(const char *what, HRESULT hr)
{
    char text[512];
    OpenHdvGetLastErrorText(text, sizeof text);
    fprintf(stderr, "framebuffer: %s: 0x%08x: %s\n", what, (unsigned)hr, text);
    return 1;
}

static int usage(void)
{
    fprintf(stderr, "usage: framebuffer DIRECTORY INSTANCE-ID [--png FILE] [--late]\n");
    return 2;
}

/* Makes the memory: a section, mapped here. */
static HRESULT make_memory(struct framebuffer *fb)
{
    HRESULT hr = OpenHdvCreateSection(MEMORY_BYTES, &fb->section);
    if (FAILED(hr)) {
        return hr;
    }
    void *mapped = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                        OPENHDV_DESCRIPTOR_FROM_HANDLE(fb->section), 0);
    if (mapped == MAP_FAILED) {
        OpenHdvCloseHandle(fb->section);
        return E_OUTOFMEMORY;
    }
    fb->memory = (BYTE *)mapped;
    return S_OK;
}

/* Serves the framebuffer in a compute system until a signal comes. */
static int serve(struct framebuffer *fb, HCS_SYSTEM system, const char *directory,
                 const GUID *instance_id, const sigset_t *signals)
{
    HDV_PCI_DEVICE_INTERFACE callbacks;
    HDV_HOST host = NULL;
    char instance[OPENHDV_GUID_TEXT_SIZE];

    callbacks.Version = HdvPciDeviceInterfaceVersion1;
    callbacks.Initialize = Initialize;
    callbacks.Teardown = Teardown;
    callbacks.SetConfiguration = SetConfiguration;
    callbacks.GetDetails = GetDetails;
    callbacks.Start = Start;
    callbacks.Stop = Stop;
    callbacks.ReadConfigSpace = ReadConfigSpace;
    callbacks.WriteConfigSpace = WriteConfigSpace;
    callbacks.ReadInterceptedMemory = ReadInterceptedMemory;
    callbacks.WriteInterceptedMemory = WriteInterceptedMemory;

    HRESULT hr = HdvInitializeDeviceHost(system, &host);
    if (FAILED(hr)) {
        return failed("HdvInitializeDeviceHost", hr);
    }
    hr = HdvCreateDeviceInstance(host, HdvDeviceTypePCI, &class_id, instance_id, &callbacks, fb,
                                 &fb->device);
    if (SUCCEEDED(hr)) {
        OpenHdvFormatGuid(instance_id, instance);
        printf("ready %s/%s.sock\n", directory, instance);
        fflush(stdout);
        int signal;
        sigwait(signals, &signal);
    }

    int status = SUCCEEDED(hr) ? 0 : failed("HdvCreateDeviceInstance", hr);
    hr = HdvTeardownDeviceHost(host);
    if (FAILED(hr)) {
        status = failed("HdvTeardownDeviceHost", hr);
    }
    return status;
}

int main(int argc, char **argv)
{
    static struct framebuffer fb;
    HCS_SYSTEM system = NULL;
    GUID instance_id;

    if (argc < 3) {
        return usage();
    }
    for (int i = 3; i < argc; i++) {
        if (strcmp(argv[i], "--late") == 0) {
            fb.late = true;
        } else if (strcmp(argv[i], "--png") == 0 && i + 1 < argc) {
            fb.png = argv[++i];
        } else {
            return usage();
        }
    }

    /* Before there is any thread, so that every one inherits it and sigwait gets the signals. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    HRESULT hr = OpenHdvParseGuid(argv[2], &instance_id);
    if (FAILED(hr)) {
        return failed(argv[2], hr);
    }
    hr = make_memory(&fb);
    if (FAILED(hr)) {
        return failed("16 MiB of memory", hr);
    }
    hr = OpenHdvOpenSocketSystem(argv[1], &system);
    int status = FAILED(hr) ? failed(argv[1], hr) : serve(&fb, system, argv[1], &instance_id, &signals);
    HcsCloseComputeSystem(system);
    munmap(fb.memory, MEMORY_BYTES);
    OpenHdvCloseHandle(fb.section);
    return status;
}
