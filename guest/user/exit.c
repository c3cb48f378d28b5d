/* exit N: ends with status N. */
#include "guest/user/lib/user.h"

int main(int argc, char **argv)
{
	uint64_t status;

	if (argc != 2 || !parse_number(argv[1], 255, &status)) {
		print("usage: exit N\n");
		return 2;
	}
	return (int)status;
}
