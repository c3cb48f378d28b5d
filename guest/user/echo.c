/* echo [WORD ...] */
#include "guest/user/lib/user.h"

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		print("%s%s", argv[i], i + 1 < argc ? " " : "");
	print("\n");
	return 0;
}
