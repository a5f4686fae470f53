/* Mailboxes: answers to claims, for programs that have an event loop of their own.
 *
 * The happy path: a claim that cannot be granted at once has a letter in its mailbox,
 * which is the waiter that the core's claim knows of.  Whoever answers the claim fills
 * in the letter under the pool's lock and, once that is left, delivers it: the letter
 * goes from `waiting` to `answered`, and if it is the first there, the descriptor is
 * made readable.  The loop takes the letters; the last one makes the descriptor
 * unreadable again.  So a hundred answers that come together wake the loop once.
 *
 * What can go wrong: a claim is cancelled, or its mailbox freed, while its answer is on
 * the way.  Whether a claim has its answer is known under the pool's lock: a claim
 * without one is taken out of the core there, and nobody delivers it; one with an
 * answer is delivered, for certain, and is waited for where the mailbox is freed.
 *
 * The mailbox's mutex is taken with no other lock held, and none is taken below it. */
#include "claim.h"
#include "fault.h"
#include "lock.h"
#include "process.h"
#include "wake.h"
#include "watch.h"

#include <stdlib.h>
#include <string.h>

/* A claim whose answer goes to a mailbox.  Nobody's but the mailbox's between two claims. */
typedef struct letter {
    cueball__waiter waiter;
    cueball__link at_mailbox; /* in one of its three lists */
    cueball_mailbox *mailbox;
    cueball_threaded *pool; /* a reference, until the letter is blank again */
    uint64_t user;
    bool is_detached, is_nonblocking;
} letter;

struct cueball_mailbox {
    pthread_mutex_t mutex;
    pthread_cond_t delivered; /* while the mailbox is freed: something was */
    cueball__link waiting;    /* letters of claims without an answer, or with one that is on the way */
    cueball__link answered;   /* letters to be taken, oldest first */
    cueball__link blank;      /* letters to be used again */
    cueball__wake wake;       /* its reading end is what the program polls */
    bool is_readable;         /* that one */
    uint32_t generation;      /* of the process that made it */
};

/* ------------------------------------------------------------- descriptors -- */

/* Both with the mutex. */
static void mailbox_make_readable(cueball_mailbox *mailbox)
{
    assert(!mailbox->is_readable);
    mailbox->is_readable = true;
    cueball__wake_tell(mailbox->wake.write_fd);
}

static void mailbox_make_unreadable(cueball_mailbox *mailbox)
{
    assert(mailbox->is_readable);
    assert(cueball__list_is_empty(&mailbox->answered));
    mailbox->is_readable = false;
    cueball__wake_clear(mailbox->wake.read_fd);
}

static void mailbox_enter(cueball_mailbox *mailbox)
{
    int result = pthread_mutex_lock(&mailbox->mutex);
    assert(result == 0);
    (void)result;
}

static void mailbox_leave(cueball_mailbox *mailbox)
{
    int result = pthread_mutex_unlock(&mailbox->mutex);
    assert(result == 0);
    (void)result;
}

/* ----------------------------------------------------------------- letters -- */

static letter *letter_of(cueball__link *link)
{
    return CUEBALL__OWNER(link, letter, at_mailbox);
}

/* The claim has its answer: of whoever answered it, without a lock.  From the moment
 * that the mutex is left, letter and mailbox may be gone. */
static void letter_deliver(cueball__waiter *waiter)
{
    letter *one = CUEBALL__OWNER(waiter, letter, waiter);
    cueball_mailbox *mailbox = one->mailbox;
    assert(waiter->tell == letter_deliver);
    assert(waiter->is_answered);
    mailbox_enter(mailbox);
    assert(cueball__link_is_linked(&one->at_mailbox));
    cueball__list_remove(&one->at_mailbox);
    cueball__list_append(&mailbox->answered, &one->at_mailbox);
    if (!mailbox->is_readable)
        mailbox_make_readable(mailbox);
    pthread_cond_signal(&mailbox->delivered);
    mailbox_leave(mailbox);
}

/* A letter for a claim that is about to be made; it is among those that wait, since an
 * answer may come before the claim returns.  NULL: there is no memory. */
static letter *letter_begin(cueball_mailbox *mailbox, cueball_threaded *pool, const cueball_threaded_claim_options *options)
{
    letter *one = NULL;
    mailbox_enter(mailbox);
    if (!cueball__list_is_empty(&mailbox->blank)) {
        one = letter_of(mailbox->blank.next);
        assert(!one->pool);
        cueball__list_remove(&one->at_mailbox);
    }
    mailbox_leave(mailbox);
    if (!one)
        one = malloc(sizeof *one);
    if (!one)
        return NULL;
    *one = (letter){ .mailbox = mailbox, .pool = pool, .user = options->user };
    one->is_detached = options->detached;
    one->is_nonblocking = options->nonblocking;
    cueball__link_init(&one->at_mailbox);
    cueball_threaded_keep(pool);
    mailbox_enter(mailbox);
    cueball__list_append(&mailbox->waiting, &one->at_mailbox);
    mailbox_leave(mailbox);
    return one;
}

/* Makes its claim, once more if what that got has broken while it rested. */
static int letter_send(letter *one, const cueball_threaded_claim_options *options, cueball_lease *lease, cueball__wait *wait)
{
    int result;
    do {
        one->waiter = (cueball__waiter){ .tell = letter_deliver, .thread = cueball__thread_number() };
        result = cueball__claim_begin(one->pool, &one->waiter, options, lease, wait);
    } while (result == CUEBALL_OK && cueball__claim_is_broken(lease));
    return result;
}

/* Its claim is over, and nobody will deliver it: it can be used again. */
static void letter_end(letter *one)
{
    cueball_mailbox *mailbox = one->mailbox;
    cueball_threaded *pool = one->pool;
    assert(pool);
    mailbox_enter(mailbox);
    one->pool = NULL;
    cueball__list_remove(&one->at_mailbox);
    cueball__list_append(&mailbox->blank, &one->at_mailbox);
    mailbox_leave(mailbox);
    cueball_threaded_drop(pool);
}

/* Takes the claim out of the core: nobody will deliver the letter.  CUEBALL_ESTALE: it
 * has its answer, and will be delivered.  With the pool's lock. */
static int letter_cancel(letter *one)
{
    if (one->waiter.is_answered)
        return CUEBALL_ESTALE;
    assert(one->pool->core); /* else it would have been answered */
    assert(one->waiter.claim != 0);
    assert(cueball_pool_claim_user(one->pool->core, one->waiter.claim) == cueball__user_of_waiter(&one->waiter));
    int result = cueball_pool_claim_cancelled(one->pool->core, cueball_clock_now(), one->waiter.claim);
    assert(result == CUEBALL_OK);
    return result;
}

/* The lease gets into the hands of the calling thread. */
static void lease_own(cueball_lease *lease, bool is_nonblocking, bool is_detached)
{
    cueball__loan_set_nonblocking(lease->loan, is_nonblocking);
    if (!is_detached)
        (void)cueball_lease_adopt(lease); /* without memory for that it stays detached; or it was taken away already */
}

/* What the program gets of it. */
static void letter_read(letter *one, cueball_claim_answer *answer)
{
    assert(one->waiter.is_answered);
    assert(one->pool);
    assert(!cueball__link_is_linked(&one->at_mailbox));
    assert(!one->waiter.loan == (one->waiter.error != CUEBALL_OK));
    *answer = (cueball_claim_answer){ .user = one->user, .error = one->waiter.error, .lease = { .fd = -1 } };
    if (answer->error != CUEBALL_OK) {
        (void)cueball__claim_refused(one->pool, answer->error, &one->waiter);
        return;
    }
    cueball__claim_fill(&answer->lease, &one->waiter);
    lease_own(&answer->lease, one->is_nonblocking, one->is_detached);
}

/* --------------------------------------------------------------- mailboxes -- */

int cueball_mailbox_new(cueball_mailbox **mailbox)
{
    if (!mailbox)
        return cueball__fault(CUEBALL_EINVAL, "room for the mailbox is needed, not NULL");
    *mailbox = NULL;
    cueball_mailbox *made = malloc(sizeof *made);
    if (!made)
        return cueball__fault_plain(CUEBALL_ENOMEM);
    memset(made, 0, sizeof *made);
    if (!cueball__wake_open(&made->wake)) {
        free(made);
        return cueball__fault(CUEBALL_ENOMEM, "no descriptor is left for the mailbox");
    }
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->delivered, NULL);
    cueball__link_init(&made->waiting);
    cueball__link_init(&made->answered);
    cueball__link_init(&made->blank);
    made->generation = cueball__process_generation();
    *mailbox = made;
    return CUEBALL_OK;
}

int cueball_mailbox_fd(const cueball_mailbox *mailbox)
{
    return mailbox ? mailbox->wake.read_fd : -1;
}

/* The next letter that is to be taken; NULL: there is none. */
static letter *mailbox_take(cueball_mailbox *mailbox)
{
    letter *one = NULL;
    mailbox_enter(mailbox);
    if (!cueball__list_is_empty(&mailbox->answered)) {
        one = letter_of(mailbox->answered.next);
        cueball__list_remove(&one->at_mailbox);
        assert(mailbox->is_readable);
    }
    if (cueball__list_is_empty(&mailbox->answered) && mailbox->is_readable)
        mailbox_make_unreadable(mailbox);
    mailbox_leave(mailbox);
    return one;
}

bool cueball_mailbox_next(cueball_mailbox *mailbox, cueball_claim_answer *answer)
{
    if (!mailbox || !answer || mailbox->generation != cueball__process_generation())
        return false;
    letter *one = mailbox_take(mailbox);
    if (!one)
        return false;
    letter_read(one, answer);
    letter_end(one);
    return true;
}

/* Whether a claim waits still, or its answer is on the way; *one is the first of them. */
static bool mailbox_first_waiting(cueball_mailbox *mailbox, letter **one)
{
    mailbox_enter(mailbox);
    bool is_there = !cueball__list_is_empty(&mailbox->waiting);
    if (is_there)
        *one = letter_of(mailbox->waiting.next);
    mailbox_leave(mailbox);
    return is_there;
}

/* The answer of this letter is on the way: until it is there. */
static void mailbox_await(cueball_mailbox *mailbox, const letter *one)
{
    int state;
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    mailbox_enter(mailbox);
    while (!cueball__list_is_empty(&mailbox->waiting) && letter_of(mailbox->waiting.next) == one)
        pthread_cond_wait(&mailbox->delivered, &mailbox->mutex);
    mailbox_leave(mailbox);
    (void)pthread_setcancelstate(state, NULL);
}

void cueball_mailbox_free(cueball_mailbox *mailbox)
{
    letter *one;
    cueball_claim_answer answer;
    if (!mailbox)
        return;
    if (mailbox->generation != cueball__process_generation()) {
        cueball__wake_close(&mailbox->wake); /* the parent has all else; a mutex of it may be locked for ever */
        return;
    }
    while (mailbox_first_waiting(mailbox, &one)) {
        cueball__threaded_enter(one->pool);
        int result = letter_cancel(one);
        cueball__threaded_leave(one->pool);
        if (result == CUEBALL_OK)
            letter_end(one);
        else
            mailbox_await(mailbox, one);
    }
    while (cueball_mailbox_next(mailbox, &answer)) {
        if (answer.error == CUEBALL_OK)
            (void)cueball_lease_release(&answer.lease);
    }
    assert(cueball__list_is_empty(&mailbox->waiting));
    assert(cueball__list_is_empty(&mailbox->answered));
    assert(!mailbox->is_readable);
    CUEBALL__LIST_EACH(link, following, &mailbox->blank)
    {
        free(letter_of(link));
    }
    cueball__wake_close(&mailbox->wake);
    pthread_cond_destroy(&mailbox->delivered);
    pthread_mutex_destroy(&mailbox->mutex);
    free(mailbox);
}

/* ------------------------------------------------------------------ claims -- */

int cueball_threaded_claim_async(cueball_threaded *pool, const cueball_threaded_claim_options *options, cueball_mailbox *mailbox,
                                 cueball_lease *lease, cueball_handle *claim)
{
    cueball_threaded_claim_options known;
    cueball__wait wait;
    if (!pool || !mailbox || !lease || !claim)
        return cueball__fault(CUEBALL_EINVAL, "a pool, a mailbox, a lease and a claim are needed, not NULL");
    *claim = 0;
    *lease = (cueball_lease){ .fd = -1 };
    if (!cueball__claim_options_read(&known, options))
        return CUEBALL_EINVAL;
    if (mailbox->generation != cueball__process_generation() || pool->generation != mailbox->generation)
        return cueball__fault_plain(CUEBALL_EFORKED);
    letter *one = letter_begin(mailbox, pool, &known);
    if (!one)
        return cueball__fault_plain(CUEBALL_ENOMEM);
    int result = letter_send(one, &known, lease, &wait);
    *claim = wait.claim;
    if (result == CUEBALL_WAITING)
        return result; /* the letter may be somebody else's by now */
    assert(result == CUEBALL_OK || !lease->pool);
    letter_end(one);
    if (result == CUEBALL_OK)
        lease_own(lease, known.nonblocking, known.detached);
    return result;
}

/* The letter of a claim that waits; NULL: it does not, or is none of a mailbox's.  With
 * the lock. */
static letter *letter_by_claim(const cueball_threaded *pool, cueball_handle claim)
{
    uint64_t user = pool->core ? cueball_pool_claim_user(pool->core, claim) : 0;
    cueball__waiter *waiter = cueball__user_is_waiter(user) ? cueball__waiter_of_user(user) : NULL;
    assert(!waiter || !waiter->is_answered);
    return waiter && waiter->tell == letter_deliver ? CUEBALL__OWNER(waiter, letter, waiter) : NULL;
}

int cueball_threaded_claim_cancel(cueball_threaded *pool, cueball_handle claim)
{
    if (!pool)
        return cueball__fault(CUEBALL_EINVAL, "a pool is needed, not NULL");
    if (pool->generation != cueball__process_generation())
        return cueball__fault_plain(CUEBALL_EFORKED);
    cueball__threaded_enter(pool);
    letter *one = letter_by_claim(pool, claim);
    int result = one ? letter_cancel(one) : CUEBALL_ESTALE;
    cueball__threaded_leave(pool);
    if (result != CUEBALL_OK)
        return cueball__fault_plain(result);
    letter_end(one);
    return result;
}
