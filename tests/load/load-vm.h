/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * One scripted domain: its XML, its QEMU with the extension, its guest with or without an agent, and what
 * the guest does with its memory. Knows no queue and no manager.
 */
#pragma once

#include "base/outcome.h"
#include "base/tier.h"

typedef enum Kind {
        GET_XML,
        UPDATE_DEVICE,
        BLOCK_STATS,
        OTHER,             /* of metadata, or to define: says only that it is done */
        QMP,
        AGENT,
} Kind;

typedef enum Agent {
        AGENT_OURS,
        AGENT_NONE,        /* nothing is connected */
        AGENT_STOCK,       /* does not know our commands */
        AGENT_SILENT,
        AGENT_NESTED,      /* from here on they answer at once: 4 MiB of nested JSON */
        AGENT_HUGE,        /* 4 MiB of what it should be, with an array that is far too long */
        AGENT_EAGER,       /* its orders go on for ever */
        AGENT_OTHER,       /* tells of another order */
        AGENT_STALE,       /* one answer behind, as one that answered twice */
        AGENT_LATE,        /* what it should, just before nobody waits for it any more */
        _AGENT_MAX,
} Agent;

typedef struct Script {
        const char *policy;
        Agent agent;
        uint64_t hot_pages;
        bool swaps, comes_and_goes, refuses;   /* refuses: gives no memory back */
} Script;

typedef struct VmCounters {
        uint64_t orders, resizes;
        uint64_t hostile;          /* answers of guests that are */
        uint64_t lapses;           /* of leases: tracking was not renewed in time */
} VmCounters;

/* The caller looks after life, id and what is below them. */
typedef struct Vm {
        const Script *script;
        size_t index;
        Agent agent;
        VmCounters *counters;
        char uuid[37], name[16];
        uint64_t requested[_TIER_MAX], current[_TIER_MAX];   /* of the devices */
        int table;                 /* as handed over; -EBADF */
        bool tracking;
        uint64_t epoch, renew;
        usec_t renewed;
        bool hot_in_dram;
        uint64_t swapped, swap_ns;
        char *last_answer;         /* of AGENT_STALE */

        unsigned life;             /* how often it was another one, or another incarnation */
        int id;                    /* -1: off */
        usec_t life_next;
        bool busy[2];              /* by lane of calls */
        unsigned n_calls;
} Vm;

/* Ten in a row have the ten scripts. */
void vm_make(Vm *vm, size_t index, VmCounters *counters);
/* A name and a UUID, of which the last 12 digits are the index. */
void vm_name(Vm *vm, unsigned life);
void vm_power_on(Vm *vm, int id);
void vm_power_off(Vm *vm);
/* What a call brings; the caller frees it. fd: of the call, taken over where it is -EBADF afterwards. NULL:
 * o says why, or there is nothing to say. */
char *vm_answer(Vm *vm, Kind kind, const char *request, int *fd, Outcome *o);
/* A second of its life: it writes, and swaps. */
void vm_live(Vm *vm, usec_t now);
void vm_done(Vm *vm);
void vm_scripts_done(void);
/* _AGENT_MAX: no such word. */
Agent agent_from_word(const char *word);
