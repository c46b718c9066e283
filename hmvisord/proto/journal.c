/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * See journal.h. Every member must be there, once, of its type and within its bounds: a journal is written
 * by hmvisord alone, so one that is a little wrong is one to stop at.
 */
#include "proto/journal.h"

#include <ctype.h>
#include <inttypes.h>

#include "proto/reply.h"

#define HEADER_WORD "hmvisor-journal"
#define HEADER_MAX 96 /* bytes of the first line, at most */
#define DEPTH_MAX 6
#define UUID_TEXT_SIZE 37

void journal_done(Journal *j) {
        free(j->accounts);
        *j = (Journal) { 0 };
}

/* FNV-1a (G. Fowler, L. C. Noll, P. Vo; RFC 9923), 64 bits. Against accidents: who may write to the file may
 * also write another checksum. */
static uint64_t checksum(const char *text, size_t size) {
        uint64_t sum = UINT64_C(0xcbf29ce484222325);

        for (size_t i = 0; i < size; i++)
                sum = (sum ^ (unsigned char) text[i]) * UINT64_C(0x100000001b3);
        return sum;
}

static int header_format(char buf[static HEADER_MAX], unsigned version, size_t size, uint64_t sum) {
        return snprintf(buf, HEADER_MAX, HEADER_WORD " %u %zu %016" PRIx64 "\n", version, size, sum);
}

static void uuid_format(const uint8_t id[16], char ret[static UUID_TEXT_SIZE]) {
        char *p = ret;

        for (size_t i = 0; i < 16; i++)
                p += sprintf(p, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
}

/* Only what uuid_format() writes. */
static int uuid_parse(const char *text, uint8_t ret[16]) {
        char again[UUID_TEXT_SIZE];
        const char *p = text;

        if (strlen(text) != UUID_TEXT_SIZE - 1)
                return -EINVAL;
        for (size_t i = 0; i < 16; i++, p += 2) {
                p += *p == '-';
                if (sscanf(p, "%2hhx", &ret[i]) != 1)
                        return -EINVAL;
        }
        uuid_format(ret, again);
        return streq(again, text) ? 0 : -EINVAL;
}

/* ---- to text ---- */

typedef struct Writer {
        int error; /* the first one, which stays */
} Writer;

static void add(Writer *w, json_object *o, const char *key, json_object *value) {
        if (!o || !value || json_object_object_add(o, key, value) < 0) {
                json_object_put(value);
                w->error = w->error < 0 ? w->error : -ENOMEM;
        }
}

static void add_number(Writer *w, json_object *o, const char *key, int64_t n) {
        if (n > JOURNAL_NUMBER_MAX || n < -JOURNAL_NUMBER_MAX)
                w->error = -ERANGE;
        add(w, o, key, json_object_new_int64(n));
}

static void add_count(Writer *w, json_object *o, const char *key, uint64_t n) {
        add_number(w, o, key, n > INT64_MAX ? INT64_MAX : (int64_t) n);
}

static void add_ticket(Writer *w, json_object *o, const JournalTicket *t) {
        json_object *ticket;

        if (t->lots == 0)
                return;
        ticket = json_object_new_object();
        add_number(w, ticket, "lots", t->lots);
        add_count(w, ticket, "delivered", t->delivered);
        add_count(w, ticket, "paid", t->paid);
        add_count(w, ticket, "returned", t->returned);
        add(w, ticket, "closing", json_object_new_boolean(t->closing));
        add(w, o, "ticket", ticket);
}

static void add_terms(Writer *w, json_object *o, const Journal *j) {
        json_object *terms = json_object_new_object();

        add_count(w, terms, "block-bytes", j->block_bytes);
        add_count(w, terms, "dram-price", j->dram_price);
        add_count(w, terms, "slow-price", j->slow_price);
        add_count(w, terms, "lot-dram-blocks", j->lot_dram_blocks);
        add_count(w, terms, "lot-slow-blocks", j->lot_slow_blocks);
        add(w, o, "terms", terms);
}

static void add_repricing(Writer *w, json_object *o, const JournalRepricing *r) {
        json_object *repricing;

        if (r->lot_slow_blocks == 0 && r->last_direction == 0 && r->holds == 0 && !r->rests)
                return;
        repricing = json_object_new_object();
        add_count(w, repricing, "lot-slow-blocks", r->lot_slow_blocks);
        add_number(w, repricing, "last-direction", r->last_direction);
        add_count(w, repricing, "holds", r->holds);
        add(w, repricing, "rests", json_object_new_boolean(r->rests));
        add(w, o, "repricing", repricing);
}

static json_object *account_new(Writer *w, const JournalAccount *a) {
        json_object *o = json_object_new_object();
        char uuid[UUID_TEXT_SIZE];

        uuid_format(a->id, uuid);
        add(w, o, "id", json_object_new_string(uuid));
        add_count(w, o, "entitled-dram-blocks", a->entitlement_blocks[TIER_DRAM]);
        add_count(w, o, "entitled-slow-blocks", a->entitlement_blocks[TIER_SLOW]);
        add_number(w, o, "position", a->position);
        add_number(w, o, "last-direction", a->last_direction);
        add(w, o, "rests", json_object_new_boolean(a->rests));
        add(w, o, "withdraws", json_object_new_boolean(a->withdraws));
        add_number(w, o, "command", a->command);
        add_count(w, o, "refusals", a->refusals);
        add_ticket(w, o, &a->ticket);
        return o;
}

static json_object *ledger_new(Writer *w, const Journal *j) {
        json_object *o = json_object_new_object(), *pool = json_object_new_object();
        json_object *accounts = json_object_new_array_ext((int) j->n_accounts);

        add_terms(w, o, j);
        add_repricing(w, o, &j->repricing);
        add_number(w, pool, "position", j->pool_position);
        add_ticket(w, pool, &j->pool_ticket);
        add(w, o, "pool", pool);
        for (size_t i = 0; accounts && i < j->n_accounts; i++) {
                json_object *account = account_new(w, &j->accounts[i]);

                if (!account || json_object_array_add(accounts, account) < 0) {
                        json_object_put(account);
                        w->error = w->error < 0 ? w->error : -ENOMEM;
                }
        }
        add(w, o, "accounts", accounts);
        return o;
}

int journal_to_text(const Journal *j, char **ret) {
        _cleanup_json_ json_object *ledger = NULL;
        Writer w = { 0 };
        char header[HEADER_MAX];
        const char *body;
        size_t size;

        if (j->n_accounts > JOURNAL_ACCOUNTS_MAX)
                return -ERANGE;
        ledger = ledger_new(&w, j);
        if (w.error < 0)
                return w.error;
        body = json_object_to_json_string_length(ledger, JSON_C_TO_STRING_PRETTY, &size);
        if (!body)
                return -ENOMEM;
        (void) header_format(header, JOURNAL_VERSION, size + 1, checksum(body, size));
        if (asprintf(ret, "%s%s\n", header, body) < 0)
                return -ENOMEM;
        return 0;
}

/* ---- from text ---- */

typedef struct Reader {
        unsigned version;
        const char *fault; /* the first one, which stays */
} Reader;

static int fail(Reader *r, const char *what) {
        if (!r->fault)
                r->fault = what;
        return -EINVAL;
}

static json_object *get(Reader *r, json_object *o, const char *key, json_type type) {
        json_object *v = NULL;

        if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &v) ||
            !json_object_is_type(v, type)) {
                (void) fail(r, "a member is missing, or not of its kind");
                return NULL;
        }
        return v;
}

static int64_t get_number(Reader *r, json_object *o, const char *key, int64_t min, int64_t max) {
        json_object *v = get(r, o, key, json_type_int);
        int64_t n = v ? json_object_get_int64(v) : 0; /* saturates, so what does not fit is above max too */

        if (v && (n < min || n > max)) {
                (void) fail(r, "a number is out of bounds");
                return 0;
        }
        return n;
}

static bool get_flag(Reader *r, json_object *o, const char *key) {
        return json_object_get_boolean(get(r, o, key, json_type_boolean));
}

static uint64_t get_count(Reader *r, json_object *o, const char *key) {
        return (uint64_t) get_number(r, o, key, 0, JOURNAL_NUMBER_MAX);
}

static uint32_t get_count32(Reader *r, json_object *o, const char *key) {
        return (uint32_t) get_number(r, o, key, 0, UINT32_MAX);
}

static JournalTicket get_ticket(Reader *r, json_object *o) {
        json_object *ticket;
        JournalTicket t;

        if (!json_object_object_get_ex(o, "ticket", &ticket))
                return (JournalTicket) { 0 };
        t = (JournalTicket) {
                .lots = get_number(r, ticket, "lots", -JOURNAL_NUMBER_MAX, JOURNAL_NUMBER_MAX),
                .delivered = get_count(r, ticket, "delivered"),
                .paid = get_count(r, ticket, "paid"),
                .returned = get_count(r, ticket, "returned"),
                .closing = get_flag(r, ticket, "closing"),
        };
        if (t.lots == 0)
                (void) fail(r, "a ticket is for nothing");
        return t;
}

static void get_terms(Reader *r, json_object *ledger, Journal *j) {
        json_object *terms = get(r, ledger, "terms", json_type_object);

        j->block_bytes = get_count(r, terms, "block-bytes");
        j->dram_price = get_count32(r, terms, "dram-price");
        j->slow_price = get_count32(r, terms, "slow-price");
        j->lot_dram_blocks = get_count32(r, terms, "lot-dram-blocks");
        j->lot_slow_blocks = get_count32(r, terms, "lot-slow-blocks");
}

static void get_repricing(Reader *r, json_object *ledger, JournalRepricing *ret) {
        json_object *repricing;

        if (!json_object_object_get_ex(ledger, "repricing", &repricing))
                return;
        ret->lot_slow_blocks = get_count32(r, repricing, "lot-slow-blocks");
        ret->last_direction = (int8_t) get_number(r, repricing, "last-direction", -1, 1);
        ret->holds = (uint8_t) get_number(r, repricing, "holds", 0, UINT8_MAX);
        ret->rests = get_flag(r, repricing, "rests");
}

static void get_account(Reader *r, json_object *o, JournalAccount *a) {
        json_object *id = get(r, o, "id", json_type_string);

        if (!id)
                return;
        if (uuid_parse(json_object_get_string(id), a->id) < 0)
                (void) fail(r, "an account's id is no UUID");
        a->entitlement_blocks[TIER_DRAM] = get_count(r, o, "entitled-dram-blocks");
        a->entitlement_blocks[TIER_SLOW] = get_count(r, o, "entitled-slow-blocks");
        a->position = get_number(r, o, "position", -JOURNAL_NUMBER_MAX, JOURNAL_NUMBER_MAX);
        a->last_direction = (int8_t) get_number(r, o, "last-direction", -1, 1);
        if (r->version >= 2) {
                a->rests = get_flag(r, o, "rests");
                a->withdraws = get_flag(r, o, "withdraws");
                a->command = get_number(r, o, "command", -JOURNAL_NUMBER_MAX, JOURNAL_NUMBER_MAX);
                a->refusals = (uint8_t) get_number(r, o, "refusals", 0, UINT8_MAX);
        } else
                a->rests = a->last_direction != 0;
        a->ticket = get_ticket(r, o);
}

static int get_ledger(Reader *r, json_object *ledger, Journal *j) {
        json_object *pool, *accounts;
        size_t n;

        get_terms(r, ledger, j);
        get_repricing(r, ledger, &j->repricing);
        pool = get(r, ledger, "pool", json_type_object);
        j->pool_position = get_number(r, pool, "position", -JOURNAL_NUMBER_MAX, JOURNAL_NUMBER_MAX);
        if (pool)
                j->pool_ticket = get_ticket(r, pool);
        accounts = get(r, ledger, "accounts", json_type_array);
        n = accounts ? json_object_array_length(accounts) : 0;
        if (n > JOURNAL_ACCOUNTS_MAX)
                (void) fail(r, "there are too many accounts");
        if (r->fault)
                return -EINVAL;
        j->accounts = calloc(n + 1, sizeof(*j->accounts));
        if (!j->accounts)
                return -ENOMEM;
        j->n_accounts = n;
        for (size_t i = 0; i < n && !r->fault; i++)
                get_account(r, json_object_array_get_idx(accounts, i), &j->accounts[i]);
        return r->fault ? -EINVAL : 0;
}

typedef struct Header {
        unsigned version;
        const char *body;
        size_t size; /* of the body; the line break at the end is not part of it */
} Header;

/* It must be the one that would be written for what follows; of a later version's nothing but its beginning
 * is known. */
static int header_parse(Reader *r, const char *text, size_t size, Header *ret) {
        const char *end = memchr(text, '\n', MIN(size, (size_t) HEADER_MAX - 1));
        char line[HEADER_MAX] = { 0 }, expected[HEADER_MAX];
        uint64_t sum;
        unsigned version;
        size_t n, length;

        if (!end)
                return fail(r, "it does not begin as a journal does");
        n = (size_t) (end + 1 - text);
        memcpy(line, text, n);
        if (sscanf(line, HEADER_WORD " %9u", &version) != 1)
                return fail(r, "it does not begin as a journal does");
        if (version > JOURNAL_VERSION) {
                (void) fail(r, "it is of a later version of hmvisord");
                return -EPROTONOSUPPORT;
        }
        if (version < JOURNAL_VERSION_OLDEST ||
            sscanf(line, HEADER_WORD " %*u %9zu %16" SCNx64, &length, &sum) != 2)
                return fail(r, "its first line is damaged");
        if (length == 0 || size - n != length || text[size - 1] != '\n')
                return fail(r, "it is cut off, or something was added");
        if (checksum(end + 1, length - 1) != sum)
                return fail(r, "its checksum does not fit: it was changed");
        if (header_format(expected, version, length, sum) != (int) n || !streq(expected, line))
                return fail(r, "its first line is damaged");
        *ret = (Header) { version, end + 1, length - 1 };
        return 0;
}

/* All members of all objects. */
static size_t count_members(json_object *o) {
        size_t n = 0;

        if (json_object_is_type(o, json_type_object)) {
                json_object_object_foreach(o, key, value) {
                        (void) key;
                        n += 1 + count_members(value);
                }
        } else if (json_object_is_type(o, json_type_array))
                for (size_t i = 0; i < json_object_array_length(o); i++)
                        n += count_members(json_object_array_get_idx(o, i));
        return n;
}

/* Outside of strings, each member has one colon. The reader of JSON keeps the last of members of one name:
 * then there are more colons than members. */
static size_t count_colons(const char *body, size_t size) {
        bool in_string = false;
        size_t n = 0;

        for (size_t i = 0; i < size; i++) {
                if (body[i] == '"')
                        in_string = !in_string;
                else if (in_string && body[i] == '\\')
                        i++;
                else if (!in_string && body[i] == ':')
                        n++;
        }
        return n;
}

/* The whole body must be one value. Returns 0, -EINVAL or -ENOMEM. */
static int body_parse(Reader *r, const Header *h, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        json_tokener *t = json_tokener_new_ex(DEPTH_MAX);
        bool whole;

        if (!t)
                return -ENOMEM;
        json_tokener_set_flags(t, JSON_TOKENER_STRICT);
        o = json_tokener_parse_ex(t, h->body, (int) h->size);
        whole = json_tokener_get_error(t) == json_tokener_success &&
                json_tokener_get_parse_end(t) == h->size;
        json_tokener_free(t);
        if (!whole || !o)
                return fail(r, "it is not JSON");
        if (count_members(o) != count_colons(h->body, h->size))
                return fail(r, "a member is there twice");
        *ret = TAKE_PTR(o);
        return 0;
}

int journal_from_text(const char *text, size_t size, Journal *ret, const char **ret_what) {
        _cleanup_(journal_done) Journal j = { 0 };
        _cleanup_json_ json_object *ledger = NULL;
        Reader reader = { 0 };
        Header header = { 0 };
        int r;

        if (size == 0 || size > JOURNAL_TEXT_MAX)
                r = fail(&reader, size == 0 ? "it is empty" : "it is too large");
        else
                r = header_parse(&reader, text, size, &header);
        reader.version = header.version;
        if (r >= 0)
                r = body_parse(&reader, &header, &ledger);
        if (r >= 0)
                r = get_ledger(&reader, ledger, &j);
        if (r < 0) {
                if (ret_what)
                        *ret_what = reader.fault ?: "out of memory";
                return r;
        }
        *ret = j;
        j = (Journal) { 0 };
        return 0;
}
