/* An intrusive, circular, doubly linked list: links are embedded in what they
 * link, the list itself is one more link.  A link that is in no list points at
 * itself, so removing twice is harmless. */
#ifndef CUEBALL_CORE_LIST_H
#define CUEBALL_CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct cueball__link {
    struct cueball__link *next, *prev;
} cueball__link;

/* What a link is embedded in. */
#define CUEBALL__OWNER(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static inline void cueball__link_init(cueball__link *link)
{
    link->next = link->prev = link;
}

static inline bool cueball__list_is_empty(const cueball__link *list)
{
    return list->next == list;
}

static inline bool cueball__link_is_linked(const cueball__link *link)
{
    return link->next != link;
}

static inline void cueball__list_append(cueball__link *list, cueball__link *link)
{
    link->next = list;
    link->prev = list->prev;
    list->prev->next = link;
    list->prev = link;
}

static inline void cueball__list_remove(cueball__link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    cueball__link_init(link);
}

/* Every link of the list; the loop's body may remove `link`, and nothing else. */
#define CUEBALL__LIST_EACH(link, following, list)                                                                                          \
    for (cueball__link *link = (list)->next, *following = link->next; link != (list); link = following, following = link->next)

#endif
