/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Stands in for libFuzzer where the compiler has none: gives a fuzz target each file of its corpus, and a
 * fixed number of damaged copies of it. The same on every run; finds crashes only together with a sanitizer.
 *
 *   fuzz-X-corpus [-n COPIES] FILE|FOLDER...
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX (1 << 20)

static unsigned copies = 200, n_inputs;

/* xorshift64 */
static uint64_t next(uint64_t *state) {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

/* One to eight times: flip a bit, write a telling byte, cut out, double, or cut off a piece. */
static size_t damage(uint8_t *data, size_t size, uint64_t *state) {
        static const uint8_t telling[] = { 0,   0xff, '0', '9', '-', '<',  '>', '"',
                                           '=', '/',  '[', '{', ',', '\n', ' ', '&' };

        for (uint64_t k = 1 + next(state) % 8; k > 0 && size > 0; k--) {
                size_t at = next(state) % size, n = next(state) % 64;

                if (n > size - at)
                        n = size - at;
                switch (next(state) % 5) {
                case 0:
                        data[at] ^= (uint8_t) (1u << next(state) % 8);
                        break;
                case 1:
                        data[at] = telling[next(state) % sizeof(telling)];
                        break;
                case 2:
                        memmove(data + at, data + at + n, size - at - n);
                        size -= n;
                        break;
                case 3:
                        if (size + n <= INPUT_MAX) {
                                memmove(data + at + n, data + at, size - at);
                                size += n;
                        }
                        break;
                case 4:
                        if (next(state) % 8 == 0)
                                size = at;
                        break;
                }
        }
        return size;
}

/* The target gets a copy of the exact size, so that a sanitizer sees a read beyond its end. */
static void run(const uint8_t *data, size_t size) {
        uint8_t *copy = malloc(size > 0 ? size : 1);

        if (!copy)
                abort();
        memcpy(copy, data, size);
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
        n_inputs++;
}

static void run_path(const char *path) {
        static uint8_t original[INPUT_MAX], work[INPUT_MAX];
        uint64_t state = 0x9e3779b97f4a7c15;
        struct stat st;
        size_t size;
        FILE *f;

        if (stat(path, &st) < 0) {
                perror(path);
                exit(1);
        }
        if (S_ISDIR(st.st_mode)) {
                struct dirent **names;
                int n = scandir(path, &names, NULL, alphasort);

                for (int i = 0; i < n; i++) {
                        char below[4096];

                        if (*names[i]->d_name != '.') {
                                snprintf(below, sizeof(below), "%s/%s", path, names[i]->d_name);
                                run_path(below);
                        }
                        free(names[i]);
                }
                free(names);
                return;
        }
        f = fopen(path, "re");
        if (!f) {
                perror(path);
                exit(1);
        }
        size = fread(original, 1, sizeof(original), f);
        fclose(f);
        run(original, size);
        for (unsigned i = 0; i < copies; i++) {
                memcpy(work, original, size);
                run(work, damage(work, size, &state));
        }
}

int main(int argc, char **argv) {
        int i = 1;

        if (argc > 2 && strcmp(argv[1], "-n") == 0) {
                copies = (unsigned) strtoul(argv[2], NULL, 10);
                i = 3;
        }
        for (; i < argc; i++)
                run_path(argv[i]);
        printf("%u inputs\n", n_inputs);
        return n_inputs > 0 ? 0 : 1;
}
