/* Force-included where programs are built for helgrind (valgrind), which does not know atomics: it is told that each of
 * them orders what the memory model says that it orders, and not to look for races at the atomic itself. */
#ifndef HELGRIND_H
#define HELGRIND_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <valgrind/helgrind.h>

/* Nor does it know sem_clockwait(). */
#define CUEBALL__SLEEPER_IS_CONDITION 1

/* Nor that what was done once comes before whoever finds it done. */
static inline int helgrind_once(pthread_once_t *once, void (*routine)(void))
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&mutex);
    int result = pthread_once(once, routine);
    pthread_mutex_unlock(&mutex);
    return result;
}
#define pthread_once helgrind_once

#define HELGRIND_BEFORE(at, order)                                                                                                         \
    do {                                                                                                                                   \
        VALGRIND_HG_DISABLE_CHECKING((void *)(uintptr_t)(at), sizeof *(at));                                                               \
        if ((order) != memory_order_relaxed && (order) != memory_order_acquire)                                                            \
            ANNOTATE_HAPPENS_BEFORE(at);                                                                                                   \
    } while (0)
#define HELGRIND_AFTER(at, order)                                                                                                          \
    do {                                                                                                                                   \
        if ((order) != memory_order_relaxed && (order) != memory_order_release)                                                            \
            ANNOTATE_HAPPENS_AFTER(at);                                                                                                    \
    } while (0)
#define HELGRIND_CHANGE(call, at, value, order)                                                                                            \
    __extension__({                                                                                                                        \
        __auto_type at_ = (at);                                                                                                            \
        HELGRIND_BEFORE(at_, order);                                                                                                       \
        __auto_type was_ = call(at_, (value), (order));                                                                                    \
        HELGRIND_AFTER(at_, order);                                                                                                        \
        was_;                                                                                                                              \
    })
#define HELGRIND_EXCHANGE(at, expected, wanted, is_weak, well, ill)                                                                        \
    __extension__({                                                                                                                        \
        __auto_type at_ = (at);                                                                                                            \
        HELGRIND_BEFORE(at_, well);                                                                                                        \
        bool is_well_ = __atomic_compare_exchange_n(at_, (expected), (wanted), is_weak, (well), (ill));                                    \
        HELGRIND_AFTER(at_, well);                                                                                                         \
        is_well_;                                                                                                                          \
    })

#undef atomic_init
#define atomic_init(at, value)                                                                                                             \
    do {                                                                                                                                   \
        VALGRIND_HG_DISABLE_CHECKING((void *)(uintptr_t)(at), sizeof *(at));                                                               \
        __atomic_store_n((at), (value), __ATOMIC_RELAXED);                                                                                 \
    } while (0)
#undef atomic_load_explicit
#define atomic_load_explicit(at, order)                                                                                                    \
    __extension__({                                                                                                                        \
        __auto_type at_ = (at);                                                                                                            \
        HELGRIND_BEFORE(at_, memory_order_relaxed);                                                                                        \
        __auto_type is_ = __atomic_load_n(at_, (order));                                                                                   \
        HELGRIND_AFTER(at_, order);                                                                                                        \
        is_;                                                                                                                               \
    })
#undef atomic_store_explicit
#define atomic_store_explicit(at, value, order)                                                                                            \
    do {                                                                                                                                   \
        __auto_type at_ = (at);                                                                                                            \
        HELGRIND_BEFORE(at_, order);                                                                                                       \
        __atomic_store_n(at_, (value), (order));                                                                                           \
    } while (0)
#undef atomic_exchange_explicit
#define atomic_exchange_explicit(at, value, order) HELGRIND_CHANGE(__atomic_exchange_n, at, value, order)
#undef atomic_fetch_add_explicit
#define atomic_fetch_add_explicit(at, value, order) HELGRIND_CHANGE(__atomic_fetch_add, at, value, order)
#undef atomic_fetch_sub_explicit
#define atomic_fetch_sub_explicit(at, value, order) HELGRIND_CHANGE(__atomic_fetch_sub, at, value, order)
#undef atomic_fetch_or_explicit
#define atomic_fetch_or_explicit(at, value, order) HELGRIND_CHANGE(__atomic_fetch_or, at, value, order)
#undef atomic_fetch_and_explicit
#define atomic_fetch_and_explicit(at, value, order) HELGRIND_CHANGE(__atomic_fetch_and, at, value, order)
#undef atomic_compare_exchange_strong_explicit
#define atomic_compare_exchange_strong_explicit(at, expected, wanted, well, ill) HELGRIND_EXCHANGE(at, expected, wanted, false, well, ill)
#undef atomic_compare_exchange_weak_explicit
#define atomic_compare_exchange_weak_explicit(at, expected, wanted, well, ill) HELGRIND_EXCHANGE(at, expected, wanted, true, well, ill)

#undef atomic_load
#define atomic_load(at) atomic_load_explicit(at, memory_order_seq_cst)
#undef atomic_store
#define atomic_store(at, value) atomic_store_explicit(at, value, memory_order_seq_cst)
#undef atomic_exchange
#define atomic_exchange(at, value) atomic_exchange_explicit(at, value, memory_order_seq_cst)
#undef atomic_fetch_add
#define atomic_fetch_add(at, value) atomic_fetch_add_explicit(at, value, memory_order_seq_cst)
#undef atomic_fetch_sub
#define atomic_fetch_sub(at, value) atomic_fetch_sub_explicit(at, value, memory_order_seq_cst)

#endif
