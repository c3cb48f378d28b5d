# Adds up the tests of several programs from their output.
#
# A program's output stands between "== NAME" and "== NAME: status N". In it,
# a summary of the Check library counts each of its checks, and each line that
# starts with SKIP turns one passed check into a skipped one. A program without
# such a summary is one test: passed with status 0, skipped with 77, otherwise
# failed; so is one that was killed or lost after a clean summary.
#
# A program may run others the same way. Those are counted; itself it counts
# only if it failed and none of them did. One whose status never comes was lost,
# but for one that ends with "== NAME: again": it comes again, and does not count.
#
# Prints a line a program, then what failed, by its name and the first line of why, and the
# total: who sees the end alone knows what to look for. Fails when a test failed or none ran.

function begin(program) {
	name[++depth] = program
	checks[depth] = bad[depth] = skips[depth] = inner[depth] = inner_bad[depth] = 0
	named[depth] = 0
}

# Ends the innermost program.
function end(status,    n, failures, skip, good) {
	n = checks[depth]
	failures = bad[depth]
	skip = skips[depth]
	if (n) {
		if (!failures && status != 0 && status != 77)
			failures = 1
	} else if (inner[depth]) {
		failures = n = status == "lost" || (status != 0 && !inner_bad[depth])
	} else {
		n = 1
		skip = status == 77
		failures = status != 0 && !skip
	}
	good = n - failures - skip
	if (good < 0)
		good = 0
	if (n)
		summary[++programs] = sprintf("%-28s %4d passed %4d failed %4d skipped%s",
			name[depth], good, failures, skip,
			status && status != 77 ? "  (status " status ")" : "")
	if (failures && !named[depth])
		failure[++wrong] = name[depth] " (status " status ")"
	passed += good
	failed += failures
	skipped += skip
	depth--
	inner[depth]++
	inner_bad[depth] += failures + inner_bad[depth + 1]
}

/^== [^ ]+$/ {
	begin($2)
	next
}

/^== [^ ]+: status [0-9]+$/ {
	program = $2
	sub(/:$/, "", program)
	for (i = depth; i > 0 && name[i] != program; i--)
		;
	if (i == 0)
		next
	while (depth > i)
		end("lost")
	end($4 + 0)
	next
}

/^== [^ ]+: again$/ {
	program = $2
	sub(/:$/, "", program)
	if (depth && name[depth] == program)
		depth--
	next
}

depth && /^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/ {
	checks[depth] += $3
	bad[depth] += $5 + $7
}

# FILE:LINE:F:CASE:TEST:ITERATION: why; E for one that was killed.
depth && /^[^: ]+:[0-9]+:[EF]:[^:]+:[A-Za-z0-9_]+:[0-9]+: / {
	split($0, part, ":")
	why = substr($0, index($0, ": ") + 2, 300)
	failure[++wrong] = name[depth] " " part[5] ":" part[6] " (" part[1] ":" part[2] "): " why
	named[depth]++
}

depth && /^SKIP/ {
	skips[depth]++
}

END {
	while (depth > 0)
		end("lost")
	for (i = 1; i <= programs; i++)
		print summary[i]
	for (i = 1; i <= wrong; i++)
		print "FAILED " failure[i]
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed || !programs
}
