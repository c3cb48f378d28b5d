/* Runs for ever: what a time limit, a preemption or a kick is tried on. */
#include "guest/user/lib/user.h"

int main(int argc, char **argv)
{
	(void)argc, (void)argv;
	print("spin: spinning\n");
	for (;;)
		__asm__ volatile("pause");
}
