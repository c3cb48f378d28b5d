# The rules of scripts/check-layering, over C and assembly sources given by
# their names relative to the top of the tree. Prints file:line: rule for each
# breach, fails if there was one.

BEGIN {
	# Which rooms a room may include from, besides itself.
	may["vmm"] = " devices ept "
	may["devices"] = " ept "
	may["ept"] = " "
	may["guest"] = " "
	# Who may include guest/abi.h, the one header of both sides.
	abi = " vmm devices guest "
	# What C17 4p6 grants a freestanding program, as far as the guest needs it.
	freestanding = " stdint.h stddef.h stdbool.h stdarg.h stdalign.h stdnoreturn.h limits.h "
	breaches = 0
}

function breach(rule) {
	printf "%s:%d: %s\n", FILENAME, FNR, rule
	breaches++
}

# The line without comments and without what stands in quotes. in_comment
# carries a comment over to the next line.
function code_of(line,    out, i, n, c, two, quote) {
	n = length(line)
	out = quote = ""
	for (i = 1; i <= n; i++) {
		c = substr(line, i, 1)
		two = substr(line, i, 2)
		if (in_comment) {
			if (two == "*/") {
				in_comment = 0
				i++
			}
		} else if (quote != "") {
			if (c == "\\")
				i++
			else if (c == quote) {
				quote = ""
				out = out c
			}
		} else if (two == "/*") {
			in_comment = 1
			out = out " "
			i++
		} else if (two == "//") {
			break
		} else {
			if (c == "\"" || c == "'")
				quote = c
			out = out c
		}
	}
	return out
}

function check_include(header, angle,    first) {
	if (header ~ /(^|\/)\.\.(\/|$)/) {
		breach("include by its path from the top, not through ..: " header)
		return
	}
	first = header
	sub(/\/.*/, "", first)
	if (header ~ /\// && first in may) {
		if (header == "guest/abi.h") {
			if (!index(abi, " " room " "))
				breach(room "/ may not include guest/abi.h")
		} else if (first != room && !index(may[room], " " first " "))
			breach(room "/ may not include from " first "/: " header)
	} else if (angle && room == "guest") {
		if (!index(freestanding, " " header " "))
			breach("guest/ is freestanding: <" header ">")
	} else if (room == "ept" && header ~ /^(linux|asm)\/kvm/)
		breach("ept/ makes no KVM call: <" header ">")
}

FNR == 1 {
	in_comment = 0
	room = FILENAME
	sub(/\/.*/, "", room)
}

{
	was_comment = in_comment
	code = code_of($0)
}

!was_comment && /^[ \t]*#[ \t]*include[ \t]*["<]/ {
	header = $0
	angle = header ~ /include[ \t]*</
	sub(/^[^"<]*["<]/, "", header)
	sub(/[">].*/, "", header)
	check_include(header, angle)
	next
}

room == "ept" && code ~ /(^|[^A-Za-z0-9_])KVM_[A-Z]/ {
	breach("ept/ makes no KVM call: KVM_ constant")
}

# A member or a longer name that ends in exit is something else, and so are a
# forked child that fails to become another program, and such a program.
room != "guest" && FILENAME != "vmm/main.c" &&
FILENAME != "vmm/helper.c" && FILENAME !~ /^devices\/nbd\// &&
code ~ /(^|[^A-Za-z0-9_.>])(_?exit|_Exit|quick_exit|abort)[ \t]*\(/ {
	breach("only vmm/main.c ends the process")
}

END {
	exit breaches != 0
}
