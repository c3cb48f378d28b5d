# What gcov said of many runs and builds (its annotated sources, one behind the other)
# as one table: by file the lines there are and those that ran anywhere; then those of
# guest/mm that ran nowhere.

# "    count:  line:source", where count is - (no code), a number with marks, or ##### and the like.
{
	at = index($0, ":")
	count = substr($0, 1, at - 1)
	rest = substr($0, at + 1)
	at = index(rest, ":")
	line = substr(rest, 1, at - 1) + 0
	text = substr(rest, at + 1)
	gsub(/[ *]/, "", count)
}
line == 0 {
	if (text ~ /^Source:/)
		source = substr(text, 8)
	next
}
count == "-" || source !~ /^guest\// || source ~ /^guest\/user/ { next }
{
	key = source SUBSEP line
	if (!(key in ran)) {
		ran[key] = 0
		lines[source]++
		said[key] = text
		if (line > last[source])
			last[source] = line
	}
	if (count ~ /^[0-9]/ && count + 0 > 0 && !ran[key]) {
		ran[key] = 1
		reached[source]++
	}
}

END {
	for (source in lines)
		print source | "sort >" names
	close("sort >" names)
	while ((getline source < names) > 0) {
		room = source
		sub(/\/[^\/]*$/, "", room)
		row(source, reached[source], lines[source])
		all += lines[source]; all_reached += reached[source]
		if (room == "guest/mm") {
			mm += lines[source]; mm_reached += reached[source]
			for (line = 1; line <= last[source]; line++)
				if ((source, line) in ran && !ran[source, line])
					missed[++nr] = sprintf("%s:%d:%s", source, line, said[source, line])
		}
	}
	row("guest/mm", mm_reached, mm)
	row("all", all_reached, all)
	print ""
	for (i = 1; i <= nr; i++)
		print missed[i]
}

function row(name, some, all) {
	printf "%-34s %5d of %5d lines  %5.1f %%\n", name, some, all, all ? 100 * some / all : 0
}
