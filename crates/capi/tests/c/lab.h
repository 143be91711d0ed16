/*
 * The lab: eight devices whose registers let a guest see that the host keeps the rules of HDV. Here are
 * their register maps and what their sources share; each device is in a file of its own.
 *
 * The numbers are those of crates/guest/src/lab/registers.rs; a test compares them.
 */
#ifndef OPENHDV_LAB_H
#define OPENHDV_LAB_H

#include <hypervdevicevirtualization.h>

#include <stddef.h>
#include <stdint.h>

/* Identity. Device ids begin with that of device 0; no driver binds to the class. */
#define LAB_VENDOR_ID 0x4f48
#define LAB_DEVICE_ID 0x0110
#define LAB_CLASS 0xff0000
#define LAB_DEVICES 8

#define LAB_ZEROS 0
#define LAB_SECTIONS 1
#define LAB_LATE 2
#define LAB_DOORBELLS 3
#define LAB_RESET 4
#define LAB_DMA 5
#define LAB_FAILING 6
#define LAB_DOOMED 7

#define LAB_PAGE 0x1000

/* BAR 0 of every device. Registers are dwords; an access of 8 bytes is one to two of them. */
#define LAB_MAGIC 0x00           /* reads LAB_MAGIC_VALUE */
#define LAB_MAGIC_VALUE 0x2142414c
#define LAB_INDEX 0x04           /* which device, 0 to 7 */
#define LAB_RESULT 0x08          /* HRESULT of the last command */
#define LAB_STARTS 0x0c          /* calls of Start */
#define LAB_STOPS 0x10           /* calls of Stop */
#define LAB_CONFIG_READS 0x14    /* calls of ReadConfigSpace */
#define LAB_CONFIG_WRITES 0x18   /* calls of WriteConfigSpace */
#define LAB_OVERLAPS 0x1c        /* calls that came while another was in progress */
#define LAB_SCRATCH 0x20         /* 8 bytes to write and read */
#define LAB_STATE 0x28           /* which calls of the lifecycle came out of order, as bits; 0 if none */

/* Device 0: BARs 2 (64 bits wide, prefetchable) and 4 (32 bits wide) read as a pattern of their number and
 * the offset. */
#define LAB_ZEROS_BAR2_BYTES 0x4000
#define LAB_ZEROS_BAR4_BYTES 0x2000
#define LAB_ZEROS_LAST_BAR 0x40  /* of the last write to BAR 2 or 4: the BAR, */
#define LAB_ZEROS_LAST_OFFSET 0x44
#define LAB_ZEROS_LAST_LENGTH 0x48
#define LAB_ZEROS_LAST_VALUE 0x50 /* 8 bytes */
#define LAB_ZEROS_READS 0x58     /* reads of BARs 2 and 4 */
#define LAB_ZEROS_WRITES 0x5c    /* writes to them */

/* Device 1: sections in BAR 2, by page. */
#define LAB_SECTIONS_BAR2_BYTES 0x8000
#define LAB_SECTIONS_A_PAGE 0    /* writeable, of one file */
#define LAB_SECTIONS_A_PAGES 2
#define LAB_SECTIONS_B_PAGE 2    /* writeable, of another file, from its second page */
#define LAB_SECTIONS_B_PAGES 1
#define LAB_SECTIONS_HOLE_PAGE 3 /* not backed: intercepted */
#define LAB_SECTIONS_C_PAGE 4    /* not writeable, of a third file */
#define LAB_SECTIONS_C_PAGES 2
#define LAB_SECTIONS_SUM_A 0x40  /* checksum over the host's mapping, computed as it is read */
#define LAB_SECTIONS_SUM_B 0x44
#define LAB_SECTIONS_SUM_C 0x48
#define LAB_SECTIONS_SETUP 0x4c  /* HRESULT of creating the sections */
#define LAB_SECTIONS_FILL 0x50   /* write section (0 to 2) | seed << 8: the host writes the pattern of the seed */
#define LAB_SECTIONS_INTERCEPTS 0x54 /* accesses to backed pages that the device saw: none */
#define LAB_SECTIONS_HOLE_READS 0x58 /* reads of the page that is not backed */
#define LAB_SECTIONS_HOLE_WRITES 0x5c
#define LAB_SECTIONS_HOLE_VALUE 0x60 /* 8 bytes: the last value written there */
#define LAB_SECTIONS_REFUSE 0x68 /* write LAB_SECTIONS_REFUSE_*: a section that must be refused; see result */
#define LAB_SECTIONS_REFUSE_OUTSIDE 1  /* past the BAR */
#define LAB_SECTIONS_REFUSE_EMPTY 2    /* no pages */
#define LAB_SECTIONS_REFUSE_OVERLAP 3  /* over section A, of another file */
#define LAB_SECTIONS_REFUSE_IDENTICAL 4 /* section A once more: not refused */
#define LAB_SECTIONS_REFUSE_MISSING 5  /* destroying what is not there */

/* Device 2: a section in BAR 2 from when the guest enables Memory Space until it disables it. */
#define LAB_LATE_BAR2_BYTES 0x4000
#define LAB_LATE_PAGE 0
#define LAB_LATE_PAGES 2
#define LAB_LATE_CREATED 0x40    /* how often it was created */
#define LAB_LATE_DESTROYED 0x44
#define LAB_LATE_CREATE_RESULT 0x48 /* HRESULT of the last creation */
#define LAB_LATE_DESTROY_RESULT 0x4c
#define LAB_LATE_COMMAND 0x50    /* write LAB_LATE_*; see result */
#define LAB_LATE_COMMAND_CREATE 1    /* exactly the same section */
#define LAB_LATE_COMMAND_OVERLAP 2   /* one page of it, writeable too */
#define LAB_LATE_COMMAND_FLAGS 3     /* the same range, not writeable */
#define LAB_LATE_COMMAND_DESTROY 4
#define LAB_LATE_SUM 0x54        /* checksum over the host's mapping */
#define LAB_LATE_FILL 0x58       /* write seed: the host writes the pattern */
#define LAB_LATE_INTERCEPTS 0x5c /* accesses to its pages that the device saw */

/* Device 3: doorbells in page 0 of BAR 2, a doorbell page in page 1. */
#define LAB_DOORBELLS_BAR2_BYTES 0x4000
#define LAB_DOORBELLS_COUNT 14   /* the last is the page */
#define LAB_DOORBELLS_PAGE 1
#define LAB_DOORBELLS_REGISTER 0x40   /* write the number of a doorbell; see result */
#define LAB_DOORBELLS_UNREGISTER 0x44
#define LAB_DOORBELLS_INTERCEPTS 0x48 /* writes to BAR 2 that the device saw */
#define LAB_DOORBELLS_LAST_OFFSET 0x4c /* of the last of them */
#define LAB_DOORBELLS_LAST_LENGTH 0x50
#define LAB_DOORBELLS_SETUP 0x54 /* HRESULT of registering all */
#define LAB_DOORBELLS_LAST_VALUE 0x58 /* 8 bytes */
#define LAB_DOORBELLS_READS 0x60 /* reads of BAR 2 that the device saw */
#define LAB_DOORBELLS_SIGNALS 0x100 /* dword per doorbell: how often its event was signalled */

/* Device 4: MSI-X in BAR 2, and function level reset, which clears the table. */
#define LAB_RESET_BAR2_BYTES 0x2000
#define LAB_RESET_VECTORS 8
#define LAB_RESET_PENDING 0x1000 /* offset of the pending-bit array in BAR 2; the table is at 0 */
#define LAB_RESET_TRIGGER 0x40   /* write a vector: its message is delivered; see result */
#define LAB_RESET_UNKNOWN 0x44   /* write anything: a message that no vector has is delivered; see result */
#define LAB_RESET_RESETS 0x48    /* function level resets */
#define LAB_RESET_TABLE_WRITES 0x4c /* writes to the table that the device saw */
#define LAB_RESET_TABLE 0x100    /* the table as the device has it, 16 bytes per vector */

/* Device 5: guest memory. */
#define LAB_DMA_ADDRESS 0x40     /* 8 bytes */
#define LAB_DMA_LENGTH 0x48      /* bytes, at most LAB_DMA_BYTES_MAX */
#define LAB_DMA_BYTES_MAX 0x10000
#define LAB_DMA_SEED 0x4c        /* of the pattern that is written */
#define LAB_DMA_SLOT 0x50        /* which aperture, below LAB_DMA_SLOTS */
#define LAB_DMA_SLOTS 4
#define LAB_DMA_SUM 0x54         /* checksum of what the last command read */
#define LAB_DMA_COMMAND 0x58     /* write LAB_DMA_*; see result */
#define LAB_DMA_COMMAND_READ 1       /* HdvReadGuestMemory; see sum */
#define LAB_DMA_COMMAND_WRITE 2      /* HdvWriteGuestMemory of the pattern */
#define LAB_DMA_COMMAND_APERTURE 3   /* creates an aperture in the slot */
#define LAB_DMA_COMMAND_PROTECTED 4  /* creates a write-protected one */
#define LAB_DMA_COMMAND_DESTROY 5    /* destroys that of the slot; without one, a made-up address */
#define LAB_DMA_COMMAND_LOOK 6       /* sum over the aperture, read through the pointer */
#define LAB_DMA_COMMAND_FILL 7       /* the pattern, written through the pointer */
#define LAB_DMA_COMMAND_WRITEABLE 8  /* result: S_OK if the pointer can be written through, else E_ACCESSDENIED */
#define LAB_DMA_COMMAND_NULL 9       /* HdvReadGuestMemory without a buffer */

/* Device 6: callbacks that fail. */
#define LAB_FAILING_FROM 0x800   /* from here to the end of BAR 0 every access fails */
#define LAB_FAILING_CONFIG 0xc0  /* 16 bytes of config space where every access fails */
#define LAB_FAILING_CONFIG_BYTES 0x10
#define LAB_FAILING_READS 0x40   /* calls that failed, by callback */
#define LAB_FAILING_WRITES 0x44
#define LAB_FAILING_CONFIG_READS 0x48
#define LAB_FAILING_CONFIG_WRITES 0x4c

/* Device 7, alone on its host: gone when the guest says so. */
#define LAB_DOOMED_DOOM 0x40     /* write LAB_DOOMED_DOOM_VALUE: its host is torn down */
#define LAB_DOOMED_DOOM_VALUE 0x600dbeef
#define LAB_DOOMED_INSIDE 0x44   /* write anything: HdvTeardownDeviceHost from inside the callback; see result */
#define LAB_DOOMED_DOORBELL 0x800 /* a doorbell, still registered when the host is torn down */

struct lab_device;

/* What one device is and does. BAR 0's registers below 0x40 are not its business. */
struct lab_behaviour {
    const char *name;
    UINT32 probed_bars[HDV_PCI_BAR_COUNT];
    size_t state_bytes; /* zeroed memory of the device's own, at `state` */
    HRESULT (*start)(struct lab_device *device);
    void (*teardown)(struct lab_device *device);
    /* Without these two config space reads as zeros. */
    HRESULT (*read_config)(struct lab_device *device, UINT32 offset, UINT32 *value);
    HRESULT (*write_config)(struct lab_device *device, UINT32 offset, UINT32 value);
    UINT32 (*read_register)(struct lab_device *device, UINT64 offset);
    void (*write_register)(struct lab_device *device, UINT64 offset, UINT32 value);
    /* Accesses that are none to registers: every other BAR, and BAR 0 from `registers_end`. */
    HRESULT (*read)(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 *value);
    HRESULT (*write)(struct lab_device *device, UINT32 bar, UINT64 offset, UINT64 length, UINT64 value);
    UINT64 registers_end; /* 0 for all of BAR 0 */
};

struct lab_device {
    const struct lab_behaviour *behaviour;
    UINT32 index;
    HDV_HOST host;
    HDV_DEVICE handle;
    void *state;
    HRESULT result;
    UINT32 starts, stops, config_reads, config_writes, overlaps, disorder, teardowns;
    UINT64 scratch;
    int initialized, started;
    int inside; /* accessed atomically: calls in progress */
};

/* A file with a mapping of the host's own. */
struct lab_memory {
    int file;
    size_t length;
    void *bytes;
};

extern const struct lab_behaviour lab_zeros, lab_sections, lab_late, lab_doorbells, lab_reset, lab_dma,
    lab_failing, lab_doomed;

/* The doomed device's wish: tears down `host` in a thread of its own. */
void lab_doom(HDV_HOST host);

/* Descriptors as the handles that HDV takes. */
HANDLE lab_handle(int descriptor);

/* Makes a memfd of `pages` and maps it. */
HRESULT lab_memory_make(struct lab_memory *memory, size_t pages);
void lab_memory_free(struct lab_memory *memory);

/* Word `index` of the pattern of `seed`, and the checksum of `words`, as the guest computes them. */
UINT32 lab_pattern(UINT32 seed, UINT32 index);
void lab_fill(volatile UINT32 *words, size_t count, UINT32 seed);
UINT32 lab_sum(const volatile UINT32 *words, size_t count);

#endif
