# Adds up the tests of several programs from their output.
#
# A program's output stands between "== NAME" and "== NAME: status N". In it,
# a summary of the Check library counts each of its checks, and each line that
# starts with SKIP turns one passed check into a skipped one. A program without
# such a summary is one test: passed with status 0, skipped with 77, otherwise
# failed; so is one that was killed or lost after a clean summary.
#
# Prints a line a program and the total; fails when a test failed or none ran.

function close_program(status) {
	if (checks) {
		bad = failures + errors
		if (!bad && status != 0 && status != 77)
			bad = 1
	} else if (status == 77) {
		checks = skips = 1
		bad = 0
	} else {
		checks = 1
		skips = 0
		bad = status != 0
	}
	good = checks - bad - skips
	if (good < 0)
		good = 0
	summary[++programs] = sprintf("%-28s %4d passed %4d failed %4d skipped%s", name, good, bad,
				      skips, status && status != 77 ? "  (status " status ")" : "")
	passed += good
	failed += bad
	skipped += skips
	name = ""
}

/^== [^ ]+$/ {
	if (name != "")
		close_program("lost")
	name = $2
	checks = failures = errors = skips = 0
	next
}

/^== [^ ]+: status [0-9]+$/ {
	if (name != "")
		close_program($4 + 0)
	next
}

/^[0-9]+%: Checks: [0-9]+, Failures: [0-9]+, Errors: [0-9]+/ {
	checks += $3
	failures += $5
	errors += $7
}

/^SKIP/ {
	skips++
}

END {
	if (name != "")
		close_program("lost")
	for (i = 1; i <= programs; i++)
		print summary[i]
	printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
	exit failed || !programs
}
