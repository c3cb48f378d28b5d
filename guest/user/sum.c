/* sum PATH ...: prints the SHA-256 of each file, read through a private mapping. */
#include "guest/user/lib/sha256.h"
#include "guest/user/lib/user.h"

int main(int argc, char **argv)
{
	int status = 0;

	for (int i = 1; i < argc; i++) {
		struct mapping map;
		char hex[SHA256_HEX];
		int err = map_file(argv[i], false, MAP_PRIVATE, &map);

		if (err) {
			print("sum: %s: error %d\n", argv[i], err);
			status = 1;
			continue;
		}
		sha256_hex(map.data, map.len, hex);
		print("%s  %s\n", hex, argv[i]);
		unmap(&map);
	}
	return status;
}
