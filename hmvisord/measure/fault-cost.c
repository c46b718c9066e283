/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * hmvisor-fault-cost: what a page's first write costs a guest of this host while writes are tracked, in ns.
 * Runs a guest of a few instructions by KVM itself: it writes to each of its pages, once after tracking has
 * protected them all, and once more when none is; the difference is the price of the faults. It needs
 * /dev/kvm, which hmvisord itself has no access to: it has a service of its own, before the daemon's.
 *
 * Prints the number; with a path, writes it to that file, anew.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096
#define N_PAGES 64
#define ROUNDS 40
#define CODE_AT 0x1000
#define DATA_AT 0x100000
#define TSS_AT 0xfffbd000 /* three pages that the guest does not use; Intel's processors need them */

/* movb %al, (%ebx); add $4096, %ebx; dec %ecx; jnz back; hlt */
static const uint8_t code[] = { 0x88, 0x03, 0x81, 0xc3, 0x00, 0x10, 0x00, 0x00, 0x49, 0x75, 0xf5, 0xf4 };

typedef struct Guest {
        int kvm, vm, vcpu;
        struct kvm_run *run;
        uint64_t dirty[N_PAGES / 64];
} Guest;

static int fail(const char *what) {
        fprintf(stderr,
                "hmvisor-fault-cost: %s: %s; hmvisord will assume a figure, see FaultCost= in "
                "hmvisord.conf(5)\n",
                what, strerror(errno));
        return -1;
}

static int guest_add_memory(Guest *g, uint32_t slot, uint64_t at, size_t size, uint32_t flags, void **ret) {
        struct kvm_userspace_memory_region region = {
                .slot = slot,
                .flags = flags,
                .guest_phys_addr = at,
                .memory_size = size,
        };

        *ret = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (*ret == MAP_FAILED)
                return fail("no memory for a guest");
        region.userspace_addr = (uintptr_t) *ret;
        return ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0 ? fail("KVM takes no memory") : 0;
}

/* Flat segments of 32 bits, no paging: the guest's addresses are its physical ones. */
static int guest_set_mode(const Guest *g) {
        const struct kvm_segment data = {
                .limit = UINT32_MAX, .selector = 16, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
        };
        struct kvm_sregs s;

        if (ioctl(g->vcpu, KVM_GET_SREGS, &s) < 0)
                return fail("KVM_GET_SREGS");
        s.ds = s.es = s.fs = s.gs = s.ss = s.cs = data;
        s.cs.type = 11;
        s.cs.selector = 8;
        s.cr0 |= 1;
        return ioctl(g->vcpu, KVM_SET_SREGS, &s) < 0 ? fail("KVM_SET_SREGS") : 0;
}

static int guest_start(Guest *g) {
        void *memory, *data;
        int size;

        g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        if (g->kvm < 0)
                return fail("/dev/kvm");
        g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
        if (g->vm < 0)
                return fail("KVM starts no guest");
        (void) ioctl(g->vm, KVM_SET_TSS_ADDR, TSS_AT);
        if (guest_add_memory(g, 0, CODE_AT, PAGE, 0, &memory) < 0 ||
            guest_add_memory(g, 1, DATA_AT, N_PAGES * PAGE, KVM_MEM_LOG_DIRTY_PAGES, &data) < 0)
                return -1;
        memcpy(memory, code, sizeof(code));
        g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
        size = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
        if (g->vcpu < 0 || size < (int) sizeof(*g->run))
                return fail("KVM gives no processor");
        g->run = mmap(NULL, (size_t) size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
        if (g->run == MAP_FAILED)
                return fail("KVM gives no processor");
        return guest_set_mode(g);
}

/* Of this thread's processor time, the guest's included: on a busy host others run in between. */
static uint64_t now_ns(void) {
        struct timespec ts;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
        return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/* Writes to all pages; *ret_ns is how long that took. */
static int guest_write(const Guest *g, uint64_t *ret_ns) {
        struct kvm_regs regs = { .rip = CODE_AT, .rflags = 2, .rbx = DATA_AT, .rcx = N_PAGES };
        uint64_t begin;

        if (ioctl(g->vcpu, KVM_SET_REGS, &regs) < 0)
                return fail("KVM_SET_REGS");
        begin = now_ns();
        if (ioctl(g->vcpu, KVM_RUN, 0) < 0)
                return fail("KVM_RUN");
        *ret_ns = now_ns() - begin;
        errno = EIO;
        return g->run->exit_reason == KVM_EXIT_HLT ? 0 : fail("the guest did not come to its end");
}

static int guest_protect(Guest *g) {
        struct kvm_dirty_log log = { .slot = 1, .dirty_bitmap = g->dirty };

        return ioctl(g->vm, KVM_GET_DIRTY_LOG, &log) < 0 ? fail("KVM_GET_DIRTY_LOG") : 0;
}

/* The least of several rounds each: whatever else the host does can only add to them. */
static int measure(uint64_t *ret_ns) {
        uint64_t with, without, least_with = UINT64_MAX, least_without = UINT64_MAX;
        Guest g = { .kvm = -1, .vm = -1, .vcpu = -1 };

        if (guest_start(&g) < 0 || guest_write(&g, &with) < 0)
                return -1;
        for (size_t i = 0; i < ROUNDS; i++) {
                if (guest_protect(&g) < 0 || guest_write(&g, &with) < 0 || guest_write(&g, &without) < 0)
                        return -1;
                least_with = with < least_with ? with : least_with;
                least_without = without < least_without ? without : least_without;
        }
        *ret_ns = least_with > least_without ? (least_with - least_without) / N_PAGES : 0;
        if (*ret_ns == 0) /* processors that log writes by themselves */
                *ret_ns = 1;
        return 0;
}

static int write_to(const char *path, uint64_t ns) {
        FILE *f = fopen(path, "we");

        if (!f)
                return fail(path);
        fprintf(f, "%llu\n", (unsigned long long) ns);
        return fclose(f) == 0 ? 0 : fail(path);
}

int main(int argc, char *argv[]) {
        uint64_t ns;

        if (argc > 2 || (argc == 2 && argv[1][0] != '/')) {
                fputs("Usage: hmvisor-fault-cost [FILE]\nWrites to FILE (an absolute path), or prints, what "
                      "a tracked write costs a guest, in ns.\n",
                      stderr);
                return 2;
        }
        if (measure(&ns) < 0)
                return 1;
        if (argc == 2)
                return write_to(argv[1], ns) < 0;
        printf("%llu\n", (unsigned long long) ns);
        return 0;
}
