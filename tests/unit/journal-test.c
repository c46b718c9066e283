/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The journal's text: what goes in comes out, its form stays, and whatever is not whole is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <inttypes.h>

#include <cmocka.h>

#include "proto/journal.h"

/* One account of each kind: with a ticket, and without. */
static const Journal sample = {
        .block_bytes = 2097152,
        .dram_price = 4,
        .slow_price = 1,
        .lot_dram_blocks = 16,
        .lot_slow_blocks = 64,
        .repricing = { .lot_slow_blocks = 63, .last_direction = -1, .holds = 4, .rests = true },
        .pool_position = -1,
        .pool_ticket = { .lots = 2, .delivered = 1, .closing = true },
        .accounts =
                (JournalAccount[]) {
                        { .id = { 0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8 },
                          .entitlement_blocks = { 128, 256 },
                          .position = 1,
                          .last_direction = -1,
                          .rests = true,
                          .command = -3,
                          .refusals = 2 },
                        { .id = { 0xff },
                          .entitlement_blocks = { 0, UINT64_C(1) << 53 },
                          .withdraws = true,
                          .ticket = { .lots = -4, .delivered = 3, .paid = 1, .returned = 1 } },
                },
        .n_accounts = 2,
};

static const char golden[] =
        "hmvisor-journal 2 1078 9663af89728f9e99\n"
        "{\n"
        "  \"terms\":{\n"
        "    \"block-bytes\":2097152,\n"
        "    \"dram-price\":4,\n"
        "    \"slow-price\":1,\n"
        "    \"lot-dram-blocks\":16,\n"
        "    \"lot-slow-blocks\":64\n"
        "  },\n"
        "  \"repricing\":{\n"
        "    \"lot-slow-blocks\":63,\n"
        "    \"last-direction\":-1,\n"
        "    \"holds\":4,\n"
        "    \"rests\":true\n"
        "  },\n"
        "  \"pool\":{\n"
        "    \"position\":-1,\n"
        "    \"ticket\":{\n"
        "      \"lots\":2,\n"
        "      \"delivered\":1,\n"
        "      \"paid\":0,\n"
        "      \"returned\":0,\n"
        "      \"closing\":true\n"
        "    }\n"
        "  },\n"
        "  \"accounts\":[\n"
        "    {\n"
        "      \"id\":\"10325476-98ba-dcfe-0102-030405060708\",\n"
        "      \"entitled-dram-blocks\":128,\n"
        "      \"entitled-slow-blocks\":256,\n"
        "      \"position\":1,\n"
        "      \"last-direction\":-1,\n"
        "      \"rests\":true,\n"
        "      \"withdraws\":false,\n"
        "      \"command\":-3,\n"
        "      \"refusals\":2\n"
        "    },\n"
        "    {\n"
        "      \"id\":\"ff000000-0000-0000-0000-000000000000\",\n"
        "      \"entitled-dram-blocks\":0,\n"
        "      \"entitled-slow-blocks\":9007199254740992,\n"
        "      \"position\":0,\n"
        "      \"last-direction\":0,\n"
        "      \"rests\":false,\n"
        "      \"withdraws\":true,\n"
        "      \"command\":0,\n"
        "      \"refusals\":0,\n"
        "      \"ticket\":{\n"
        "        \"lots\":-4,\n"
        "        \"delivered\":3,\n"
        "        \"paid\":1,\n"
        "        \"returned\":1,\n"
        "        \"closing\":false\n"
        "      }\n"
        "    }\n"
        "  ]\n"
        "}\n";

static void assert_same_ticket(const JournalTicket *a, const JournalTicket *b) {
        assert_int_equal(a->lots, b->lots);
        assert_int_equal(a->delivered, b->delivered);
        assert_int_equal(a->paid, b->paid);
        assert_int_equal(a->returned, b->returned);
        assert_int_equal(a->closing, b->closing);
}

static void assert_same(const Journal *a, const Journal *b) {
        assert_int_equal(a->block_bytes, b->block_bytes);
        assert_int_equal(a->dram_price, b->dram_price);
        assert_int_equal(a->slow_price, b->slow_price);
        assert_int_equal(a->lot_dram_blocks, b->lot_dram_blocks);
        assert_int_equal(a->lot_slow_blocks, b->lot_slow_blocks);
        assert_int_equal(a->repricing.lot_slow_blocks, b->repricing.lot_slow_blocks);
        assert_int_equal(a->repricing.last_direction, b->repricing.last_direction);
        assert_int_equal(a->repricing.holds, b->repricing.holds);
        assert_int_equal(a->repricing.rests, b->repricing.rests);
        assert_int_equal(a->pool_position, b->pool_position);
        assert_same_ticket(&a->pool_ticket, &b->pool_ticket);
        assert_int_equal(a->n_accounts, b->n_accounts);
        for (size_t i = 0; i < a->n_accounts; i++) {
                const JournalAccount *x = &a->accounts[i], *y = &b->accounts[i];

                assert_memory_equal(x->id, y->id, sizeof(x->id));
                assert_memory_equal(x->entitlement_blocks, y->entitlement_blocks,
                                    sizeof(x->entitlement_blocks));
                assert_int_equal(x->position, y->position);
                assert_int_equal(x->last_direction, y->last_direction);
                assert_int_equal(x->rests, y->rests);
                assert_int_equal(x->withdraws, y->withdraws);
                assert_int_equal(x->command, y->command);
                assert_int_equal(x->refusals, y->refusals);
                assert_same_ticket(&x->ticket, &y->ticket);
        }
}

static void test_round_trip(void **state) {
        _cleanup_(journal_done) Journal back = { 0 };
        _cleanup_free_ char *text = NULL;
        const char *what = NULL;

        assert_return_code(journal_to_text(&sample, &text), 0);
        assert_return_code(journal_from_text(text, strlen(text), &back, &what), 0);
        assert_same(&sample, &back);
}

static void test_empty(void **state) {
        const Journal empty = { .block_bytes = 4096 };
        _cleanup_(journal_done) Journal back = { 0 };
        _cleanup_free_ char *text = NULL;

        assert_return_code(journal_to_text(&empty, &text), 0);
        assert_return_code(journal_from_text(text, strlen(text), &back, NULL), 0);
        assert_same(&empty, &back);
}

/* The form is a promise to the next version; a change of it is a new version. */
static void test_form(void **state) {
        _cleanup_free_ char *text = NULL;

        assert_return_code(journal_to_text(&sample, &text), 0);
        assert_string_equal(text, golden);
}

static void test_as_many_as_there_may_be(void **state) {
        _cleanup_(journal_done) Journal many = sample, back = { 0 };
        _cleanup_free_ char *text = NULL;

        many.n_accounts = JOURNAL_ACCOUNTS_MAX;
        many.accounts = calloc(many.n_accounts + 1, sizeof(*many.accounts));
        assert_non_null(many.accounts);
        for (size_t i = 0; i < many.n_accounts; i++)
                many.accounts[i] = (JournalAccount) {
                        .id = { (uint8_t) (i >> 8), (uint8_t) i },
                        .entitlement_blocks = { JOURNAL_NUMBER_MAX, JOURNAL_NUMBER_MAX },
                        .position = -JOURNAL_NUMBER_MAX,
                        .last_direction = -1,
                        .ticket = { -JOURNAL_NUMBER_MAX, JOURNAL_NUMBER_MAX, JOURNAL_NUMBER_MAX,
                                    JOURNAL_NUMBER_MAX, false },
                };
        assert_return_code(journal_to_text(&many, &text), 0);
        assert_true(strlen(text) <= JOURNAL_TEXT_MAX);
        assert_return_code(journal_from_text(text, strlen(text), &back, NULL), 0);
        assert_same(&many, &back);
        many.n_accounts++;
        free(text);
        text = NULL;
        assert_int_equal(journal_to_text(&many, &text), -ERANGE);
}

static void test_what_could_not_be_read_is_not_written(void **state) {
        Journal j = sample;
        char *text = NULL;

        j.block_bytes = JOURNAL_NUMBER_MAX + 1;
        assert_int_equal(journal_to_text(&j, &text), -ERANGE);
        j.block_bytes = UINT64_MAX;
        assert_int_equal(journal_to_text(&j, &text), -ERANGE);
        j = sample;
        j.pool_position = -JOURNAL_NUMBER_MAX - 1;
        assert_int_equal(journal_to_text(&j, &text), -ERANGE);
        assert_null(text);
}

static void assert_refused(const char *text, size_t size, const char *expected) {
        _cleanup_(journal_done) Journal back = { 0 };
        _cleanup_free_ char *exact = malloc(size + 1); /* so that a sanitizer sees a read behind the end */
        const size_t n = sizeof("hmvisor-journal ") - 1;
        const char *what = NULL;
        int r;

        assert_non_null(exact);
        memcpy(exact, text, size);
        exact = realloc(exact, size ?: 1);
        r = journal_from_text(exact, size, &back, &what);
        /* Of a later version only where it says so. */
        assert_int_equal(r, size > n && strtoul(text + n, NULL, 10) > JOURNAL_VERSION ? -EPROTONOSUPPORT
                                                                                      : -EINVAL);
        assert_non_null(what);
        if (expected)
                assert_string_equal(what, expected);
        assert_null(back.accounts);
        assert_int_equal(journal_from_text(exact, size, &back, NULL), r);
}

static void test_cut_off(void **state) {
        for (size_t n = 0; n < sizeof(golden) - 1; n++)
                assert_refused(golden, n, n == 0 ? "it is empty" : NULL);
        assert_refused(golden, sizeof(golden),
                       "it is cut off, or something was added"); /* a zero byte more */
}

static void test_any_byte_changed(void **state) {
        char text[sizeof(golden)];

        for (size_t i = 0; i < sizeof(golden) - 1; i++)
                for (unsigned bit = 0; bit < 8; bit++) {
                        memcpy(text, golden, sizeof(golden));
                        text[i] = (char) (text[i] ^ 1 << bit);
                        assert_refused(text, sizeof(golden) - 1, NULL);
                }
}

/* A body of anybody's, with a header that fits. Returns what was read, if it should be. */
static Journal assert_body(unsigned version, const char *body, const char *expected) {
        uint64_t sum = UINT64_C(0xcbf29ce484222325);
        _cleanup_free_ char *text = NULL;
        Journal back = { 0 };

        for (const char *p = body; *p; p++)
                sum = (sum ^ (unsigned char) *p) * UINT64_C(0x100000001b3);
        assert_true(asprintf(&text, "hmvisor-journal %u %zu %016" PRIx64 "\n%s\n", version,
                             strlen(body) + 1, sum, body) > 0);
        if (expected)
                assert_refused(text, strlen(text), expected);
        else
                assert_return_code(journal_from_text(text, strlen(text), &back, NULL), 0);
        return back;
}

static void assert_body_refused(const char *body, const char *expected) {
        Journal back = assert_body(JOURNAL_VERSION, body, expected);

        journal_done(&back);
}

#define TERMS                                                                                               \
        "\"terms\":{\"block-bytes\":1,\"dram-price\":1,\"slow-price\":1,\"lot-dram-blocks\":1,\"lot-slow-"  \
        "blocks\":1}"
#define POOL "\"pool\":{\"position\":0}"
#define ID "\"id\":\"10325476-98ba-dcfe-0102-030405060708\""
#define REST_1(direction)                                                                                   \
        "\"entitled-dram-blocks\":1,\"entitled-slow-blocks\":1,\"position\":0,\"last-direction\":" direction
#define REST REST_1("0") ",\"rests\":true,\"withdraws\":false,\"command\":0,\"refusals\":0"
#define WITH_REPRICING(r) "{" TERMS ",\"repricing\":" r "," POOL ",\"accounts\":[]}"
#define WITH_TICKET(t) "{" TERMS ",\"pool\":{\"position\":0,\"ticket\":" t "},\"accounts\":[]}"
#define WITH_ACCOUNT(a) "{" TERMS "," POOL ",\"accounts\":[" a "]}"

static void test_bodies(void **state) {
        static const char missing[] = "a member is missing, or not of its kind",
                          bounds[] = "a number is out of bounds", uuid[] = "an account's id is no UUID",
                          json[] = "it is not JSON";

        assert_body_refused(WITH_ACCOUNT(""), NULL);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST "}"), NULL);
        assert_body_refused(
                WITH_TICKET("{\"lots\":-1,\"delivered\":0,\"paid\":0,\"returned\":0,\"closing\":true}"),
                NULL);

        assert_body_refused("", json);
        assert_body_refused("{", json);
        assert_body_refused("{} {}", json);
        assert_body_refused("[[[[[[[[[[1]]]]]]]]]]", json);
        assert_body_refused("[]", missing);
        assert_body_refused("null", json);
        assert_body_refused("{}", missing);
        assert_body_refused("{" TERMS "," POOL "}", missing);
        assert_body_refused("{" TERMS ",\"pool\":[],\"accounts\":[]}", missing);
        assert_body_refused("{" TERMS "," POOL ",\"accounts\":{}}", missing);
        assert_body_refused("{\"terms\":1," POOL ",\"accounts\":[]}", missing);
        assert_body_refused(WITH_ACCOUNT("1"), missing);
        assert_body_refused(WITH_ACCOUNT("null"), missing);
        assert_body_refused(WITH_ACCOUNT("{" ID "}"), missing);
        assert_body_refused(WITH_ACCOUNT("{" REST "}"), missing);
        assert_body_refused(WITH_TICKET("1"), missing);
        assert_body_refused(WITH_TICKET("null"), missing);
        assert_body_refused(WITH_TICKET(
                                    "{\"lots\":1,\"delivered\":0,\"paid\":0,\"returned\":0,\"closing\":1}"),
                            missing);
        assert_body_refused(WITH_TICKET("{\"lots\":1,\"delivered\":0,\"paid\":0,\"closing\":true}"),
                            missing);
        assert_body_refused(
                WITH_TICKET("{\"lots\":1,\"delivered\":\"0\",\"paid\":0,\"returned\":0,\"closing\":true}"),
                missing);
        assert_body_refused(
                WITH_TICKET("{\"lots\":1.5,\"delivered\":0,\"paid\":0,\"returned\":0,\"closing\":true}"),
                missing);

        assert_body_refused(
                WITH_TICKET("{\"lots\":0,\"delivered\":0,\"paid\":0,\"returned\":0,\"closing\":true}"),
                "a ticket is for nothing");
        assert_body_refused(
                WITH_TICKET("{\"lots\":1,\"delivered\":-1,\"paid\":0,\"returned\":0,\"closing\":true}"),
                bounds);
        assert_body_refused(WITH_TICKET(
                                    "{\"lots\":9007199254740993,\"delivered\":0,\"paid\":0,\"returned\":0,"
                                    "\"closing\":true}"),
                            bounds);
        assert_body_refused(
                WITH_TICKET("{\"lots\":-99999999999999999999,\"delivered\":0,\"paid\":0,\"returned\":0,"
                            "\"closing\":true}"),
                bounds);
        assert_body_refused("{\"terms\":{\"block-bytes\":1,\"dram-price\":4294967296,\"slow-price\":1,\"lot-"
                            "dram-blocks\":1,"
                            "\"lot-slow-blocks\":1}," POOL ",\"accounts\":[]}",
                            bounds);
        assert_body_refused(
                WITH_ACCOUNT("{" ID "," REST_1(
                        "2") ",\"rests\":true,\"withdraws\":false,\"command\":0,\"refusals\":0}"),
                bounds);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST_1("0") ",\"rests\":true,\"withdraws\":false}"),
                            missing);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST_1(
                                    "0") ",\"rests\":1,\"withdraws\":false,\"command\":0,\"refusals\":0}"),
                            missing);
        assert_body_refused(WITH_ACCOUNT("{" ID
                                         "," REST_1("0") ",\"rests\":true,\"command\":0,\"refusals\":0}"),
                            missing);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST_1("0") ",\"rests\":true,\"withdraws\":false,"
                                         "\"command\":9007199254740993,\"refusals\":0}"),
                            bounds);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST_1("0") ",\"rests\":true,\"withdraws\":false,"
                                         "\"command\":0,\"refusals\":256}"),
                            bounds);

        assert_body_refused(
                WITH_REPRICING("{\"lot-slow-blocks\":0,\"last-direction\":1,\"holds\":0,\"rests\":false}"),
                NULL);
        assert_body_refused(WITH_REPRICING("{\"lot-slow-blocks\":0,\"last-direction\":1,\"holds\":0}"),
                            missing);
        assert_body_refused(WITH_REPRICING("7"), missing);
        assert_body_refused(
                WITH_REPRICING("{\"lot-slow-blocks\":-1,\"last-direction\":1,\"holds\":0,\"rests\":true}"),
                bounds);
        assert_body_refused(
                WITH_REPRICING("{\"lot-slow-blocks\":1,\"last-direction\":2,\"holds\":0,\"rests\":true}"),
                bounds);
        assert_body_refused(
                WITH_REPRICING("{\"lot-slow-blocks\":1,\"last-direction\":1,\"holds\":256,\"rests\":true}"),
                bounds);

        assert_body_refused(WITH_ACCOUNT("{\"id\":1," REST "}"), missing);
        assert_body_refused(WITH_ACCOUNT("{\"id\":\"\"," REST "}"), uuid);
        assert_body_refused(WITH_ACCOUNT("{\"id\":\"10325476-98ba-dcfe-0102-03040506070\"," REST "}"), uuid);
        assert_body_refused(WITH_ACCOUNT("{\"id\":\"10325476-98ba-dcfe-0102-03040506070g\"," REST "}"),
                            uuid);
        assert_body_refused(WITH_ACCOUNT("{\"id\":\"10325476-98ba-dcfe-0102-0304050607 8\"," REST "}"),
                            uuid);
        assert_body_refused(WITH_ACCOUNT("{\"id\":\"10325476-98BA-dcfe-0102-030405060708\"," REST "}"),
                            uuid);
        assert_body_refused(WITH_ACCOUNT("{\"id\":\"1032547698bad-cfe--0102030405060708-\"," REST "}"),
                            uuid);
        assert_body_refused(WITH_ACCOUNT("{\"id\":\"------------------------------------\"," REST "}"),
                            uuid);
}

/* Version 1 did not know of rests: whoever had traded rests. Its members are not enough for version 2. */
static void test_the_version_before(void **state) {
        static const char body[] = WITH_ACCOUNT("{" ID "," REST_1(
                "1") "},{\"id\":\"20325476-98ba-dcfe-0102-030405060708\"," REST_1("0") ",\"command\":7}");
        Journal back = assert_body(1, body, NULL);

        assert_int_equal(back.n_accounts, 2);
        assert_int_equal(back.accounts[0].last_direction, 1);
        assert_true(back.accounts[0].rests);
        assert_false(back.accounts[1].rests);
        assert_false(back.accounts[0].withdraws);
        assert_int_equal(back.accounts[1].command, 0);
        journal_done(&back);
        assert_body_refused(body, "a member is missing, or not of its kind");
        back = assert_body(0, body, "its first line is damaged");
}

/* Readers of JSON differ on which of two counts: none does. */
static void test_members_that_are_there_twice(void **state) {
        static const char twice[] = "a member is there twice";

        assert_body_refused("{" TERMS "," POOL "," POOL ",\"accounts\":[]}", twice);
        assert_body_refused("{" TERMS ",\"pool\":{\"position\":0,\"position\":0},\"accounts\":[]}", twice);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST ",\"position\":5}"), twice);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST ",\"p\\u006fsition\":5}"), twice);
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST ",\"else\":{\"a\":1,\"a\":2}}"), twice);
        /* Colons, quotes and backslashes within a text are none of a member. */
        assert_body_refused(WITH_ACCOUNT("{" ID "," REST ",\"a:\\\":\\\\\":\"::\\\":\"}"), NULL);
}

static void test_headers(void **state) {
        const char *rest = strchr(golden, '\n') + 1;
        static const struct {
                const char *line, *expected;
        } cases[] = {
                { "", "it does not begin as a journal does" },
                { "hmvisor-journal", "it does not begin as a journal does" },
                { "hmvisor-journal one", "it does not begin as a journal does" },
                { "hmvisor-journal 0 1 0", "its first line is damaged" },
                { "hmvisor-journal 2", "its first line is damaged" },
                { "hmvisor-journal 2 0", "its first line is damaged" },
                { "hmvisor-journal 2 0 0", "it is cut off, or something was added" },
                { "hmvisor-journal 2 1077 9663af89728f9e99", "it is cut off, or something was added" },
                { "hmvisor-journal 2 1078 9663af89728f9e98", "its checksum does not fit: it was changed" },
                { "hmvisor-journal 2 1078 9663af89728f9e99 more", "its first line is damaged" },
                { "hmvisor-journal 2  1078 9663af89728f9e99", "its first line is damaged" },
                { "hmvisor-journal 2 1078 9663AF89728F9E99", "its first line is damaged" },
                { "hmvisor-journal 2 99999999999999999999 0", "it is cut off, or something was added" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = NULL;

                assert_true(asprintf(&text, "%s\n%s", cases[i].line, rest) > 0);
                assert_refused(text, strlen(text), cases[i].expected);
        }
}

/* Of a later one nothing but its first words is known: it is neither taken nor called damaged. */
static void test_later_versions(void **state) {
        static const char *const texts[] = {
                "hmvisor-journal 3 805 625db4d3dcc33066\n{}\n",
                "hmvisor-journal 4 in another form altogether\n",
                "hmvisor-journal 999999999\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                Journal back = { 0 };
                const char *what = NULL;

                assert_int_equal(journal_from_text(texts[i], strlen(texts[i]), &back, &what),
                                 -EPROTONOSUPPORT);
                assert_string_equal(what, "it is of a later version of hmvisord");
                assert_null(back.accounts);
        }
}

static void test_too_large(void **state) {
        _cleanup_free_ char *text = calloc(1, JOURNAL_TEXT_MAX + 1);

        assert_non_null(text);
        assert_refused(text, JOURNAL_TEXT_MAX + 1, "it is too large");
        assert_refused(text, JOURNAL_TEXT_MAX, "it does not begin as a journal does");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_round_trip),
                cmocka_unit_test(test_empty),
                cmocka_unit_test(test_form),
                cmocka_unit_test(test_as_many_as_there_may_be),
                cmocka_unit_test(test_what_could_not_be_read_is_not_written),
                cmocka_unit_test(test_cut_off),
                cmocka_unit_test(test_any_byte_changed),
                cmocka_unit_test(test_bodies),
                cmocka_unit_test(test_the_version_before),
                cmocka_unit_test(test_members_that_are_there_twice),
                cmocka_unit_test(test_headers),
                cmocka_unit_test(test_later_versions),
                cmocka_unit_test(test_too_large),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
