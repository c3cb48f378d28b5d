# Shared by the scripts: where the tree is, and how a script gives up.
# shellcheck shell=bash

# The top of the source tree, whatever directory the caller stands in.
# shellcheck disable=SC2034
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

say() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# die MESSAGE: exit 125, which no command run in a nested host is expected to
# return and which timeout(1) and friends use for "the tool itself failed".
die() {
	say "$*"
	exit 125
}

# need COMMAND GROUP: COMMAND must be there; GROUP of scripts/setup brings it.
need() {
	command -v "$1" >/dev/null ||
		die "$1 is not installed; run: scripts/setup $2"
}
