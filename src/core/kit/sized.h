/* Structs of the API that begin with struct_size, see cueball_types.h. */
#ifndef CUEBALL_CORE_SIZED_H
#define CUEBALL_CORE_SIZED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a struct ended in the first version: behind this member. */
#define CUEBALL__END_OF(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

/* Gives a user's struct, which reaches as far as `size` says, the defaults. */
void cueball__sized_init(void *to, uint32_t size, const void *defaults, size_t own);
/* Copies what a user filled in, as far as both know it, onto defaults; `to` then has
 * struct_size `own`.  `first`: the size of the first version.  False: struct_size is
 * none, or a member that is not known here is set. */
bool cueball__sized_read(void *to, size_t own, size_t first, const void *from);
/* How far the struct that `from` is the first of an array of reaches. */
size_t cueball__sized_stride(size_t first, const void *from);
/* Copies to the user as much as its struct_size, which stays, has room for. */
void cueball__sized_write(void *to, size_t first, const void *from, size_t own);

#endif
