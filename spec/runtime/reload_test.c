/* A script that is loaded anew, as its file changes.
 *
 *     reload_test SCRIPT SERVER…    SCRIPT is written here */
#include "check.h"

static const char *script;

static void write_script(const char *text)
{
    FILE *file = fopen(script, "w");
    CHECK(file != NULL && fputs("local cueball = require 'cueball'\nlocal servers = { ... }\n", file) >= 0 && fputs(text, file) >= 0);
    CHECK(fclose(file) == 0);
}

static const char ONE[] = "cueball.pool { name = 'one', max_connections = 2, resolver = cueball.resolver.static { servers[1] },\n"
                          "  connect = cueball.connection.tcp {} }\n";
static const char ONE_LARGER[] = "cueball.pool { name = 'one', max_connections = 3, resolver = cueball.resolver.static { servers[1] },\n"
                                 "  connect = cueball.connection.tcp {} }\n";
static const char TWO[] = "cueball.pool { name = 'two', resolver = cueball.resolver.static { servers[2] },\n"
                          "  connect = cueball.connection.tcp {} }\n";

static void reload(cueball_runtime *runtime, bool dry_run, const char *said)
{
    char *report;
    WELL(cueball_runtime_reload(runtime, dry_run, &report));
    if (strstr(report, said) == NULL) {
        fprintf(stderr, "expected \"%s\" in: %s\n", said, report);
        exit(1);
    }
    cueball_runtime_text_free(report);
}

int main(int count, char **arguments)
{
    cueball_threaded *one, *two;
    cueball_lease first, second;
    char *report = (char *)&count;
    CHECK(count == 4);
    script = arguments[1];
    write_script(ONE);
    cueball_runtime *runtime = start_file(script, (const char *const *)arguments + 2, count - 2);
    one = pool_of(runtime, "one");
    WELL(cueball_threaded_claim(one, 5000, &first));

    /* the same, a mistake, and what would change: nothing changes */
    reload(runtime, false, "untouched");
    write_script("error 'on purpose'");
    FAILS(CUEBALL_ESCRIPT, cueball_runtime_reload(runtime, false, &report));
    SAYS("on purpose");
    CHECK(report == NULL);
    write_script("cueball.pool { name = 'two' }");
    FAILS(CUEBALL_ESCRIPT, cueball_runtime_reload(runtime, false, NULL));
    FAILS(CUEBALL_ENOT_FOUND, cueball_runtime_pool(runtime, "two", &two));
    char text[2000];
    (void)snprintf(text, sizeof text, "%s%s", ONE_LARGER, TWO);
    write_script(text);
    reload(runtime, true, "max_connections");
    FAILS(CUEBALL_ENOT_FOUND, cueball_runtime_pool(runtime, "two", &two));

    /* an option changed, one pool more: leases go on */
    reload(runtime, false, "max_connections");
    WELL(cueball_threaded_claim(one, 5000, &second));
    WELL(cueball_lease_release(&second));
    two = pool_of(runtime, "two");
    WELL(cueball_threaded_claim(two, 5000, &second));
    WELL(cueball_lease_release(&second));

    /* one went: it refuses claims, and waits for its lease */
    write_script(TWO);
    reload(runtime, false, "removed");
    WELL(cueball_lease_report(&first, true));
    FAILS(CUEBALL_EPOOL_STOPPING, cueball_threaded_claim(one, 5000, &second));

    /* and comes again before it is over: another pool */
    write_script(text);
    reload(runtime, false, "made");
    cueball_threaded *again = pool_of(runtime, "one");
    CHECK(again != one);
    WELL(cueball_threaded_claim(again, 5000, &second));
    WELL(cueball_lease_release(&second));
    WELL(cueball_lease_release(&first));

    cueball_threaded_drop(one);
    cueball_threaded_drop(two);
    cueball_threaded_drop(again);
    cueball_runtime_free(runtime);
    puts("well");
    return 0;
}
