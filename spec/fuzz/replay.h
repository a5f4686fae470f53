/* What the fuzz targets have in common: how they fail, and with -DREPLAY a program
 * that runs the files it is given; with -v before one, it tells what it does. */
#ifndef CUEBALL_FUZZ_REPLAY_H
#define CUEBALL_FUZZ_REPLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#ifdef REPLAY
static bool is_loud;
#else
enum { is_loud = false };
#endif

#define FAIL(...)                                                                                                                          \
    do {                                                                                                                                   \
        fprintf(stderr, __FILE__ ": " __VA_ARGS__);                                                                                        \
        fprintf(stderr, "\n");                                                                                                             \
        abort();                                                                                                                           \
    } while (0)
#define MUST(condition, ...)                                                                                                               \
    do {                                                                                                                                   \
        if (!(condition))                                                                                                                  \
            FAIL(#condition ": " __VA_ARGS__);                                                                                             \
    } while (0)
#define TELL(...)                                                                                                                          \
    do {                                                                                                                                   \
        if (is_loud)                                                                                                                       \
            printf(__VA_ARGS__);                                                                                                           \
    } while (0)

#ifdef REPLAY
int main(int count, char **arguments)
{
    static uint8_t bytes[1 << 20];
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "-v") == 0) {
            is_loud = true;
            continue;
        }
        FILE *file = fopen(arguments[i], "rb");
        if (!file) {
            perror(arguments[i]);
            return 1;
        }
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        printf("%s\n", arguments[i]);
        fflush(stdout);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    return 0;
}
#endif

#endif
