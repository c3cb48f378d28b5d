# Packages of Debian suites the machine does not follow, downloaded and
# unpacked below the build folder: nothing is installed, no system file is
# touched, root is not needed.
# shellcheck shell=bash
#
# The mirrors are the machine's own. Its apt sources are copied with the suite
# names changed, so mirrors, keys and proxies that are right for it stay right.

# debian_codename: the release the machine runs.
debian_codename() {
	# shellcheck source=/dev/null
	(. /etc/os-release && [[ ${ID-} == debian ]] && echo "${VERSION_CODENAME-}")
}

# debian_sources CODENAME SUITE...: on stdout the machine's source of CODENAME's
# main archive, in apt's format that the machine uses, for each SUITE instead.
debian_sources() {
	local codename=$1 files=()
	shift

	shopt -s nullglob
	files=(/etc/apt/sources.list.d/*.sources)
	if ((${#files[@]})); then
		# Paragraph mode: one stanza a record. Ours is the first that
		# has the bare code name as a suite and "main" as a component.
		awk -v RS= -v c="$codename" -v s="$*" '
			/(^|\n)Components:[^\n]* main/ && match($0, /(^|\n)Suites:[^\n]*/) {
				line = substr($0, RSTART, RLENGTH)
				if ((line " ") !~ ("[ \t]" c "[ \t]"))
					next
				sub(/(^|\n)Suites:[^\n]*/, "\nSuites: " s)
				print
				found = 1
				exit
			}
			END { exit !found }' "${files[@]}" && return
	fi
	# The one-line format: deb [options] URI suite component...
	files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list)
	awk -v c="$codename" -v s="$*" '
		$1 != "deb" { next }
		{
			opts = ""
			line = $0
			if (match(line, /\[[^]]*\]/)) {
				opts = substr(line, RSTART, RLENGTH) " "
				sub(/\[[^]]*\]/, "", line)
			}
			n = split(line, f, " ")
			if (f[3] != c || line !~ /[ \t]main/)
				next
			count = split(s, suites, " ")
			for (i = 1; i <= count; i++)
				print "deb " opts f[2] " " suites[i] " main"
			found = 1
			exit
		}
		END { exit !found }' "${files[@]}" 2>/dev/null
}

# debian_apt DIR TOOL ARGS...: apt-get or apt-cache on the private
# configuration in DIR. What is installed is what the machine has, or nothing if
# DIR is of another release.
debian_apt() {
	local dir=$1 tool=$2 status=/var/lib/dpkg/status
	shift 2
	[[ ! -e $dir/installed ]] || status=$dir/installed
	"$tool" -q \
		-o Dir::Etc::sourcelist=/dev/null \
		-o Dir::Etc::sourceparts="$dir/sources" \
		-o Dir::Etc::preferences=/dev/null \
		-o Dir::Etc::preferencesparts="$dir/none" \
		-o Dir::State="$dir/state" \
		-o Dir::State::status="$status" \
		-o Dir::Cache="$dir/cache" \
		-o APT::Update::Post-Invoke::= \
		-o APT::Sandbox::User="$(id -un)" \
		-o Debug::NoLocking=true \
		"$@"
}

# debian_suite DIR SUITE [RELEASE]: make DIR a private apt configuration that knows
# RELEASE (the machine's) and SUITE, with fresh package lists. Once made, it is
# kept. With another RELEASE than the machine's nothing counts as installed: what
# is unpacked from it comes with all that it needs, down to libc.
debian_suite() {
	local dir=$1 suite=$2 release=${3-} codename format=sources
	[[ -e $dir/ready ]] && return

	codename=$(debian_codename) || true
	[[ -n $codename ]] ||
		die "not a Debian release; the nested host is made of Debian packages"
	rm -rf "$dir"
	mkdir -p "$dir"/{sources,none,state/lists/partial,cache/archives/partial}
	[[ -z $release || $release == "$codename" ]] || : >"$dir/installed"
	debian_sources "$codename" "${release:-$codename}" "$suite" >"$dir/found" ||
		die "/etc/apt names no mirror of $codename"
	grep -q '^deb ' "$dir/found" && format=list
	mv "$dir/found" "$dir/sources/debian.$format"
	debian_apt "$dir" apt-get update >"$dir/log" 2>&1 ||
		die "no package lists of $suite: $(grep -m1 '^[EW]:' "$dir/log")"
	touch "$dir/ready"
}

# debian_unpack DIR SUITE TREE PACKAGE...: into TREE go the packages as SUITE
# has them, and what they need of the things the machine does not have.
debian_unpack() {
	local dir=$1 suite=$2 tree=$3 deb
	shift 3
	[[ -e $tree/.unpacked ]] && return

	say "fetching $* of $suite"
	rm -rf "$tree" "$dir"/cache/archives/*.deb
	mkdir -p "$tree"
	debian_apt "$dir" apt-get -y --no-install-recommends --download-only \
		--reinstall -t "$suite" install "$@" >"$dir/log" 2>&1 ||
		die "cannot fetch $*: $(grep -m1 '^[EW]:' "$dir/log")"
	for deb in "$dir"/cache/archives/*.deb; do
		dpkg-deb -x "$deb" "$tree" || die "cannot unpack ${deb##*/}"
	done
	rm -f "$dir"/cache/archives/*.deb
	touch "$tree/.unpacked"
}

# debian_download DIR SUITE TREE PACKAGE...: into TREE go exactly these packages
# as SUITE has them, whatever the machine has installed. TREE/.packages says
# which; a tree of the same ones is kept.
debian_download() {
	local dir=$1 suite=$2 tree=$3 debs deb
	shift 3
	[[ -e $tree/.packages && $(<"$tree/.packages") == "$*" ]] && return

	say "fetching $* of $suite"
	debs=$(mktemp -d "$dir/debs.XXXXXX")
	rm -rf "$tree"
	mkdir -p "$tree"
	(cd "$debs" && debian_apt "$dir" apt-get download "${@/%//$suite}") >"$debs/log" 2>&1 ||
		die "cannot fetch $*: $(grep -m1 '^[EW]:' "$debs/log")"
	for deb in "$debs"/*.deb; do
		dpkg-deb -x "$deb" "$tree" || die "cannot unpack ${deb##*/}"
	done
	rm -rf "$debs"
	echo "$*" >"$tree/.packages"
}
