/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The hotness source behind io/source.h: query, getfd, start, then renew and query now and then. The table
 * is a sealed memfd that we made, so QEMU cannot shrink it under us; sizes and offsets are our own copies,
 * and what stands in the header is read once and only compared.
 */
#include "io/source.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define QUERY_USEC (2 * USEC_PER_SEC)
#define QUERY_CALM_USEC (10 * USEC_PER_SEC) /* while it tracks: the table's header has what is urgent */
#define RETRY_USEC (10 * USEC_PER_SEC)      /* after a failure; then doubled up to the next */
#define RETRY_MAX_USEC (300 * USEC_PER_SEC)
#define RECONNECT_USEC USEC_PER_SEC
#define STRANGE_MAX 5                       /* answers that the table's header goes on contradicting */
#define ANSWER_USEC (90 * USEC_PER_SEC)     /* the owner always answers before; a bound all the same */

typedef enum Request {
        REQUEST_NONE,
        REQUEST_PROBE,      /* query before a table exists: tells how large it must be */
        REQUEST_GETFD,
        REQUEST_START,
        REQUEST_QUERY,
        REQUEST_STOP,
} Request;

struct Source {
        SourceSettings settings;
        SourceSend send;
        void *userdata;

        Request under_way;
        usec_t sent_usec;
        Request next;              /* step of starting; QUERY when started; NONE when stopped */
        usec_t next_usec;
        usec_t retry_usec;
        bool stopping, requery;

        SourceHealth health;
        Outcome outcome;
        HotnessStatus status;
        bool have_status;

        int fd;
        uint8_t *map;
        uint64_t n_counters;       /* of the table that we made */
        uint64_t generation;       /* of ranges below */
        uint64_t epoch;            /* of the header, when last collected */
        unsigned strange;          /* answers in a row that told of another generation than the header */
        bool stale;                /* counters of an older layout are in the table */
        uint64_t skip, next_skip;  /* what samples leave out, and shall from the next release on */
        SourceRange ranges[HOTNESS_RANGES_MAX];
        size_t n_ranges;
};

static HotnessTableHeader *header(const Source *s) {
        return (HotnessTableHeader *) (void *) s->map;
}

static size_t table_size(uint64_t n_counters) {
        return HOTNESS_TABLE_HEADER_SIZE + n_counters;
}

/* QEMU may have it for a while yet, and no longer needs to fill it. */
static void table_drop(Source *s) {
        if (s->map) {
                atomic_store((_Atomic uint32_t *) &header(s)->hold, HOTNESS_HOLD_REST);
                munmap(s->map, table_size(s->n_counters));
        }
        if (s->fd >= 0)
                close(s->fd);
        s->map = NULL;
        s->fd = -EBADF;
        s->n_counters = 0;
        for (size_t i = 0; i < s->n_ranges; i++)   /* the ranges stay known: a restart must not lose heat */
                s->ranges[i].counters = NULL;
}

static int table_make(Source *s, uint64_t n_counters) {
        _cleanup_close_ int fd = -EBADF;
        HotnessTableHeader *h;
        void *map;

        table_drop(s);
        fd = memfd_create("hmvisor-hotness", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return -errno;
        if (ftruncate(fd, (off_t) table_size(n_counters)) < 0 ||
            fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
                return -errno;
        map = mmap(NULL, table_size(n_counters), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -errno;
        h = map;
        h->magic = HOTNESS_TABLE_MAGIC;
        h->layout = HOTNESS_TABLE_LAYOUT;
        h->header_size = HOTNESS_TABLE_HEADER_SIZE;
        h->n_counters = n_counters;
        h->hold = HOTNESS_HOLD_REST; /* until the first release: whoever reads it says when the guest is
                                        ready */
        s->map = map;
        s->n_counters = n_counters;
        s->epoch = 0;
        s->strange = 0;
        s->stale = false;
        s->skip = 0;
        s->fd = TAKE_FD(fd);
        return 0;
}

int source_new(const SourceSettings *settings, SourceSend send, void *userdata, Source **ret) {
        Source *s = calloc(1, sizeof(*s));

        if (!s)
                return -ENOMEM;
        s->settings = *settings;
        s->send = send;
        s->userdata = userdata;
        s->fd = -EBADF;
        s->health = SOURCE_STARTING;
        s->next = REQUEST_PROBE;
        s->retry_usec = RETRY_USEC;
        *ret = s;
        return 0;
}

Source *source_free(Source *s) {
        if (!s)
                return NULL;
        table_drop(s);
        free(s);
        return NULL;
}

static void source_fail(Source *s, OutcomeCode code, const char *text, usec_t now) {
        s->health = SOURCE_FAILED;
        s->outcome.code = code;
        snprintf(s->outcome.text, sizeof(s->outcome.text), "%s", text);
        table_drop(s);
        s->next = REQUEST_PROBE;
        s->next_usec = now + s->retry_usec;
        s->retry_usec = MIN(s->retry_usec * 2, RETRY_MAX_USEC);
}

static int request_text(const Source *s, Request request, char **ret) {
        const SourceSettings *c = &s->settings;

        switch (request) {
        case REQUEST_GETFD:
                return hotness_request_getfd(ret);
        case REQUEST_START:
                return hotness_request_start(&(HotnessStart) {
                                .interval_ms = c->sample_usec / USEC_PER_MSEC,
                                .on_ms = c->duty_on_usec / USEC_PER_MSEC,
                                .off_ms = c->duty_off_usec / USEC_PER_MSEC,
                                .lease_ms = c->lease_usec / USEC_PER_MSEC,
                        }, ret);
        case REQUEST_STOP:
                return hotness_request_stop(ret);
        default:
                return hotness_request_query(ret);
        }
}

static void source_send(Source *s, Request request, usec_t now) {
        _cleanup_free_ char *text = NULL;

        if (request_text(s, request, &text) < 0 ||
            s->send(text, request == REQUEST_GETFD ? s->fd : -1, s->userdata) < 0)
                return;   /* the queue is full or memory is short: the next run tries again */
        s->under_way = request;
        s->sent_usec = now;
}

void source_renew(Source *s, usec_t now) {
        if (s->map && !s->stopping)
                atomic_store((_Atomic uint64_t *) &header(s)->renew, now);
}

void source_run(Source *s, usec_t now) {
        if (s->under_way != REQUEST_NONE && now < s->sent_usec + ANSWER_USEC)
                return;
        s->under_way = REQUEST_NONE;
        if (s->next == REQUEST_NONE)
                return;
        if (now >= s->next_usec || s->requery || s->stopping) {
                s->requery = false;
                source_send(s, s->stopping ? REQUEST_STOP : s->next, now);
        }
}

void source_stop(Source *s, usec_t now) {
        if (s->stopping)
                return;
        s->stopping = true;
        if (s->health == SOURCE_FAILED || (s->under_way == REQUEST_NONE && !s->map)) {
                s->next = REQUEST_NONE;   /* nothing was started */
                s->health = SOURCE_STOPPED;
        }
        source_run(s, now);
}

void source_restart(Source *s, const SourceSettings *settings) {
        if (settings)
                s->settings = *settings;
        if (s->stopping)
                return;
        s->next = REQUEST_PROBE;
        s->next_usec = 0;
        s->retry_usec = RETRY_USEC;
}

/* Takes the ranges of an answer that was checked against itself; here against the table that we made. */
static void ranges_take(Source *s, Request asked) {
        const HotnessStatus *q = &s->status;

        s->n_ranges = 0;
        s->stale |= asked == REQUEST_QUERY && s->generation != q->generation;
        s->generation = q->generation;
        for (size_t i = 0; i < q->n_ranges; i++) {
                SourceRange *r = &s->ranges[s->n_ranges];

                if (q->ranges[i].offset + q->ranges[i].n_pages > s->n_counters)
                        continue;   /* the table is too small by now; a larger one is made at once */
                memcpy(r->block, q->ranges[i].block, sizeof(r->block));
                r->gfn = q->ranges[i].gfn;
                r->n_pages = q->ranges[i].n_pages;
                r->skip = q->ranges[i].skip;
                r->counters = s->map + HOTNESS_TABLE_HEADER_SIZE + q->ranges[i].offset;
                s->n_ranges++;
        }
}

/* The extension writes the generation once, so a header that was written over stays wrong, and nothing would
 * be collected again. When memory grows just now, both may differ for a moment. */
static bool header_is_lost(Source *s) {
        bool same = atomic_load((_Atomic uint64_t *) &header(s)->generation) == s->status.generation;

        s->strange = same ? 0 : s->strange + 1;
        return s->strange >= STRANGE_MAX;
}

static void on_status(Source *s, Request asked, usec_t now) {
        const HotnessStatus *q = &s->status;

        if (asked == REQUEST_PROBE) {
                int r = q->n_counters > 0 ? table_make(s, q->n_counters) : -ENODATA;

                if (r < 0)
                        source_fail(s, OUTCOME_FAILED,
                                    r == -ENODATA
                                            ? "the hotness extension sees no guest memory"
                                            : "the counter table cannot be made; is the host out of memory?",
                                    now);
                else
                        s->next = REQUEST_GETFD;
                return;
        }
        if (s->next != asked || !s->map)
                return;   /* restarted meanwhile */
        s->next = REQUEST_QUERY;
        s->next_usec = now + QUERY_USEC;
        if (q->state == HOTNESS_BLOCKED) {
                s->health = SOURCE_BLOCKED;
                (void) outcome_set(&s->outcome, OUTCOME_DOMAIN_BUSY, "tracking waits: %s", q->reason);
        } else if (q->state == HOTNESS_FAILED)
                source_fail(s, OUTCOME_FAILED, q->reason, now);
        else if (q->state == HOTNESS_OFF || q->state == HOTNESS_EXPIRED || q->n_counters > s->n_counters) {
                /* Stopped by someone else, or we slept through the lease, or memory grew. Paced, should it
                 * repeat. */
                s->next = REQUEST_PROBE;
                s->next_usec = asked == REQUEST_QUERY ? now : now + QUERY_USEC;
        } else if (header_is_lost(s))
                source_fail(s, OUTCOME_FAILED,
                            "the counter table was written over by something in QEMU's process; a new "
                            "one is made in seconds", now);
        else {
                s->health = SOURCE_TRACKING;
                s->outcome = (Outcome){};
                s->retry_usec = RETRY_USEC;
                if (asked == REQUEST_QUERY && s->strange == 0)
                        s->next_usec = now + QUERY_CALM_USEC;
        }
        if (s->map)
                ranges_take(s, asked);
}

void source_reply(Source *s, const Outcome *failure, const char *text, usec_t now) {
        Request asked = s->under_way;
        Outcome o = {};
        int r;

        s->under_way = REQUEST_NONE;
        if (asked == REQUEST_STOP || asked == REQUEST_NONE) {
                if (asked == REQUEST_STOP) {
                        s->next = REQUEST_NONE;
                        s->health = SOURCE_STOPPED;
                        table_drop(s);
                }
                return;
        }
        if (!text && failure->code == OUTCOME_NO_LIBVIRT && !s->stopping) {
                s->next_usec = now + RECONNECT_USEC;   /* says nothing about QEMU: the counters go on */
                return;
        }
        if (!text)
                r = outcome_set(&o, failure->code, "%s", failure->text);
        else if (asked == REQUEST_GETFD)
                r = hotness_reply_check(text, &o);
        else
                r = hotness_reply_parse(text, s->settings.max_pages, &s->status, &o);
        if (r < 0 && !s->stopping)
                source_fail(s, o.code, o.text, now);
        else if (r >= 0 && asked == REQUEST_GETFD) {
                if (s->next == REQUEST_GETFD) {   /* else restarted meanwhile */
                        s->next = REQUEST_START;
                        close(s->fd);             /* QEMU has it, and we the mapping */
                        s->fd = -EBADF;
                }
        } else if (r >= 0) {
                s->have_status = true;
                on_status(s, asked, now);
        }
        source_run(s, now);
}

SourceHealth source_health(const Source *s) {
        return s->health;
}

const Outcome *source_outcome(const Source *s) {
        return &s->outcome;
}

const HotnessStatus *source_status(const Source *s) {
        return s->have_status ? &s->status : NULL;
}

bool source_is_calm(const Source *s) {
        return s->under_way == REQUEST_NONE && !s->requery && !s->stopping &&
               (s->next == REQUEST_QUERY || s->health == SOURCE_FAILED);
}

void source_hold(Source *s) {
        if (s->map)
                atomic_store((_Atomic uint32_t *) &header(s)->hold, HOTNESS_HOLD);
}

bool source_is_busy(const Source *s) {
        return s->map && atomic_load((_Atomic uint32_t *) &header(s)->busy) != 0;
}

size_t source_collect(Source *s, const SourceRange **ret_ranges, uint32_t *ret_samples) {
        uint64_t epoch, generation;

        *ret_ranges = s->ranges;
        *ret_samples = 0;
        if (!s->map || s->health != SOURCE_TRACKING)
                return s->n_ranges;
        epoch = atomic_load((_Atomic uint64_t *) &header(s)->epoch);
        generation = atomic_load((_Atomic uint64_t *) &header(s)->generation);
        if (generation != s->generation) {
                s->requery = true;
                return s->n_ranges;
        }
        if (epoch > s->epoch && !s->stale)
                *ret_samples = (uint32_t) MIN(epoch - s->epoch, UINT64_C(1000000));
        s->epoch = epoch;
        return s->n_ranges;
}

void source_skip(Source *s, uint64_t skip) {
        s->next_skip = skip;
}

bool source_has_skipped(const Source *s, const SourceRange *r) {
        return s->skip & r->skip;
}

void source_release(Source *s, bool clear, bool rest) {
        if (!s->map)
                return;
        if (s->next_skip != s->skip) {
                s->skip = s->next_skip;
                atomic_store((_Atomic uint64_t *) &header(s)->skip, s->skip);
                s->epoch = atomic_load((_Atomic uint64_t *) &header(s)->epoch);
                clear = true;
        }
        if (clear || s->stale)
                memset(s->map + HOTNESS_TABLE_HEADER_SIZE, 0, s->n_counters);
        s->stale = false;
        atomic_store((_Atomic uint32_t *) &header(s)->hold, rest ? HOTNESS_HOLD_REST : 0);
}
