/*
 * For sources written for Windows: GUIDs, which computedefs.h has.
 */
#ifndef OPENHDV_GUIDDEF_H
#define OPENHDV_GUIDDEF_H

#include "../computedefs.h"

#endif /* OPENHDV_GUIDDEF_H */
