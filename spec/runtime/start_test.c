/* What is wrong with a script, or with the options, is told, and nothing is left behind. */
#include "check.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int entries(const char *folder)
{
    int count = 0;
    DIR *opened = opendir(folder);
    CHECK(opened != NULL);
    while (readdir(opened) != NULL)
        count++;
    (void)closedir(opened);
    return count;
}

static int fails(cueball_runtime_options options)
{
    cueball_runtime *runtime = (cueball_runtime *)&options;
    int error = cueball_runtime_start(&options, &runtime);
    CHECK(error < 0 && runtime == NULL);
    return error;
}

static void refuse_options(void)
{
    static const char *const arguments[] = { "one", NULL };
    cueball_runtime *runtime;
    cueball_runtime_options both = { .file = "x", .text = "x" }, neither = { .name = "x" };
    FAILS(CUEBALL_EINVAL, fails(both));
    SAYS("one of file and text");
    FAILS(CUEBALL_EINVAL, fails(neither));
    cueball_runtime_options small = { .struct_size = 8, .text = "" }, large = { .struct_size = 1000, .text = "" };
    FAILS(CUEBALL_EINVAL, fails(small));
    FAILS(CUEBALL_EINVAL, fails(large));
    cueball_runtime_options name = { .text = "", .name = "a/b" }, no_name = { .text = "", .name = "" };
    FAILS(CUEBALL_EINVAL, fails(name));
    FAILS(CUEBALL_EINVAL, fails(no_name));
    cueball_runtime_options argument = { .text = "", .arguments = arguments, .argument_count = 2 };
    FAILS(CUEBALL_EINVAL, fails(argument));
    argument.arguments = NULL;
    FAILS(CUEBALL_EINVAL, fails(argument));
    cueball_runtime_options limit = { .text = "", .start_timeout_ms = -1 };
    FAILS(CUEBALL_EINVAL, fails(limit));
    FAILS(CUEBALL_EINVAL, cueball_runtime_start(NULL, &runtime));
    CHECK(runtime == NULL);
    FAILS(CUEBALL_EINVAL, cueball_runtime_start(&limit, NULL));
}

static void refuse_null(void)
{
    cueball_threaded *pool;
    FAILS(CUEBALL_EINVAL, cueball_runtime_pool(NULL, "x", &pool));
    CHECK(pool == NULL);
    FAILS(CUEBALL_EINVAL, cueball_runtime_stop(NULL, 0));
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(NULL, "x", ""));
    CHECK(cueball_runtime_metrics(NULL) == NULL);
    CHECK(cueball_runtime_state(NULL) == NULL);
    cueball_runtime_free(NULL);
    cueball_runtime_text_free(NULL);
    cueball_runtime *runtime = start_text("");
    FAILS(CUEBALL_EINVAL, cueball_runtime_pool(runtime, NULL, &pool));
    FAILS(CUEBALL_EINVAL, cueball_runtime_pool(runtime, "x", NULL));
    FAILS(CUEBALL_ENOT_FOUND, cueball_runtime_pool(runtime, "x", &pool));
    SAYS("there is none");
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, NULL, ""));
    FAILS(CUEBALL_EINVAL, cueball_runtime_set(runtime, "x", NULL));
    FAILS(CUEBALL_EINVAL, cueball_runtime_stop(runtime, -1));
    cueball_runtime_free(runtime);
}

static void tell_faults_of_scripts(const char *file)
{
    cueball_runtime_options missing = { .file = "/nowhere/pools.lua" }, syntax = { .text = "local x = = 1" };
    FAILS(CUEBALL_ESCRIPT, fails(missing));
    SAYS("/nowhere/pools.lua");
    FAILS(CUEBALL_ESCRIPT, fails(syntax));
    SAYS("unexpected symbol near '='");
    cueball_runtime_options throws = { .file = file };
    FAILS(CUEBALL_ESCRIPT, fails(throws));
    SAYS(".lua:3: on purpose");
    SAYS("stack traceback");
    SAYS("in function 'inner'");
    cueball_runtime_options nil = { .text = "error(nil)" }, table = { .text = "error({})" };
    FAILS(CUEBALL_ESCRIPT, fails(nil));
    FAILS(CUEBALL_ESCRIPT, fails(table));
}

static void end_scripts_without_end(void)
{
    cueball_runtime_options loop = { .text = "while true do end", .start_timeout_ms = 200 };
    FAILS(CUEBALL_ESCRIPT, fails(loop));
    SAYS("200 ms");
    cueball_runtime_options stubborn = { .text = "while true do pcall(function() while true do end end) end", .start_timeout_ms = 200 };
    FAILS(CUEBALL_ESCRIPT, fails(stubborn));
    cueball_runtime_options waits = { .text = "require('cueball').sleep(1e8)", .start_timeout_ms = 200 };
    FAILS(CUEBALL_ESCRIPT, fails(waits));
}

static void *start_in_thread(void *given)
{
    (void)given;
    cueball_runtime_free(start_text("require 'cueball'"));
    return NULL;
}

static void leave_the_process_alone(void)
{
    struct sigaction before, after;
    sigset_t mask_before, mask_after;
    pthread_t threads[4];
    (void)sigaction(SIGPIPE, NULL, &before);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, start_in_thread, NULL) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    (void)sigaction(SIGPIPE, NULL, &after);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    CHECK(before.sa_handler == SIG_DFL && after.sa_handler == SIG_DFL);
    for (int number = 1; number <= 64; number++)
        CHECK(sigismember(&mask_before, number) == sigismember(&mask_after, number));
}

/* What was joined is in the list of the process for a moment still. */
static void await_entries(const char *folder, int count)
{
    for (int waited_ms = 0; waited_ms < 60000 && entries(folder) != count; waited_ms++)
        (void)usleep(1000);
    CHECK(entries(folder) == count);
}

/* Names and masks of the other threads, as the system shows them. */
static void look_at_the_thread(void)
{
    char line[256], path[300];
    cueball_runtime_options options = { .text = "", .name = "a name of many letters" };
    cueball_runtime *runtime;
    WELL(cueball_runtime_start(&options, &runtime));
    int found = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks)) {
        (void)snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "r");
        int is_ours = 0;
        while (status != NULL && fgets(line, sizeof line, status) != NULL) {
            is_ours |= strcmp(line, "Name:\ta name of many \n") == 0;
            if (is_ours && strncmp(line, "SigBlk:", 7) == 0) /* all but SIGKILL, SIGSTOP and those of the C library */
                found += (strtoull(line + 8, NULL, 16) | 1ull << 8 | 1ull << 18 | 3ull << 31) == ~0ull;
        }
        if (status != NULL)
            (void)fclose(status);
    }
    (void)closedir(tasks);
    CHECK(found == 1);
    cueball_runtime_free(runtime);
}

static void refuse_in_children(void)
{
    int status;
    cueball_runtime *runtime = start_text("");
    pid_t child = fork();
    if (child == 0) {
        cueball_threaded *pool;
        FAILS(CUEBALL_EFORKED, cueball_runtime_pool(runtime, "x", &pool));
        FAILS(CUEBALL_EFORKED, cueball_runtime_stop(runtime, 0));
        FAILS(CUEBALL_EFORKED, cueball_runtime_set(runtime, "x", ""));
        CHECK(cueball_runtime_state(runtime) == NULL);
        cueball_runtime_free(runtime);
        cueball_runtime_free(start_text("")); /* one of its own */
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    cueball_runtime_free(runtime);
}

int main(int count, char **arguments)
{
    CHECK(count == 2);
    (void)signal(SIGPIPE, SIG_DFL);       /* whoever runs this may ignore it */
    cueball_runtime_free(start_text("")); /* what is loaded once stays open */
    const int descriptors = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    refuse_options();
    refuse_null();
    tell_faults_of_scripts(arguments[1]);
    end_scripts_without_end();
    leave_the_process_alone();
    look_at_the_thread();
    refuse_in_children();
    await_entries("/proc/self/task", threads);
    await_entries("/proc/self/fd", descriptors);
    puts("well");
    return 0;
}
