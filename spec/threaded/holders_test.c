/* Who has a connection: threads by their numbers and names, the host. */
#define _GNU_SOURCE

#include "host.h"

#include <math.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static host h;

static uint64_t number(void)
{
    return (uint64_t)syscall(SYS_gettid);
}

/* The lease that the core has out, of this slot or any (UINT32_MAX); 0: none. */
static cueball_handle leased(uint32_t *slot)
{
    cueball_slot_info info = { .struct_size = sizeof info };
    cueball_handle lease = 0;
    cueball_pool *core = cueball_threaded_lock(h.pool);
    for (uint32_t i = 0; !lease && cueball_pool_slot_at(core, i, &info); i++) {
        lease = info.lease;
        *slot = i;
    }
    cueball_threaded_unlock(h.pool);
    return lease;
}

static cueball_threaded_holder holder(void)
{
    uint32_t slot = 0;
    cueball_handle lease = leased(&slot);
    cueball_threaded_holder told = { .struct_size = sizeof told };
    MUST(lease != 0 && cueball_threaded_holder_of(h.pool, slot, lease, &told) == CUEBALL_OK);
    return told;
}

typedef struct worker {
    pthread_t thread;
    pthread_barrier_t step;
    const char *name;
    cueball_threaded_claim_options options;
    uint64_t number;
    cueball_lease lease;
    int repeats;
} worker;

static void *worker_run(void *given)
{
    worker *w = given;
    if (w->name)
        MUST(pthread_setname_np(pthread_self(), w->name) == 0);
    w->number = number();
    w->options.struct_size = sizeof w->options;
    MUST(cueball_threaded_claim_with(h.pool, &w->options, &w->lease) == CUEBALL_OK);
    for (int i = 0; i < w->repeats; i++) {
        MUST(cueball_lease_release(&w->lease) == CUEBALL_OK);
        MUST(cueball_threaded_claim_with(h.pool, &w->options, &w->lease) == CUEBALL_OK);
    }
    pthread_barrier_wait(&w->step); /* it has it, */
    pthread_barrier_wait(&w->step); /* and may end */
    if (!w->options.detached)
        MUST(cueball_lease_release(&w->lease) == CUEBALL_OK);
    return NULL;
}

static void worker_begin(worker *w)
{
    MUST(pthread_barrier_init(&w->step, NULL, 2) == 0);
    MUST(pthread_create(&w->thread, NULL, worker_run, w) == 0);
    pthread_barrier_wait(&w->step);
}

static void worker_end(worker *w)
{
    pthread_barrier_wait(&w->step);
    pthread_join(w->thread, NULL);
    pthread_barrier_destroy(&w->step);
}

static const char *claim_fails(double timeout_ms)
{
    cueball_lease lease;
    MUST(cueball_threaded_claim(h.pool, timeout_ms, &lease) == CUEBALL_ECLAIM_TIMEOUT);
    return cueball_last_error();
}

/* What is said of this thread stands in the text. */
static bool names(const char *text, uint64_t thread, const char *name)
{
    char words[64];
    snprintf(words, sizeof words, " by thread %llu%s%s", (unsigned long long)thread, name ? " " : "", name ? name : "");
    const char *at = strstr(text, words);
    return at && (at[strlen(words)] == '\0' || at[strlen(words)] == ';');
}

static void test_names(void)
{
    worker w = { .name = "payments" };
    worker_begin(&w);
    cueball_threaded_holder told = holder();
    MUST(told.thread == w.number && !told.is_detached && strcmp(told.name, "payments") == 0);
    const char *fault = claim_fails(20);
    MUST(strncmp(fault, "claim timed out after ", 22) == 0 && strstr(fault, "(0 ahead, 1 busy); the oldest lease, on db1, is held "));
    MUST(names(fault, w.number, "(payments)"));
    MUST(!strstr(claim_fails(CUEBALL_NO_WAIT), "oldest"));
    MUST(pthread_setname_np(w.thread, "refunds") == 0);
    MUST(strcmp(holder().name, "refunds") == 0);
    cueball_threaded_note(h.pool, "db1: connection refused");
    MUST(strstr(claim_fails(20), "(refunds); last failure: db1: connection refused"));
    cueball_threaded_note(h.pool, NULL);
    worker_end(&w);
    printf("a thread: its number, and the name that it has now\n");
}

static void test_turns(void)
{
    worker w = { .name = "again", .repeats = 300 };
    worker_begin(&w);
    MUST(holder().thread == w.number);
    worker_end(&w);
    printf("in a turn: likewise\n");
}

static void test_handing_over(void)
{
    worker w = { .options = { .detached = true } };
    worker_begin(&w);
    worker_end(&w);
    cueball_threaded_holder told = holder();
    MUST(told.thread == w.number && told.is_detached && told.name[0] == '\0');
    MUST(names(claim_fails(20), w.number, "(detached)"));
    MUST(cueball_lease_adopt(&w.lease) == CUEBALL_OK);
    told = holder();
    MUST(told.thread == number() && !told.is_detached);
    MUST(cueball_lease_detach(&w.lease) == CUEBALL_OK);
    MUST(holder().thread == number() && holder().is_detached);
    MUST(cueball_lease_release(&w.lease) == CUEBALL_OK);
    printf("handed over: who claimed or adopted it\n");
}

static void test_mailbox(void)
{
    cueball_mailbox *mailbox;
    cueball_lease lease;
    cueball_handle claim;
    cueball_claim_answer answer;
    worker w = { 0 };
    MUST(cueball_mailbox_new(&mailbox) == CUEBALL_OK);
    worker_begin(&w);
    MUST(cueball_threaded_claim_async(h.pool, NULL, mailbox, &lease, &claim) == CUEBALL_WAITING);
    worker_end(&w);
    while (!cueball_mailbox_next(mailbox, &answer))
        usleep(1000);
    MUST(answer.error == CUEBALL_OK && holder().thread == number() && !holder().is_detached);
    MUST(cueball_lease_release(&answer.lease) == CUEBALL_OK);
    cueball_mailbox_free(mailbox);
    printf("asynchronous: who took the answer\n");
}

/* The oldest of all is the host's own. */
static void test_host(void)
{
    cueball_claim_options options = { .timeout_ms = CUEBALL_NO_WAIT };
    cueball_grant grant;
    MUST(cueball_threaded_host_claim(h.pool, cueball_clock_now(), &options, &grant) == CUEBALL_OK);
    usleep(10000); /* it was looked for not long ago */
    MUST(strstr(claim_fails(50), " by the host"));
    cueball_threaded_holder told = { .struct_size = sizeof told, .thread = 7 };
    MUST(cueball_threaded_holder_of(h.pool, grant.slot, grant.lease, &told) == CUEBALL_ESTALE && told.thread == 7);
    MUST(cueball_pool_lease_released(cueball_threaded_lock(h.pool), cueball_clock_now(), grant.lease) == CUEBALL_OK);
    cueball_threaded_unlock(h.pool);
    printf("the host's: of no thread\n");
}

static void test_errors(void)
{
    worker w = { 0 };
    uint32_t slot = 0;
    worker_begin(&w);
    cueball_handle lease = leased(&slot);
    cueball_threaded_holder told = { .struct_size = sizeof told };
    printf("NULL: %s %s", said(cueball_threaded_holder_of(NULL, slot, lease, &told)),
           said(cueball_threaded_holder_of(h.pool, slot, lease, NULL)));
    printf("; no slot: %s; another lease: %s", said(cueball_threaded_holder_of(h.pool, 1000000, lease, &told)),
           said(cueball_threaded_holder_of(h.pool, slot, lease + 1, &told)));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit(cueball_threaded_holder_of(h.pool, slot, lease, &told) == CUEBALL_EFORKED ? 0 : 1);
    int status;
    MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    worker_end(&w);
    printf("; over: %s\n", said(cueball_threaded_holder_of(h.pool, slot, lease, &told)));
}

int main(void)
{
    cueball_options options = host_options(1);
    host_begin(&h, &(cueball_threaded_options){ .name = "db", .clocks = true, .turn_ms = 60000 }, &options, 1);
    host_until(&h, 1);
    test_names();
    test_turns();
    test_handing_over();
    test_mailbox();
    test_host();
    host_end(&h);
    memset(&h, 0, sizeof h);
    host_begin(&h, &(cueball_threaded_options){ .turn_ms = -1 }, &options, 1);
    test_errors();
    host_end(&h);
    return 0;
}
