/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Memory that checks itself, for tests: goes round its pages for ever, and before it writes one anew looks
 * whether each word of it is what it wrote last. Ends, with exit status 1, at the first page that is not.
 *
 * Usage: remember MIB FILE: the rounds that found all pages as they were left are counted in FILE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define WORDS 512 /* of a page */
#define REST_PAGES 256
#define REST_USEC 20000 /* after each REST_PAGES: others, above all the guest's agent, want to run, too */

/* Differs for each word, page and round (splitmix64). */
static uint64_t word(uint64_t page, uint64_t round, uint64_t i) {
        uint64_t x = (page << 40 ^ round << 9 ^ i) + UINT64_C(0x9e3779b97f4a7c15);

        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

static void say(int fd, uint64_t rounds) {
        char text[24];
        int n = snprintf(text, sizeof(text), "%20llu\n", (unsigned long long) rounds);

        if (pwrite(fd, text, (size_t) n, 0) != n)
                exit(2);
}

int main(int argc, char **argv) {
        uint64_t pages = argc == 3 ? strtoull(argv[1], NULL, 10) * 256 : 0;
        int fd = pages > 0 ? open(argv[2], O_CREAT | O_WRONLY | O_TRUNC, 0644) : -1;
        uint64_t(*memory)[WORDS] =
                mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (fd < 0 || memory == MAP_FAILED)
                return 2;
        for (uint64_t round = 0;; round++) {
                for (uint64_t p = 0; p < pages; p++) {
                        for (uint64_t i = 0; round > 0 && i < WORDS; i++)
                                if (memory[p][i] != word(p, round - 1, i)) {
                                        fprintf(stderr,
                                                "page %llu, word %llu, round %llu: not what was written\n",
                                                (unsigned long long) p, (unsigned long long) i,
                                                (unsigned long long) round);
                                        return 1;
                                }
                        for (uint64_t i = 0; i < WORDS; i++)
                                memory[p][i] = word(p, round, i);
                        if (p % REST_PAGES == 0)
                                usleep(REST_USEC);
                }
                say(fd, round);
        }
}
