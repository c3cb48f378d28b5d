/* Reads address 0, and must not live to tell. */
#include "guest/user/lib/user.h"

int main(int argc, char **argv)
{
	volatile int *nowhere = NULL;

	(void)argc, (void)argv;
	__asm__("" : "+r"(nowhere)); /* or the compiler sees through it */
	print("segv: read %d from address 0\n", *nowhere);
	return 1;
}
