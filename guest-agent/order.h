/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Orders from the host: one is carried out by a worker thread, one waits, more are refused. Keeps what
 * became of the last ones. All functions may be called while an order runs and never wait for it (but for
 * _free()). Knows nothing of how pages are moved: that is the OrderRunner it is given.
 */
#pragma once

#include "mover.h"

#define ORDER_DEADLINE_DEFAULT (10 * USEC_PER_SEC)

typedef struct OrderList {
        int node; /* -1: no such list */
        PageRange *ranges;
        size_t n_ranges;
        uint64_t most; /* of these pages; 0: no such bound. Of a demote list alone. */
} OrderList;

typedef struct OrderRequest {
        uint64_t id;
        OrderList promote, demote;
        usec_t deadline; /* how long, from submission on */
} OrderRequest;

typedef struct OrderResult {
        uint64_t promoted, demoted; /* pages seen on their target node */
        uint64_t skipped[PAGE_RESULT_MAX];
        const char *mover; /* which moved most, or "" */
} OrderResult;

typedef enum OrderState {
        ORDER_UNKNOWN,
        ORDER_QUEUED,
        ORDER_RUNNING,
        ORDER_DONE,
        ORDER_CANCELLED,
        ORDER_EXPIRED,
        ORDER_BUSY,
        ORDER_STATE_MAX,
} OrderState;

typedef struct OrderStatus {
        uint64_t id;
        OrderState state;
        OrderResult result;
        usec_t elapsed; /* from the start of the work */
} OrderStatus;

typedef void (*OrderProgress)(void *userdata, const OrderResult *so_far);

/* Carries an order out in the worker thread, calling progress now and then. Returns 0, -ECANCELED or -ETIME,
 * with what was done until then in *ret; any other -errno is a failure that the runner has logged. */
typedef struct OrderRunner {
        int (*run)(void *userdata, const OrderRequest *request, const Stop *stop, OrderProgress progress,
                   void *progress_userdata, OrderResult *ret);
        void (*release)(void *userdata); /* give back what is held in the kernel between orders */
        void *userdata;
} OrderRunner;

typedef struct OrderQueue OrderQueue;

const char *order_state_to_string(OrderState state);
void order_request_done(OrderRequest *request);

int order_queue_new(const OrderRunner *runner, OrderQueue **ret);
OrderQueue *order_queue_free(OrderQueue *q); /* cancels, waits for the worker */
DEFINE_CLEANUP(OrderQueue *, order_queue_free);

/* Takes the request's lists over unless the answer is BUSY or the id is known already. */
void order_queue_submit(OrderQueue *q, OrderRequest *request, OrderStatus *ret);
void order_queue_status(OrderQueue *q, uint64_t id, OrderStatus *ret);
void order_queue_cancel(OrderQueue *q, uint64_t id, OrderStatus *ret);

/* Cancels all orders and has the runner give back what it holds. */
void order_queue_quiesce(OrderQueue *q);

/* Pages moved since the start. */
void order_queue_totals(OrderQueue *q, uint64_t *ret_promoted, uint64_t *ret_demoted);
