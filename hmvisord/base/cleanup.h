/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Cleanup attributes and the handful of macros that every file uses. Owns no state.
 */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)
#define _unused_ __attribute__((unused))
#define _printf_(a, b) __attribute__((format(printf, a, b)))

#define ELEMENTSOF(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* Hands an owned pointer over: the variable is NULL afterwards. */
#define TAKE_PTR(p)                        \
        ({                                 \
                __typeof__(p) *_pp = &(p); \
                __typeof__(p) _v = *_pp;   \
                *_pp = NULL;               \
                _v;                        \
        })

/* Hands an owned descriptor over: the variable is -EBADF afterwards. */
#define TAKE_FD(fd)              \
        ({                       \
                int *_pf = &(fd); \
                int _v = *_pf;   \
                *_pf = -EBADF;   \
                _v;              \
        })

/* Defines func##p() for _cleanup_(): calls func(*p) unless *p is NULL. */
#define DEFINE_CLEANUP(type, func)                              \
        static inline void _unused_ func##p(type *p) {          \
                if (*p)                                         \
                        func(*p);                               \
        }                                                       \
        struct func##_cleanup_defined

typedef uint64_t usec_t;
#define USEC_PER_SEC UINT64_C(1000000)
#define USEC_PER_MSEC UINT64_C(1000)
#define USEC_INFINITY UINT64_MAX

static inline void cleanup_free(void *p) {
        free(*(void **) p);
}

static inline void cleanup_close(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

static inline void cleanup_fclose(FILE **f) {
        if (*f)
                fclose(*f);
}

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}

static inline bool streq_ptr(const char *a, const char *b) {
        return a && b ? streq(a, b) : a == b;
}
