/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The test's guest: a multiboot kernel without stack, interrupts or data,
 * that writes exactly the pages that the control page at 4 MiB lists:
 * at +4 their number, from +8 their addresses.  Over and over while +0 is 0;
 * else once each time that +0 changes.  The test writes the control page from
 * outside, in the memfd behind the guest's memory.
 */
        .set    CONTROL, 0x400000

        .text
        .globl  _start
        .align  4
        .long   0x1badb002              /* multiboot: magic, flags, checksum */
        .long   0
        .long   -0x1badb002
_start:
        cli
        xorl    %ebx, %ebx
pass:
        pause
        movl    CONTROL, %eax
        testl   %eax, %eax
        jz      write
        cmpl    %eax, %ebx
        je      pass
        movl    %eax, %ebx
write:
        movl    CONTROL + 4, %ecx
        testl   %ecx, %ecx
        jz      pass
        movl    $CONTROL + 8, %esi
page:
        movl    (%esi), %eax
        incl    (%eax)
        addl    $4, %esi
        decl    %ecx
        jnz     page
        jmp     pass

        .section .note.GNU-stack, "", @progbits
