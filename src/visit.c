/* Visits, see cueball_visit.h. */
#include "cueball_visit.h"

static void visitor_ended(cueball_visitor *visitor, cueball_doorbell *bell)
{
    if (visitor->has_ended)
        return;
    bool is_first = !bell->ended;
    visitor->has_ended = 1;
    visitor->next_ended = bell->ended;
    bell->ended = visitor;
    if (is_first && bell->ring)
        (void)bell->ring(bell->user, 1);
}

void cueball_visit_over(void *over)
{
    cueball_visit *visit = over;
    visit->is_over = 1;
    for (cueball_visitor *visitor = visit->first; visitor; visitor = visitor->next) {
        if (cueball_owner_left(visitor->owner))
            visitor_ended(visitor, visit->bell);
    }
    visit->first = NULL;
}
