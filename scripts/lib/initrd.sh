# The initrd of a nested host: busybox, kernel modules, nested-init.
# shellcheck shell=bash disable=SC2154 # top is set by common.sh

# initrd_module TREE NAME: the file of module NAME below TREE; fails when the
# kernel has it built in (or not at all).
initrd_module() {
	local file
	file=$(find "$1" -name "$2.ko" -o -name "$2.ko.xz" -o -name "$2.ko.zst" | head -n1)
	[[ -n $file ]] && echo "$file"
}

# initrd_with_depends TREE NAME: module NAME and what it depends on, each as a
# path that begins with lib/modules; built-in ones are passed over.
initrd_with_depends() {
	local file depends name
	file=$(initrd_module "$1" "$2") || return 0
	echo "lib/modules/${file#*/lib/modules/}"
	depends=$(modinfo -F depends "$file")
	for name in ${depends//,/ }; do
		initrd_with_depends "$1" "$name"
	done
}

# initrd_pack ROOT OUT: what lies below ROOT as the initrd OUT.
initrd_pack() {
	need cpio nested
	(cd "$1" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 >"$2" ||
		die "cannot pack $2"
}

# initrd_build TREE OUT MODULE...: OUT becomes the initrd with those modules of
# the kernel package unpacked in TREE, to be loaded in the order given.
initrd_build() {
	local tree=$1 out=$2 root name file busybox
	shift 2
	need busybox nested

	busybox=$(command -v busybox)
	root=$(mktemp -d "$out.XXXXXX")
	mkdir -p "$root"/{bin,modules}
	cp "$busybox" "$root/bin/busybox"
	cp "$top/scripts/lib/nested-init" "$root/init"
	chmod +x "$root/init"
	for name; do
		file=$(initrd_module "$tree" "$name") || continue
		case $file in
		*.xz) xz -dc "$file" >"$root/modules/$name.ko" ;;
		*.zst) zstd -dcq "$file" >"$root/modules/$name.ko" ;;
		*) cp "$file" "$root/modules/$name.ko" ;;
		esac
		echo "$name.ko"
	done >"$root/modules/order"

	initrd_pack "$root" "$root.gz"
	mv "$root.gz" "$out"
	rm -rf "$root"
}
