#include "sort.h"

#include <assert.h>
#include <string.h>

/* Lets base[root] sink to where both below it are smaller. */
static void sift(char *base, size_t root, size_t count, size_t size, int (*compare)(const void *, const void *))
{
    assert(root < count);
    assert(size <= CUEBALL__SORT_SIZE_MAX);
    char sinking[CUEBALL__SORT_SIZE_MAX];
    memcpy(sinking, base + root * size, size);
    for (;;) {
        size_t child = root * 2 + 1;
        if (child >= count)
            break;
        if (child + 1 < count && compare(base + child * size, base + (child + 1) * size) < 0)
            child++;
        if (compare(sinking, base + child * size) >= 0)
            break;
        memcpy(base + root * size, base + child * size, size);
        root = child;
    }
    memcpy(base + root * size, sinking, size);
}

void cueball__sort(void *base, size_t count, size_t size, int (*compare)(const void *, const void *))
{
    assert(size > 0);
    assert(count == 0 || base);
    assert(size <= CUEBALL__SORT_SIZE_MAX);
    char *first = base;
    for (size_t root = count / 2; root-- > 0;)
        sift(first, root, count, size, compare);
    for (size_t end = count; end-- > 1;) {
        char last[CUEBALL__SORT_SIZE_MAX];
        memcpy(last, first + end * size, size);
        memcpy(first + end * size, first, size);
        memcpy(first, last, size);
        sift(first, 0, end, size, compare);
    }
}
