/* The attacker's attempts with no jail around them: all must get through, or their refusal in a jail would mean nothing. */
#include "jail/jail_int.h"

int main(void)
{
	jail_attack_arm();
	jail_attack();
	return 1;
}
