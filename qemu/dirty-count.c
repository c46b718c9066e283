/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Word-wise counting.  Most words are clean, at random: a branch on each
 * costs more than the work.  The vector ways therefore list the dirty words
 * first, without a branch, and then add a whole word of 64 pages at once.
 * Measured (tests/qemu/bench-dirty-count.c, Zen 4): 2.2, 6 and 18 us.
 */
#include "dirty-count.h"

static bool is_always_usable(void)
{
    return true;
}

static void word_add(uint8_t *counters, unsigned long word)
{
    while (word) {
        uint8_t *counter = &counters[__builtin_ctzl(word)];

        *counter += *counter != UINT8_MAX;
        word &= word - 1;
    }
}

static void words_add(uint8_t *counters, const unsigned long *words,
                      size_t n_words)
{
    for (size_t i = 0; i < n_words; i++) {
        if (words[i]) {
            word_add(counters + i * DIRTY_WORD_BITS, words[i]);
        }
    }
}

#ifdef __x86_64__
#include <immintrin.h>

enum { TILE_WORDS = 512 };

static bool is_avx512_usable(void)
{
    return __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("popcnt");
}

static bool is_avx2_usable(void)
{
    return __builtin_cpu_supports("avx2");
}

/* A word of the bitmap is a mask of 64 counters as it stands */
__attribute__((target("avx512f,avx512bw,popcnt"))) static void
words_add_avx512(uint8_t *counters, const unsigned long *words, size_t n_words)
{
    const __m512i one = _mm512_set1_epi8(1);
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6,
                                           5, 4, 3, 2, 1, 0);
    uint32_t dirty[TILE_WORDS + 16]; /* a store may write 16 beyond the last */

    while (n_words) {
        size_t n = n_words < TILE_WORDS ? n_words : TILE_WORDS;
        size_t n_dirty = 0;
        size_t i;

        for (i = 0; i + 16 <= n; i += 16) {
            __m512i a = _mm512_loadu_si512(words + i);
            __m512i b = _mm512_loadu_si512(words + i + 8);
            unsigned int is_dirty =
                _mm512_test_epi64_mask(a, a) |
                (unsigned int)_mm512_test_epi64_mask(b, b) << 8;
            __m512i index = _mm512_add_epi32(_mm512_set1_epi32((int)i), lanes);

            index = _mm512_maskz_compress_epi32((__mmask16)is_dirty, index);
            _mm512_storeu_si512(dirty + n_dirty, index);
            n_dirty += (size_t)__builtin_popcount(is_dirty);
        }
        for (; i < n; i++) {
            dirty[n_dirty] = (uint32_t)i;
            n_dirty += words[i] != 0;
        }
        for (i = 0; i < n_dirty; i++) {
            uint8_t *line = counters + (size_t)dirty[i] * DIRTY_WORD_BITS;
            __m512i sum = _mm512_adds_epu8(_mm512_loadu_si512(line), one);

            _mm512_mask_storeu_epi8(line, words[dirty[i]], sum);
        }
        counters += n * DIRTY_WORD_BITS;
        words += n;
        n_words -= n;
    }
}

/* Byte i of the result is 1 where bit i is set, for 32 bits of the word */
__attribute__((target("avx2"))) static inline __m256i
bits_spread(__m256i word, __m256i byte_of)
{
    const __m256i bit_of = _mm256_set1_epi64x((long long)0x8040201008040201);
    __m256i bits = _mm256_and_si256(_mm256_shuffle_epi8(word, byte_of),
                                    bit_of);

    return _mm256_min_epu8(bits, _mm256_set1_epi8(1));
}

__attribute__((target("avx2"))) static inline void counters_add(
    uint8_t *counters, __m256i ones)
{
    __m256i *line = (__m256i *)(void *)counters;

    _mm256_storeu_si256(line, _mm256_adds_epu8(_mm256_loadu_si256(line),
                                               ones));
}

__attribute__((target("avx2"))) static void
words_add_avx2(uint8_t *counters, const unsigned long *words, size_t n_words)
{
    const __m256i low =
        _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202,
                           0x0303030303030303);
    const __m256i high = _mm256_add_epi8(low, _mm256_set1_epi8(4));
    uint32_t dirty[TILE_WORDS];

    while (n_words) {
        size_t n = n_words < TILE_WORDS ? n_words : TILE_WORDS;
        size_t n_dirty = 0;

        for (size_t i = 0; i < n; i++) {
            dirty[n_dirty] = (uint32_t)i;
            n_dirty += words[i] != 0;
        }
        for (size_t i = 0; i < n_dirty; i++) {
            uint8_t *line = counters + (size_t)dirty[i] * DIRTY_WORD_BITS;
            __m256i word = _mm256_set1_epi64x((long long)words[dirty[i]]);

            counters_add(line, bits_spread(word, low));
            counters_add(line + 32, bits_spread(word, high));
        }
        counters += n * DIRTY_WORD_BITS;
        words += n;
        n_words -= n;
    }
}
#endif

const DirtyCountWay dirty_count_ways[] = {
#ifdef __x86_64__
    { "avx512", is_avx512_usable, words_add_avx512 },
    { "avx2", is_avx2_usable, words_add_avx2 },
#endif
    { "portable", is_always_usable, words_add },
};
const size_t dirty_count_n_ways =
    sizeof(dirty_count_ways) / sizeof(dirty_count_ways[0]);

void dirty_count_add(uint8_t *counters, const unsigned long *words,
                     size_t first, size_t n)
{
    const DirtyCountWay *way = dirty_count_ways;
    size_t shift = first % DIRTY_WORD_BITS;
    size_t n_words;

    words += first / DIRTY_WORD_BITS;
    if (shift && n) {
        size_t head = DIRTY_WORD_BITS - shift;
        unsigned long word = *words++ >> shift;

        if (n < head) {
            word &= (1UL << n) - 1;
            head = n;
        }
        word_add(counters, word);
        counters += head;
        n -= head;
    }

    while (!way->is_usable()) {
        way++;
    }
    n_words = n / DIRTY_WORD_BITS;
    way->add(counters, words, n_words);

    n %= DIRTY_WORD_BITS;
    if (n) {
        word_add(counters + n_words * DIRTY_WORD_BITS,
                 words[n_words] & ((1UL << n) - 1));
    }
}
