/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Memory that checks itself, for tests: goes round its pages for ever, looks whether each word of each is
 * what it wrote last, and writes one page in SHARE anew, every page in turn (without SHARE: each page). Says
 * at once when a page is not what was written, and ends after that round, with their number and exit
 * status 1.
 *
 * With a large SHARE most pages are written once in a while only: what such a write loses is not made good
 * by the next.
 *
 * Usage: remember MIB FILE [SHARE]: the rounds that found all pages as they were left are counted in FILE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdbool.h>
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

/* The last round up to this one in which a page was written; all were in round 0. */
static uint64_t written_last(uint64_t page, uint64_t round, uint64_t share) {
        uint64_t since = (round + page) % share;

        return since < round ? round - since : 0;
}

static void say(int fd, uint64_t rounds) {
        char text[24];
        int n = snprintf(text, sizeof(text), "%20llu\n", (unsigned long long) rounds);

        if (pwrite(fd, text, (size_t) n, 0) != n)
                exit(2);
}

static bool is_intact(const uint64_t *words, uint64_t page, uint64_t round, uint64_t share) {
        uint64_t last = written_last(page, round - 1, share);

        for (uint64_t i = 0; i < WORDS; i++)
                if (words[i] != word(page, last, i))
                        return false;
        return true;
}

int main(int argc, char **argv) {
        uint64_t pages = argc == 3 || argc == 4 ? strtoull(argv[1], NULL, 10) * 256 : 0;
        uint64_t share = argc == 4 ? strtoull(argv[3], NULL, 10) : 1;
        int fd = pages > 0 && share > 0 ? open(argv[2], O_CREAT | O_WRONLY | O_TRUNC, 0644) : -1;
        uint64_t(*memory)[WORDS];

        /* The code that says what is wrong must not have to be read from a disk then. */
        if (fd < 0 || mlockall(MCL_CURRENT) < 0)
                return 2;
        memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return 2;
        for (uint64_t round = 0, lost = 0;; round++) {
                for (uint64_t p = 0; p < pages; p++) {
                        if (round > 0 && !is_intact(memory[p], p, round, share) && lost++ == 0)
                                fprintf(stderr, "page %llu, round %llu: not what was written\n",
                                        (unsigned long long) p, (unsigned long long) round);
                        if (written_last(p, round, share) == round)
                                for (uint64_t i = 0; i < WORDS; i++)
                                        memory[p][i] = word(p, round, i);
                        if (p % REST_PAGES == 0)
                                usleep(REST_USEC);
                }
                if (lost > 0) {
                        fprintf(stderr, "%llu of %llu pages lost\n", (unsigned long long) lost,
                                (unsigned long long) pages);
                        return 1;
                }
                say(fd, round);
        }
}
