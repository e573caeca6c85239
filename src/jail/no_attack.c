#include "jail/jail_int.h"

/* The real thing attacks nobody. */
void jail_attack_arm(void)
{
}

void jail_attack(void)
{
}
