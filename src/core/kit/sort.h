/* Heapsort: in place, O(n log n) whatever the order was.  Not stable: compare()
 * must tell apart what has to keep an order. */
#ifndef CUEBALL_CORE_SORT_H
#define CUEBALL_CORE_SORT_H

#include <stddef.h>

#define CUEBALL__SORT_SIZE_MAX 64

/* `size` of one is at most CUEBALL__SORT_SIZE_MAX; compare() as for qsort(). */
void cueball__sort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *));

#endif
