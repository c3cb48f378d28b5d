/* The guest of `foal bench faults`, as a file in memory. */
	.section .rodata
	.balign	16
	.globl	bench_guest_start, bench_guest_bytes
bench_guest_start:
	.incbin	"vmm/bench_guest/guest.elf"
bench_guest_end:
	.balign	8
bench_guest_bytes:
	.quad	bench_guest_end - bench_guest_start

	.section .note.GNU-stack, "", @progbits
