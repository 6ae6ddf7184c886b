/* SPDX-License-Identifier: MIT */
/* size_class.c: class_of_pages as a table. See size_class.h. */
#include "base/size_class.h"

#define CLASS_OF(n) ((n) <= 2 * CLASS_STEPS ? (n) : CLASS_STEPS + (((n)-1) >> 1) + 1)
#define FOUR_FROM(n) CLASS_OF(n), CLASS_OF((n) + 1), CLASS_OF((n) + 2), CLASS_OF((n) + 3)
#define SIXTEEN_FROM(n) FOUR_FROM(n), FOUR_FROM((n) + 4), FOUR_FROM((n) + 8), FOUR_FROM((n) + 12)

const uint8_t class_table[CLASS_TABLE_PAGES] = {SIXTEEN_FROM(1), SIXTEEN_FROM(17), SIXTEEN_FROM(33),
                                                SIXTEEN_FROM(49)};
