/* What wakes an event loop: rung once, until it is cleared. */
#include "native.h"

#include <assert.h>

int cueball__native_bell_init(cueball__native_bell *bell)
{
    bell->is_rung = false;
    return cueball__wake_open(&bell->wake) ? CUEBALL_OK : CUEBALL_ENOMEM;
}

void cueball__native_bell_deinit(cueball__native_bell *bell)
{
    assert(bell->wake.read_fd >= 0);
    cueball__wake_close(&bell->wake);
}

void cueball__native_bell_ring(cueball__native_bell *bell)
{
    assert(bell->wake.write_fd >= 0);
    if (bell->is_rung)
        return;
    bell->is_rung = true;
    cueball__wake_tell(bell->wake.write_fd);
}

void cueball__native_bell_clear(cueball__native_bell *bell)
{
    assert(bell->wake.read_fd >= 0);
    if (!bell->is_rung)
        return;
    bell->is_rung = false;
    cueball__wake_clear(bell->wake.read_fd);
}
