/*
 * Compute systems.
 */
#ifndef OPENHDV_COMPUTECORE_H
#define OPENHDV_COMPUTECORE_H

#include "computedefs.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Closes a handle to a compute system. The system lives on, and so do device hosts for it. A handle that
 * is none is ignored. */
void WINAPI HcsCloseComputeSystem(_In_opt_ HCS_SYSTEM ComputeSystem);

#ifdef __cplusplus
}
#endif

#endif /* OPENHDV_COMPUTECORE_H */
