/*
 * For sources written for Windows: IUnknown, which computedefs.h has.
 */
#ifndef OPENHDV_UNKNWN_H
#define OPENHDV_UNKNWN_H

#include "../computedefs.h"

#endif /* OPENHDV_UNKNWN_H */
