# What the emulated hosts have in common, whatever emulates them: their options,
# the job that goes in, the results that come out.
# shellcheck shell=bash disable=SC2154 # top is set by common.sh
#
#:  --kernel V            Linux of the host, by its version
#:  --memory MB           of the host
#:  --cpus N
#:  --timeout S           the host is then killed, status 124
#:  --put FILE[:NAME]     file or folder to bring in, as NAME (default: its
#:                        base name) in the command's directory; a NAME that
#:                        starts with / is a path in the host's root
#:  --put-libs            bring the shared libraries of all programs put in
#:  --get NAME:DEST       file or folder to bring back to DEST
#:  --times               report when the command started and ended
#:  --fetch               only get the packages, then stop
#:
#: The command runs as root in a directory of its own, which is in PATH; its
#: output is streamed. The exit status is the command's; 124 after a timeout,
#: 125 when the host could not be started or died before the command ended.
#
# A script that is such a host sets, and then calls nested_main "$@":
#
#   kernels=(V...)        versions of Linux it runs, the default first
#   memory cpus timeout   defaults
#   modules=(NAME...)     the host's, in the order to load them; what a kernel
#                         has built in or lacks is passed over
#   host_fetch            gets the emulator, with $cache/apt ready
#   host_run DIR          starts the host with $vmlinuz and $initrd, the disks
#                         DIR/job.tar and DIR/results.tar, and its serial line on
#                         stdout; returns when it is off, 124 after $timeout s,
#                         otherwise not 0 when it did not switch itself off

cache=$top/build/nested
results_mb=1024 # sparse

libs='' times='' fetch=''
put=() get=()

usage() {
	awk 'NR > 1 && !/^#/ { exit } NR > 1 { sub(/^# ?/, ""); print }' "$0" >&2
	sed -n 's/^#: \{0,1\}//p' "$top/scripts/lib/nested.sh" >&2
	exit 125
}

# nested_parse ARG...: sets the variables that the options are named after.
nested_parse() {
	kernel=${kernels[0]}
	while (($#)); do
		case $1 in
		--kernel | --memory | --cpus | --timeout | --put | --get)
			(($# > 1)) || die "$1 wants a value"
			case $1 in
			--put) put+=("$2") ;;
			--get) get+=("$2") ;;
			*) printf -v "${1#--}" %s "$2" ;;
			esac
			shift
			;;
		--put-libs) libs=1 ;;
		--times) times=1 ;;
		--fetch) fetch=1 ;;
		--)
			shift
			break
			;;
		*) usage ;;
		esac
		shift
	done
	command=("$@")

	[[ " ${kernels[*]} " == *" $kernel "* ]] || die "--kernel is one of: ${kernels[*]}"
	local number
	for number in memory cpus timeout; do
		[[ ${!number} =~ ^[1-9][0-9]{0,6}$ ]] || die "--$number wants a positive number"
	done
	((${#command[@]})) || [[ -n $fetch ]] || usage
}

# Get what the host is made of; sets vmlinuz and initrd.
nested_prepare() {
	local suite tree=$cache/linux-$kernel release

	mkdir -p "$cache"
	release=$(debian_codename)
	suite=$release
	[[ $kernel == 6.1 ]] || suite=$release-backports

	# One at a time: two runs that start together share the downloads.
	exec {lock}>"$cache/lock"
	flock "$lock"
	debian_suite "$cache/apt" "$release-backports"
	debian_unpack "$cache/apt" "$suite" "$tree" linux-image-cloud-amd64
	vmlinuz=$(find "$tree/boot" -name "vmlinuz-$kernel.*" | head -n1)
	[[ -n $vmlinuz ]] || die "$suite has no kernel $kernel any more; try another --kernel"
	host_fetch

	initrd=$cache/initrd-${0##*-}-$kernel.gz
	if [[ ! -e $initrd || -n $(find "$0" "$top/scripts/lib" \
		"$tree/.unpacked" -newer "$initrd" -print -quit) ]]; then
		initrd_build "$tree/lib/modules" "$initrd" "${modules[@]}"
	fi
	flock -u "$lock"
}

# quote WORD...: the words as one line of POSIX shell.
quote() {
	local word
	for word; do
		printf "'%s' " "${word//\'/\'\\\'\'}"
	done
	echo
}

# Put the shared libraries and loaders of the program FILE below ROOT.
stage_libs() {
	local file=$1 root=$2 path
	{ ldd "$file" 2>/dev/null || true; } |
		awk '$2 == "=>" && $3 ~ /^\// { print $3 } $1 ~ /^\// { print $1 }' |
		while read -r path; do
			[[ -e $root$path ]] && continue
			mkdir -p "$root${path%/*}"
			cp -L "$path" "$root$path"
		done
}

# Lay out the job below ROOT as it will lie in the host, then pack it as DISK.
stage() {
	local root=$1 disk=$2 item file name
	mkdir -p "$root/job"
	for item in "${put[@]}"; do
		file=${item%%:*}
		name=${item#"$file"}
		name=${name#:}
		name=${name:-$(basename "$file")}
		[[ -e $file ]] || die "--put $file: no such file"
		[[ $name == /* ]] || name=/job/$name
		mkdir -p "$root$(dirname "$name")"
		cp -rL "$file" "$root$name"
		[[ -z $libs || -d $file ]] || stage_libs "$file" "$root"
	done
	quote "${command[@]}" >"$root/job/.run"
	for item in "${get[@]}"; do
		[[ $item == *:* ]] || die "--get $item: wants NAME:DEST"
		echo "${item%%:*}"
	done >"$root/job/.get"
	tar -C "$root" --owner=0 --group=0 -cf "$disk" .
}

# Bring back what --get asked for.
collect() {
	local dir=$1 item from to failed=0
	for item in "${get[@]}"; do
		from=$dir/results/${item%%:*} to=${item#*:}
		if [[ -e $from ]]; then
			cp -rT "$from" "$to" || failed=1
		else
			say "--get ${item%%:*}: the command left no such file"
			failed=1
		fi
	done
	return "$failed"
}

nested_main() {
	local dir status=0 started ended
	nested_parse "$@"
	nested_prepare
	[[ -z $fetch ]] || return 0

	dir=$(mktemp -d "$cache/run.XXXXXX")
	# shellcheck disable=SC2064
	trap "rm -rf '$dir'" EXIT
	stage "$dir/root" "$dir/job.tar"
	truncate -s "${results_mb}M" "$dir/results.tar"

	host_run "$dir" || status=$?
	((status != 124)) || {
		say "the host was killed after $timeout s"
		return 124
	}
	((status == 0)) || die "the host ended with status $status"
	mkdir "$dir/results"
	tar -xf "$dir/results.tar" -C "$dir/results" 2>/dev/null || true
	[[ -e $dir/results/.status ]] || die "the host died before the command ended"
	read -r status <"$dir/results/.status"
	if [[ -n $times ]]; then
		read -r started ended <"$dir/results/.times"
		say "kernel $kernel: the command ran from $started s to $ended s after boot"
	fi
	# A command that failed has said more than the absence of its results.
	collect "$dir" || ((status)) || die "results are missing"
	return "$status"
}
