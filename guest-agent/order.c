/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The queue of orders: see order.h. One mutex guards everything but the running order's cancel flag.
 */
#include "order.h"

#include <pthread.h>
#include <signal.h>

#define ORDERS_KEPT 16

typedef struct Order {
        OrderRequest request;
        OrderStatus status;
        usec_t submitted, started;
} Order;

struct OrderQueue {
        OrderRunner runner;
        pthread_t worker;
        pthread_mutex_t lock;
        pthread_cond_t wake;
        Order *running, *waiting;
        OrderStatus kept[ORDERS_KEPT]; /* ended ones, a ring */
        size_t next_kept;
        uint64_t promoted, demoted;
        atomic_bool cancel; /* of the running one */
        bool release, quit;
};

const char *order_state_to_string(OrderState state) {
        static const char *const names[ORDER_STATE_MAX] = {
                [ORDER_UNKNOWN] = "unknown", [ORDER_QUEUED] = "queued",       [ORDER_RUNNING] = "running",
                [ORDER_DONE] = "done",       [ORDER_CANCELLED] = "cancelled", [ORDER_EXPIRED] = "expired",
                [ORDER_BUSY] = "busy",
        };

        return names[state];
}

void order_request_done(OrderRequest *request) {
        free(request->promote.ranges);
        free(request->demote.ranges);
        *request = (OrderRequest) { .promote.node = -1, .demote.node = -1 };
}

static void order_free(Order *o) {
        if (!o)
                return;
        order_request_done(&o->request);
        free(o);
}

/* The order has ended: remembers how. */
static void order_keep(OrderQueue *q, Order *o, OrderState state) {
        o->status.state = state;
        q->kept[q->next_kept] = o->status;
        q->next_kept = (q->next_kept + 1) % ORDERS_KEPT;
        order_free(o);
}

static void order_progress(void *userdata, const OrderResult *so_far) {
        OrderQueue *q = userdata;

        pthread_mutex_lock(&q->lock);
        q->promoted += so_far->promoted - q->running->status.result.promoted;
        q->demoted += so_far->demoted - q->running->status.result.demoted;
        q->running->status.result = *so_far;
        pthread_mutex_unlock(&q->lock);
}

/* Called locked; unlocks while the order runs. */
static void order_run(OrderQueue *q) {
        Order *o = q->running = TAKE_PTR(q->waiting);
        OrderResult result = { .mover = "" };
        Stop stop;
        int r;

        o->status.state = ORDER_RUNNING;
        o->started = now_usec();
        stop = (Stop) { o->submitted + o->request.deadline, &q->cancel };
        atomic_store(&q->cancel, false);
        pthread_mutex_unlock(&q->lock);

        r = stop_check(&stop);
        if (r >= 0)
                r = q->runner.run(q->runner.userdata, &o->request, &stop, order_progress, q, &result);
        order_progress(q, &result);

        pthread_mutex_lock(&q->lock);
        q->running = NULL;
        o->status.elapsed = now_usec() - o->started;
        order_keep(q, o, r == -ECANCELED ? ORDER_CANCELLED : r == -ETIME ? ORDER_EXPIRED : ORDER_DONE);
}

static void *worker_main(void *userdata) {
        OrderQueue *q = userdata;

        pthread_mutex_lock(&q->lock);
        while (!q->quit) {
                if (q->release) {
                        q->release = false;
                        pthread_mutex_unlock(&q->lock);
                        q->runner.release(q->runner.userdata);
                        pthread_mutex_lock(&q->lock);
                } else if (q->waiting)
                        order_run(q);
                else
                        pthread_cond_wait(&q->wake, &q->lock);
        }
        pthread_mutex_unlock(&q->lock);
        q->runner.release(q->runner.userdata);
        return NULL;
}

int order_queue_new(const OrderRunner *runner, OrderQueue **ret) {
        OrderQueue *q = calloc(1, sizeof(OrderQueue));
        sigset_t all, old;
        int r;

        if (!q)
                return -ENOMEM;
        q->runner = *runner;
        pthread_mutex_init(&q->lock, NULL);
        pthread_cond_init(&q->wake, NULL);
        sigfillset(&all); /* signals are the main loop's */
        pthread_sigmask(SIG_BLOCK, &all, &old);
        r = pthread_create(&q->worker, NULL, worker_main, q);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r != 0) {
                free(q);
                return -r;
        }
        *ret = q;
        return 0;
}

OrderQueue *order_queue_free(OrderQueue *q) {
        if (!q)
                return NULL;
        pthread_mutex_lock(&q->lock);
        q->quit = true;
        atomic_store(&q->cancel, true);
        pthread_cond_signal(&q->wake);
        pthread_mutex_unlock(&q->lock);
        pthread_join(q->worker, NULL);
        order_free(q->waiting);
        pthread_cond_destroy(&q->wake);
        pthread_mutex_destroy(&q->lock);
        free(q);
        return NULL;
}

/* Called locked. */
static void status_find(OrderQueue *q, uint64_t id, OrderStatus *ret) {
        *ret = (OrderStatus) { .id = id, .state = ORDER_UNKNOWN, .result.mover = "" };
        if (q->running && q->running->request.id == id) {
                *ret = q->running->status;
                ret->elapsed = now_usec() - q->running->started;
        } else if (q->waiting && q->waiting->request.id == id)
                *ret = q->waiting->status;
        else
                for (size_t i = 0; i < ORDERS_KEPT; i++)
                        if (q->kept[i].id == id && q->kept[i].state != ORDER_UNKNOWN)
                                *ret = q->kept[i];
}

void order_queue_submit(OrderQueue *q, OrderRequest *request, OrderStatus *ret) {
        Order *o;

        pthread_mutex_lock(&q->lock);
        status_find(q, request->id, ret);
        if (ret->state == ORDER_UNKNOWN) {
                o = q->waiting ? NULL : calloc(1, sizeof(Order));
                if (!o)
                        ret->state = ORDER_BUSY;
                else {
                        o->request = *request;
                        *request = (OrderRequest) { .promote.node = -1, .demote.node = -1 };
                        o->submitted = now_usec();
                        o->status = (OrderStatus){ .id = o->request.id,
                                                   .state = ORDER_QUEUED,
                                                   .result.mover = "" };
                        q->waiting = o;
                        *ret = o->status;
                        pthread_cond_signal(&q->wake);
                }
        }
        pthread_mutex_unlock(&q->lock);
}

void order_queue_status(OrderQueue *q, uint64_t id, OrderStatus *ret) {
        pthread_mutex_lock(&q->lock);
        status_find(q, id, ret);
        pthread_mutex_unlock(&q->lock);
}

void order_queue_cancel(OrderQueue *q, uint64_t id, OrderStatus *ret) {
        pthread_mutex_lock(&q->lock);
        if (q->waiting && q->waiting->request.id == id)
                order_keep(q, TAKE_PTR(q->waiting), ORDER_CANCELLED);
        else if (q->running && q->running->request.id == id)
                atomic_store(&q->cancel, true);
        status_find(q, id, ret);
        pthread_mutex_unlock(&q->lock);
}

void order_queue_quiesce(OrderQueue *q) {
        pthread_mutex_lock(&q->lock);
        if (q->waiting)
                order_keep(q, TAKE_PTR(q->waiting), ORDER_CANCELLED);
        if (q->running)
                atomic_store(&q->cancel, true);
        q->release = true;
        pthread_cond_signal(&q->wake);
        pthread_mutex_unlock(&q->lock);
}

void order_queue_totals(OrderQueue *q, uint64_t *ret_promoted, uint64_t *ret_demoted) {
        pthread_mutex_lock(&q->lock);
        *ret_promoted = q->promoted;
        *ret_demoted = q->demoted;
        pthread_mutex_unlock(&q->lock);
}
